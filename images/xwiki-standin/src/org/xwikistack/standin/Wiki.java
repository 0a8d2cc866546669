package org.xwikistack.standin;

import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * The running wiki: its phase, its settings, its stores. Initialising happens beside Tomcat, as in XWiki: the
 * port is open long before the wiki is.
 */
final class Wiki {
    static final String VERSION = "17.10.13-standin";

    enum Phase { INITIALISING, READY, FAILED }

    private static final Wiki INSTANCE = new Wiki();

    private final CountDownLatch over = new CountDownLatch(1);
    private final String formToken = token();
    private volatile Phase phase = Phase.INITIALISING;
    private Settings settings;
    private Database database;
    private Pages pages;
    private Attachments attachments;
    private Extensions extensions;
    private Identity identity;

    private Wiki() {
    }

    static Wiki get() {
        return INSTANCE;
    }

    Phase phase() {
        return phase;
    }

    /** Waits until initialising is over, however it ends. */
    Phase await() throws InterruptedException {
        over.await();
        return phase;
    }

    boolean awaits(long seconds) throws InterruptedException {
        return over.await(seconds, TimeUnit.SECONDS);
    }

    Settings settings() {
        return settings;
    }

    Pages pages() {
        return pages;
    }

    Attachments attachments() {
        return attachments;
    }

    Extensions extensions() {
        return extensions;
    }

    Identity identity() {
        return identity;
    }

    String formToken() {
        return formToken;
    }

    /** Whether visitors would meet the distribution wizard. */
    boolean wizardPending() {
        return settings.is("distribution.automaticStartOnMainWiki", true) && !extensions.hasFlavor();
    }

    void start(Path webInf) {
        Thread starter = new Thread(() -> {
            try {
                initialise(webInf);
                phase = Phase.READY;
                Log.info("ready: this is a stand-in for XWiki, version " + VERSION);
            } catch (Throwable failed) {
                phase = Phase.FAILED;
                Log.error("initialising failed", failed);
            } finally {
                over.countDown();
            }
            if (phase == Phase.READY) {
                extensions.startUnattended();
            }
        }, "initialise");
        starter.setDaemon(true);
        starter.start();
    }

    void stop() {
        if (database != null) {
            database.close();
        }
    }

    private void initialise(Path webInf) throws Exception {
        settings = new Settings(webInf);
        String home = System.getProperty("xwiki.data.dir",
            settings.property("environment.permanentDirectory", "/usr/local/xwiki/data"));
        Path data = Path.of(home);
        Log.to(data.resolve("logs/xwiki.log"));
        Log.info("maximum heap " + Runtime.getRuntime().maxMemory() / (1 << 20) + " MiB");
        // Written once at a start, so that a read-only place fails here and not in the middle of a request.
        Files.delete(Files.createTempFile(Path.of(System.getProperty("java.io.tmpdir")), "probe", ""));
        Files.delete(Files.createTempFile(Path.of(System.getProperty("catalina.base"), "work"), "probe", ""));
        rememberKeys(data.resolve("configuration.properties"));
        sleep(Faults.INIT_DELAY);
        database = new Database(webInf.resolve("hibernate.cfg.xml"));
        boolean empty = prepared(database);
        attachments = new Attachments(database, data.resolve("store/file"));
        pages = new Pages(database, attachments);
        extensions = new Extensions(data.resolve("extension/repository"), settings);
        identity = new Identity(settings, pages);
        if (empty) {
            sleep(Faults.FIRST_BOOT_DELAY);
            pages.save(new Page("XWiki", "XWikiPreferences", "Preferences", "", "superadmin"));
        }
    }

    /** Tries for a minute: a database may come up a little later than the wiki. */
    private static boolean prepared(Database database) throws Exception {
        for (int left = 20;; left--) {
            try {
                return database.prepare();
            } catch (java.sql.SQLException refused) {
                boolean unreachable = refused.getSQLState() != null && refused.getSQLState().startsWith("08");
                if (!unreachable || left == 0) {
                    throw refused;
                }
                Log.warn("the database does not answer yet");
                sleep(3);
            }
        }
    }

    /** The cookie keys: from the settings, or made once and kept. */
    private void rememberKeys(Path file) throws Exception {
        if (Files.exists(file)) {
            return;
        }
        Properties keys = new Properties();
        for (String key : new String[] {"validationKey", "encryptionKey"}) {
            String name = "xwiki.authentication." + key;
            if (settings.cfg(name, "").isEmpty()) {
                keys.setProperty(name, token());
            }
        }
        Files.createDirectories(file.getParent());
        try (var writer = Files.newBufferedWriter(file)) {
            keys.store(writer, "made at the first start");
        }
    }

    private static void sleep(int seconds) throws InterruptedException {
        TimeUnit.SECONDS.sleep(seconds);
    }

    private static String token() {
        byte[] bytes = new byte[16];
        new SecureRandom().nextBytes(bytes);
        return HexFormat.of().formatHex(bytes);
    }
}
