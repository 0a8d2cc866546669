package org.xwikistack.standin;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.HexFormat;
import java.util.List;

/** Pages and their history: rows in MySQL and nothing else. */
final class Pages {
    private final Database database;

    Pages(Database database) {
        this.database = database;
    }

    /** The page without its objects and attachments, or null. */
    Page find(String reference) throws Exception {
        return database.transact(connection -> find(connection, reference));
    }

    List<String> references() throws Exception {
        return database.transact(
            connection -> Database.column(connection, "SELECT XWD_FULLNAME FROM xwikidoc ORDER BY XWD_FULLNAME"));
    }

    List<String> spaces() throws Exception {
        return database.transact(
            connection -> Database.column(connection, "SELECT DISTINCT XWD_WEB FROM xwikidoc ORDER BY XWD_WEB"));
    }

    /** Writes a page as its author's next version; says whether it is new. */
    boolean save(Page page) throws Exception {
        return database.transact(connection -> {
            Page before = find(connection, page.reference());
            if (before != null) {
                page.creationDate = before.creationDate;
                page.version = before.nextVersion();
            }
            write(connection, page);
            return before == null;
        });
    }

    /** Writes a page of a XAR: `replace` keeps the archive's version, `reset` starts anew, anything else adds. */
    void restore(Page page, String history) throws Exception {
        database.transact(connection -> {
            Page before = find(connection, page.reference());
            if (history.equals("replace") || history.equals("reset")) {
                Database.run(connection, "DELETE FROM xwikircs WHERE XWR_DOCID = ?", id(page.reference()));
                page.version = history.equals("reset") ? Page.FIRST_VERSION : page.version;
            } else if (before != null) {
                page.version = before.nextVersion();
            }
            write(connection, page);
            Items.drop(connection, page.reference());
            for (Page.Item item : page.objects) {
                Items.add(connection, page.reference(), item);
            }
            return null;
        });
    }

    /** Drops a page with its history and objects; says whether there was one. */
    boolean delete(String reference) throws Exception {
        return database.transact(connection -> {
            Items.drop(connection, reference);
            Database.run(connection, "DELETE FROM xwikircs WHERE XWR_DOCID = ?", id(reference));
            return Database.run(connection, "DELETE FROM xwikidoc WHERE XWD_ID = ?", id(reference)) > 0;
        });
    }

    /** A row's key: XWiki hashes references too; ours is the first half of the MD5. */
    static long id(String reference) {
        return Long.parseUnsignedLong(md5(reference).substring(0, 16), 16);
    }

    static String md5(String text) {
        try {
            byte[] hash = MessageDigest.getInstance("MD5").digest(text.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(hash);
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static Page find(Connection connection, String reference) throws SQLException {
        String query = "SELECT * FROM xwikidoc WHERE XWD_FULLNAME = ?";
        try (PreparedStatement asked = Database.prepare(connection, query, reference);
            ResultSet row = asked.executeQuery()) {
            if (!row.next()) {
                return null;
            }
            Page page = new Page(row.getString("XWD_WEB"), row.getString("XWD_NAME"), row.getString("XWD_TITLE"),
                row.getString("XWD_CONTENT"), row.getString("XWD_AUTHOR"));
            page.version = row.getString("XWD_VERSION");
            page.date = row.getLong("XWD_DATE");
            page.creationDate = row.getLong("XWD_CREATION_DATE");
            return page;
        }
    }

    private static void write(Connection connection, Page page) throws SQLException {
        long id = id(page.reference());
        Database.run(connection, "REPLACE INTO xwikidoc (XWD_ID, XWD_FULLNAME, XWD_WEB, XWD_NAME, XWD_TITLE,"
            + " XWD_CONTENT, XWD_AUTHOR, XWD_VERSION, XWD_DATE, XWD_CREATION_DATE)"
            + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", id, page.reference(), page.space, page.name, page.title,
            page.content, page.author, page.version, page.date, page.creationDate);
        Database.run(connection, "REPLACE INTO xwikircs VALUES (?, ?, ?, ?, ?)", id, page.version, page.author,
            page.date, page.content);
    }
}
