package org.xwikistack.standin;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Pages, their history and their objects: rows in MySQL and nothing else. */
final class Pages {
    private final Database database;
    private final Attachments attachments;

    Pages(Database database, Attachments attachments) {
        this.database = database;
        this.attachments = attachments;
    }

    /** The page, or null. */
    Page find(String reference) throws SQLException {
        try (Connection connection = database.connect()) {
            return find(connection, reference);
        }
    }

    List<String> references() throws SQLException {
        return column("SELECT XWD_FULLNAME FROM xwikidoc ORDER BY XWD_FULLNAME");
    }

    List<String> spaces() throws SQLException {
        return column("SELECT DISTINCT XWD_WEB FROM xwikidoc ORDER BY XWD_WEB");
    }

    /** Writes a page as its author's next version; says whether it is new. */
    boolean save(Page page) throws SQLException {
        try (Connection connection = database.connect()) {
            connection.setAutoCommit(false);
            Page before = find(connection, page.reference());
            if (before != null) {
                page.creationDate = before.creationDate;
                page.version = next(before.version);
            }
            write(connection, page);
            connection.commit();
            return before == null;
        }
    }

    /** Writes a page of a XAR: history `replace` keeps the archive's version, `reset` starts anew, else adds. */
    void restore(Page page, String history) throws SQLException {
        try (Connection connection = database.connect()) {
            connection.setAutoCommit(false);
            Page before = find(connection, page.reference());
            if (history.equals("replace") || history.equals("reset")) {
                run(connection, "DELETE FROM xwikircs WHERE XWR_DOCID = ?", id(page.reference()));
                page.version = history.equals("reset") ? "1.1" : page.version;
            } else if (before != null) {
                page.version = next(before.version);
            }
            write(connection, page);
            dropObjects(connection, page.reference());
            for (Page.Element element : page.objects) {
                add(connection, page.reference(), element);
            }
            connection.commit();
        }
    }

    boolean delete(String reference) throws Exception {
        try (Connection connection = database.connect()) {
            connection.setAutoCommit(false);
            attachments.deleteAll(connection, reference);
            dropObjects(connection, reference);
            run(connection, "DELETE FROM xwikircs WHERE XWR_DOCID = ?", id(reference));
            boolean was = run(connection, "DELETE FROM xwikidoc WHERE XWD_ID = ?", id(reference)) > 0;
            connection.commit();
            return was;
        }
    }

    /** Adds an object to a page; gives its number, or -1 where there is no such page. */
    int add(String reference, Page.Element element) throws SQLException {
        try (Connection connection = database.connect()) {
            if (find(connection, reference) == null) {
                return -1;
            }
            connection.setAutoCommit(false);
            int number = add(connection, reference, element);
            connection.commit();
            return number;
        }
    }

    List<Page.Element> objects(String reference) throws SQLException {
        try (Connection connection = database.connect()) {
            return objects(connection, reference);
        }
    }

    /** A page's key: XWiki hashes the reference too; ours is the first half of its MD5. */
    static long id(String reference) {
        return Long.parseUnsignedLong(Attachments.md5(reference).substring(0, 16), 16);
    }

    private static Page find(Connection connection, String reference) throws SQLException {
        String query = "SELECT * FROM xwikidoc WHERE XWD_FULLNAME = ?";
        try (PreparedStatement asked = connection.prepareStatement(query)) {
            asked.setString(1, reference);
            try (ResultSet row = asked.executeQuery()) {
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
    }

    private static void write(Connection connection, Page page) throws SQLException {
        run(connection, "REPLACE INTO xwikidoc (XWD_ID, XWD_FULLNAME, XWD_WEB, XWD_NAME, XWD_TITLE, XWD_CONTENT,"
            + " XWD_AUTHOR, XWD_VERSION, XWD_DATE, XWD_CREATION_DATE) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id(page.reference()), page.reference(), page.space, page.name, page.title, page.content, page.author,
            page.version, page.date, page.creationDate);
        run(connection, "REPLACE INTO xwikircs VALUES (?, ?, ?, ?, ?)", id(page.reference()), page.version,
            page.author, page.date, page.content);
    }

    private static int add(Connection connection, String reference, Page.Element element) throws SQLException {
        int number = 0;
        for (Page.Element other : objects(connection, reference)) {
            number += other.className.equals(element.className) ? 1 : 0;
        }
        String insert = "INSERT INTO xwikiobjects (XWO_NAME, XWO_CLASSNAME, XWO_NUMBER) VALUES (?, ?, ?)";
        try (PreparedStatement made = connection.prepareStatement(insert, PreparedStatement.RETURN_GENERATED_KEYS)) {
            made.setString(1, reference);
            made.setString(2, element.className);
            made.setInt(3, number);
            made.executeUpdate();
            try (ResultSet key = made.getGeneratedKeys()) {
                key.next();
                for (Map.Entry<String, String> property : element.properties.entrySet()) {
                    run(connection, "INSERT INTO xwikiproperties VALUES (?, ?, ?)", key.getLong(1),
                        property.getKey(), property.getValue());
                }
            }
        }
        return number;
    }

    private static List<Page.Element> objects(Connection connection, String reference) throws SQLException {
        List<Page.Element> found = new ArrayList<>();
        String query = "SELECT o.XWO_ID, o.XWO_CLASSNAME, p.XWP_NAME, p.XWP_VALUE FROM xwikiobjects o"
            + " LEFT JOIN xwikiproperties p ON p.XWP_ID = o.XWO_ID WHERE o.XWO_NAME = ? ORDER BY o.XWO_ID";
        try (PreparedStatement asked = connection.prepareStatement(query)) {
            asked.setString(1, reference);
            try (ResultSet row = asked.executeQuery()) {
                long last = -1;
                while (row.next()) {
                    if (row.getLong(1) != last) {
                        last = row.getLong(1);
                        found.add(new Page.Element(row.getString(2)));
                    }
                    if (row.getString(3) != null) {
                        found.get(found.size() - 1).properties.put(row.getString(3), row.getString(4));
                    }
                }
            }
        }
        return found;
    }

    private static void dropObjects(Connection connection, String reference) throws SQLException {
        run(connection, "DELETE p FROM xwikiproperties p JOIN xwikiobjects o ON o.XWO_ID = p.XWP_ID"
            + " WHERE o.XWO_NAME = ?", reference);
        run(connection, "DELETE FROM xwikiobjects WHERE XWO_NAME = ?", reference);
    }

    private List<String> column(String query) throws SQLException {
        List<String> found = new ArrayList<>();
        try (Connection connection = database.connect();
            PreparedStatement asked = connection.prepareStatement(query);
            ResultSet row = asked.executeQuery()) {
            while (row.next()) {
                found.add(row.getString(1));
            }
        }
        return found;
    }

    static int run(Connection connection, String statement, Object... values) throws SQLException {
        try (PreparedStatement prepared = connection.prepareStatement(statement)) {
            for (int i = 0; i < values.length; i++) {
                prepared.setObject(i + 1, values[i]);
            }
            return prepared.executeUpdate();
        }
    }

    private static String next(String version) {
        int dot = version.lastIndexOf('.');
        return version.substring(0, dot + 1) + (Integer.parseInt(version.substring(dot + 1)) + 1);
    }
}
