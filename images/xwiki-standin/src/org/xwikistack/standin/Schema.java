package org.xwikistack.standin;

import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** The tables, under XWiki's own names, and what it takes to make them. */
final class Schema {
    private static final String[] TABLES = {
        "xwikidbversion (XWV_VERSION INT NOT NULL PRIMARY KEY)",
        "xwikidoc (XWD_ID BIGINT NOT NULL PRIMARY KEY, XWD_FULLNAME VARCHAR(700) NOT NULL UNIQUE,"
            + " XWD_WEB VARCHAR(700) NOT NULL, XWD_NAME VARCHAR(700) NOT NULL, XWD_TITLE VARCHAR(255) NOT NULL,"
            + " XWD_CONTENT LONGTEXT NOT NULL, XWD_AUTHOR VARCHAR(255) NOT NULL, XWD_VERSION VARCHAR(32) NOT NULL,"
            + " XWD_DATE BIGINT NOT NULL, XWD_CREATION_DATE BIGINT NOT NULL)",
        "xwikircs (XWR_DOCID BIGINT NOT NULL, XWR_VERSION VARCHAR(32) NOT NULL, XWR_AUTHOR VARCHAR(255) NOT NULL,"
            + " XWR_DATE BIGINT NOT NULL, XWR_PATCH LONGTEXT NOT NULL, PRIMARY KEY (XWR_DOCID, XWR_VERSION))",
        "xwikiattachment (XWA_ID BIGINT NOT NULL PRIMARY KEY, XWA_DOC_ID BIGINT NOT NULL,"
            + " XWA_FILENAME VARCHAR(255) NOT NULL, XWA_SIZE BIGINT NOT NULL, XWA_MIMETYPE VARCHAR(255) NOT NULL,"
            + " XWA_AUTHOR VARCHAR(255) NOT NULL, XWA_VERSION VARCHAR(32) NOT NULL, XWA_DATE BIGINT NOT NULL)",
        "xwikiattrecyclebin (XDA_ID BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, XDA_DOC_NAME VARCHAR(700) NOT NULL,"
            + " XDA_FILENAME VARCHAR(255) NOT NULL, XDA_DATE BIGINT NOT NULL, XDA_DELETER VARCHAR(255) NOT NULL)",
        "xwikiobjects (XWO_ID BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, XWO_NAME VARCHAR(700) NOT NULL,"
            + " XWO_CLASSNAME VARCHAR(255) NOT NULL, XWO_NUMBER INT NOT NULL)",
        "xwikiproperties (XWP_ID BIGINT NOT NULL, XWP_NAME VARCHAR(255) NOT NULL, XWP_VALUE LONGTEXT NOT NULL,"
            + " PRIMARY KEY (XWP_ID, XWP_NAME))",
    };
    /** Of the tables above; XWiki keeps the number of its last migration in the same place. */
    private static final int VERSION = 171000000;
    private static final int UNKNOWN_DATABASE = 1049;
    private static final int SECONDS_BETWEEN_TRIES = 3;

    private Schema() {
    }

    /**
     * Makes the tables that are absent; says whether all were. A server that cannot be reached is tried again for a
     * while: it may come up later than the wiki.
     */
    static boolean ensure(Database database) throws Exception {
        for (int left = Faults.DATABASE_TRIES;; left--) {
            try {
                return make(database);
            } catch (SQLException refused) {
                if (refused.getErrorCode() == UNKNOWN_DATABASE) {
                    Log.info("the database does not exist and is made");
                    database.create();
                } else if (!Database.unreachable(refused) || left <= 1) {
                    throw refused;
                } else {
                    Log.warn("the database does not answer yet");
                    Faults.sleep(SECONDS_BETWEEN_TRIES);
                }
            }
        }
    }

    private static boolean make(Database database) throws SQLException {
        try (Connection connection = database.connect(); Statement statement = connection.createStatement()) {
            // XWiki's schema updates read the row formats of tables, which takes the global PROCESS privilege.
            statement.executeQuery("SELECT COUNT(*) FROM information_schema.INNODB_TABLES").close();
            warnOfCharacters(statement);
            boolean empty = !exists(connection);
            for (String table : TABLES) {
                statement.execute("CREATE TABLE IF NOT EXISTS " + table + " ENGINE=InnoDB ROW_FORMAT=DYNAMIC");
            }
            statement.execute("INSERT IGNORE INTO xwikidbversion VALUES (" + VERSION + ")");
            connection.commit();
            return empty;
        }
    }

    private static boolean exists(Connection connection) throws SQLException {
        try (ResultSet tables = connection.getMetaData().getTables(connection.getCatalog(), null, "xwikidoc", null)) {
            return tables.next();
        }
    }

    private static void warnOfCharacters(Statement statement) throws SQLException {
        try (ResultSet row = statement.executeQuery("SELECT @@character_set_database, @@collation_database")) {
            row.next();
            if (!row.getString(1).equals("utf8mb4") || !row.getString(2).equals("utf8mb4_bin")) {
                Log.warn("the database is " + row.getString(1) + "/" + row.getString(2)
                    + ", not utf8mb4/utf8mb4_bin: page names will not be case-sensitive");
            }
        }
    }
}
