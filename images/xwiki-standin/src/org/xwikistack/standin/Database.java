package org.xwikistack.standin;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.HashMap;
import java.util.Map;
import javax.xml.parsers.DocumentBuilderFactory;
import org.apache.tomcat.jdbc.pool.DataSource;
import org.apache.tomcat.jdbc.pool.PoolProperties;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/**
 * The wiki's database. Where it is and who asks stands in hibernate.cfg.xml, read as XML: a password that
 * breaks the XML breaks the start, as with the real image.
 */
final class Database {
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
    /** Of the schema above; XWiki keeps a number of its migrations in the same table. */
    private static final int SCHEMA_VERSION = 171000000;

    private final DataSource pool;

    Database(Path hibernate) throws Exception {
        Map<String, String> found = read(hibernate);
        PoolProperties wanted = new PoolProperties();
        wanted.setUrl(found.get("connection.url"));
        wanted.setUsername(found.get("connection.username"));
        wanted.setPassword(found.get("connection.password"));
        wanted.setDriverClassName("com.mysql.cj.jdbc.Driver");
        // XWiki's own pool: 50 at most, 30 s to wait for one, and a dead connection is never handed out.
        wanted.setMaxActive(50);
        wanted.setMaxIdle(5);
        wanted.setInitialSize(0);
        wanted.setMinIdle(0);
        wanted.setMaxWait(30_000);
        wanted.setTestOnBorrow(true);
        wanted.setValidationQuery("SELECT 1");
        wanted.setValidationInterval(0);
        wanted.setDefaultTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        this.pool = new DataSource(wanted);
    }

    Connection connect() throws SQLException {
        try {
            return pool.getConnection();
        } catch (SQLException gone) {
            hang();
            throw gone;
        }
    }

    void close() {
        pool.close();
    }

    /** Makes or checks the schema; says whether the database was empty. */
    boolean prepare() throws SQLException {
        try (Connection connection = pool.getConnection(); Statement statement = connection.createStatement()) {
            // XWiki's schema updates read the row formats of tables, which needs the global PROCESS privilege.
            statement.executeQuery("SELECT COUNT(*) FROM information_schema.INNODB_TABLES").close();
            warnOfCharacters(statement);
            boolean empty = !exists(connection);
            for (String table : TABLES) {
                statement.execute("CREATE TABLE IF NOT EXISTS " + table + " ENGINE=InnoDB ROW_FORMAT=DYNAMIC");
            }
            statement.execute("INSERT IGNORE INTO xwikidbversion VALUES (" + SCHEMA_VERSION + ")");
            return empty;
        }
    }

    private static boolean exists(Connection connection) throws SQLException {
        String schema = connection.getCatalog();
        try (ResultSet tables = connection.getMetaData().getTables(schema, null, "xwikidoc", null)) {
            return tables.next();
        }
    }

    private static void warnOfCharacters(Statement statement) throws SQLException {
        String query = "SELECT @@character_set_database, @@collation_database";
        try (ResultSet row = statement.executeQuery(query)) {
            row.next();
            if (!row.getString(1).equals("utf8mb4") || !row.getString(2).equals("utf8mb4_bin")) {
                Log.warn("the database is " + row.getString(1) + "/" + row.getString(2)
                    + ", not utf8mb4/utf8mb4_bin: page names will not be case-sensitive");
            }
        }
    }

    private static void hang() {
        try {
            Thread.sleep(Faults.DATABASE_HANG * 1000L);
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }

    private static Map<String, String> read(Path hibernate) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        // The file names Hibernate's DTD, which is on the internet.
        factory.setFeature("http://apache.org/xml/features/nonvalidating/load-external-dtd", false);
        Element root = factory.newDocumentBuilder().parse(hibernate.toFile()).getDocumentElement();
        Map<String, String> found = new HashMap<>();
        NodeList nodes = root.getElementsByTagName("property");
        for (int i = 0; i < nodes.getLength(); i++) {
            Element node = (Element) nodes.item(i);
            found.put(node.getAttribute("name").replaceFirst("^hibernate\\.", ""), node.getTextContent().strip());
        }
        return found;
    }
}
