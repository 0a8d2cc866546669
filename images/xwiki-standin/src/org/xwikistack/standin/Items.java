package org.xwikistack.standin;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The objects of pages: users, groups, rights. A password is kept hashed. */
final class Items {
    private final Database database;

    Items(Database database) {
        this.database = database;
    }

    /** In the order they were added. */
    List<Page.Item> of(String reference) throws Exception {
        return database.transact(connection -> of(connection, reference));
    }

    List<Page.Item> of(String reference, String className) throws Exception {
        return of(reference).stream().filter(item -> item.className().equals(className)).toList();
    }

    /** Adds an object to a page; gives its number among those of its class. */
    int add(String reference, Page.Item item) throws Exception {
        return database.transact(connection -> add(connection, reference, item));
    }

    static int add(Connection connection, String reference, Page.Item item) throws SQLException {
        long number = of(connection, reference).stream()
            .filter(other -> other.className().equals(item.className())).count();
        String insert = "INSERT INTO xwikiobjects (XWO_NAME, XWO_CLASSNAME, XWO_NUMBER) VALUES (?, ?, ?)";
        try (PreparedStatement made = Database.prepare(connection, insert, reference, item.className(), number)) {
            made.executeUpdate();
            try (ResultSet key = made.getGeneratedKeys()) {
                key.next();
                for (Map.Entry<String, String> property : item.properties().entrySet()) {
                    Database.run(connection, "INSERT INTO xwikiproperties VALUES (?, ?, ?)", key.getLong(1),
                        property.getKey(), property.getValue());
                }
            }
        }
        return (int) number;
    }

    static void drop(Connection connection, String reference) throws SQLException {
        Database.run(connection, "DELETE p FROM xwikiproperties p JOIN xwikiobjects o ON o.XWO_ID = p.XWP_ID"
            + " WHERE o.XWO_NAME = ?", reference);
        Database.run(connection, "DELETE FROM xwikiobjects WHERE XWO_NAME = ?", reference);
    }

    private static List<Page.Item> of(Connection connection, String reference) throws SQLException {
        List<Page.Item> found = new ArrayList<>();
        String query = "SELECT o.XWO_ID, o.XWO_CLASSNAME, p.XWP_NAME, p.XWP_VALUE FROM xwikiobjects o"
            + " LEFT JOIN xwikiproperties p ON p.XWP_ID = o.XWO_ID WHERE o.XWO_NAME = ? ORDER BY o.XWO_ID";
        try (PreparedStatement asked = Database.prepare(connection, query, reference);
            ResultSet row = asked.executeQuery()) {
            long last = -1;
            while (row.next()) {
                if (row.getLong(1) != last) {
                    last = row.getLong(1);
                    found.add(new Page.Item(row.getString(2)));
                }
                if (row.getString(3) != null) {
                    found.get(found.size() - 1).properties().put(row.getString(3), row.getString(4));
                }
            }
        }
        return found;
    }
}
