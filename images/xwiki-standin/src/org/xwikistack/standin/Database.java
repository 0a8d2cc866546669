package org.xwikistack.standin;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import javax.xml.parsers.DocumentBuilderFactory;
import org.apache.tomcat.jdbc.pool.DataSource;
import org.apache.tomcat.jdbc.pool.PoolProperties;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/**
 * The wiki's database: who asks where, and the pool of connections. Both stand in hibernate.cfg.xml, read as XML:
 * a password that breaks the XML breaks the start, as with the real image.
 */
final class Database {
    /** What is done in one transaction. */
    interface Work<T> {
        T on(Connection connection) throws Exception;
    }

    private static final String LINK_FAILURE = "08";

    private final DataSource pool;

    Database(Path hibernate) throws Exception {
        Map<String, String> found = read(hibernate);
        PoolProperties wanted = new PoolProperties();
        wanted.setUrl(found.get("connection.url"));
        wanted.setUsername(found.get("connection.username"));
        wanted.setPassword(found.get("connection.password"));
        wanted.setDriverClassName("com.mysql.cj.jdbc.Driver");
        // A server that vanished without a word must not hold a request for ever.
        wanted.setConnectionProperties("connectTimeout=10000;socketTimeout=60000");
        // XWiki's own pool: 50 at most, 5 idle, 30 s to wait for one.
        wanted.setMaxActive(50);
        wanted.setMaxIdle(5);
        wanted.setInitialSize(0);
        wanted.setMinIdle(0);
        wanted.setMaxWait(30_000);
        // A dead connection is dropped, so that a database that comes back is found without a restart.
        wanted.setTestOnBorrow(true);
        wanted.setValidationQuery("SELECT 1");
        wanted.setValidationInterval(0);
        wanted.setDefaultTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        wanted.setDefaultAutoCommit(false);
        wanted.setRollbackOnReturn(true);
        this.pool = new DataSource(wanted);
    }

    /** Commits what the work did, or nothing of it. */
    <T> T transact(Work<T> work) throws Exception {
        try (Connection connection = borrow()) {
            T result = work.on(connection);
            connection.commit();
            return result;
        }
    }

    /** A connection outside any transaction, for a schema that is being made. */
    Connection connect() throws SQLException {
        return pool.getConnection();
    }

    /** Makes the schema that the URL names, if the account may. */
    void create() throws SQLException {
        Properties account = new Properties();
        account.setProperty("user", pool.getUsername());
        account.setProperty("password", pool.getPoolProperties().getPassword());
        account.setProperty("createDatabaseIfNotExist", "true");
        DriverManager.getConnection(pool.getUrl(), account).close();
    }

    void close() {
        pool.close();
    }

    /** Whether the server cannot be reached, which may pass, and not that it refuses, which does not. */
    static boolean unreachable(SQLException failed) {
        return failed.getSQLState() != null && failed.getSQLState().startsWith(LINK_FAILURE);
    }

    /** Runs one statement; gives the number of rows it changed. */
    static int run(Connection connection, String statement, Object... values) throws SQLException {
        try (PreparedStatement prepared = prepare(connection, statement, values)) {
            return prepared.executeUpdate();
        }
    }

    /** The first column of a query's rows. */
    static List<String> column(Connection connection, String query, Object... values) throws SQLException {
        List<String> found = new ArrayList<>();
        try (PreparedStatement prepared = prepare(connection, query, values); ResultSet row = prepared.executeQuery()) {
            while (row.next()) {
                found.add(row.getString(1));
            }
        }
        return found;
    }

    static PreparedStatement prepare(Connection connection, String statement, Object... values) throws SQLException {
        PreparedStatement prepared = connection.prepareStatement(statement, PreparedStatement.RETURN_GENERATED_KEYS);
        for (int i = 0; i < values.length; i++) {
            prepared.setObject(i + 1, values[i]);
        }
        return prepared;
    }

    private Connection borrow() throws SQLException, InterruptedException {
        try {
            return pool.getConnection();
        } catch (SQLException gone) {
            Faults.sleep(Faults.DATABASE_HANG);
            throw gone;
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
