package org.xwikistack.standin;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Attachments: a row in MySQL, the bytes only on disk below store/file, in folders named by MD5. A restored
 * database without its files, or files without their rows, is therefore noticed.
 */
final class Attachments {
    private final Database database;
    private final Path store;

    Attachments(Database database, Path store) throws IOException {
        this.database = database;
        this.store = Files.createDirectories(store);
    }

    /** Stores the bytes, then the row, so that every row has its file; says whether the attachment is new. */
    boolean save(String reference, String name, String type, String author, InputStream content) throws Exception {
        Path target = path(reference, name);
        Files.createDirectories(target.getParent());
        Path fresh = Files.createTempFile(target.getParent(), "upload", "");
        try {
            Files.copy(content, fresh, StandardCopyOption.REPLACE_EXISTING);
            Files.move(fresh, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(fresh);
        }
        // REPLACE counts one row for a new attachment, two for one it took the place of.
        return database.transact(connection -> Database.run(connection,
            "REPLACE INTO xwikiattachment VALUES (?, ?, ?, ?, ?, ?, ?, ?)", id(reference, name), Pages.id(reference),
            name, Files.size(target), type, author, Page.FIRST_VERSION, System.currentTimeMillis()) == 1);
    }

    /** File name to size in bytes, as MySQL has it. */
    Map<String, Long> of(String reference) throws Exception {
        return database.transact(connection -> of(connection, reference));
    }

    /** The file of an attachment that MySQL knows; it may be missing on disk. Null where there is no row. */
    Path find(String reference, String name) throws Exception {
        return of(reference).containsKey(name) ? path(reference, name) : null;
    }

    /** Moves an attachment to the recycle bin, row and bytes; says whether there was one. */
    boolean delete(String reference, String name, String deleter) throws Exception {
        return database.transact(connection -> {
            if (Database.run(connection, "DELETE FROM xwikiattachment WHERE XWA_ID = ?", id(reference, name)) == 0) {
                return false;
            }
            long now = System.currentTimeMillis();
            Database.run(connection, "INSERT INTO xwikiattrecyclebin (XDA_DOC_NAME, XDA_FILENAME, XDA_DATE,"
                + " XDA_DELETER) VALUES (?, ?, ?, ?)", reference, name, now, deleter);
            Files.move(path(reference, name), path(reference, name).resolveSibling("deleted-" + now));
            return true;
        });
    }

    private static long id(String reference, String name) {
        return Pages.id(reference + "/" + name);
    }

    private static Map<String, Long> of(Connection connection, String reference) throws SQLException {
        Map<String, Long> found = new LinkedHashMap<>();
        String query = "SELECT XWA_FILENAME, XWA_SIZE FROM xwikiattachment WHERE XWA_DOC_ID = ? ORDER BY XWA_FILENAME";
        try (PreparedStatement asked = Database.prepare(connection, query, Pages.id(reference));
            ResultSet row = asked.executeQuery()) {
            while (row.next()) {
                found.put(row.getString(1), row.getLong(2));
            }
        }
        return found;
    }

    /** store/file/xwiki/ab/cd/(rest)/attachments/ef/gh/(rest)/f.ext */
    private Path path(String reference, String name) {
        int dot = name.lastIndexOf('.');
        String file = dot < 0 ? "f" : "f" + name.substring(dot).replaceAll("[^A-Za-z0-9.]", "");
        return hashed(hashed(store.resolve("xwiki"), reference).resolve("attachments"), name).resolve(file);
    }

    private static Path hashed(Path below, String text) {
        String hash = Pages.md5(text);
        return below.resolve(hash.substring(0, 2)).resolve(hash.substring(2, 4)).resolve(hash.substring(4));
    }
}
