package org.xwikistack.standin;

import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;

/**
 * The running wiki: its phase, its settings, its stores. Initialising happens beside Tomcat, as in XWiki: the
 * port is open long before the wiki is.
 */
final class Wiki {
    static final String VERSION = "17.10.13-standin";

    enum Phase { INITIALISING, READY, FAILED }

    private static final Wiki INSTANCE = new Wiki();

    private final CountDownLatch over = new CountDownLatch(1);
    private final FormTokens formTokens = new FormTokens();
    private volatile Phase phase = Phase.INITIALISING;
    private Settings settings;
    private Database database;
    private Pages pages;
    private Items items;
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

    Settings settings() {
        return settings;
    }

    Pages pages() {
        return pages;
    }

    Items items() {
        return items;
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

    FormTokens formTokens() {
        return formTokens;
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
        Path data = Path.of(System.getProperty("xwiki.data.dir",
            settings.property("environment.permanentDirectory", "/usr/local/xwiki/data")));
        Log.to(data.resolve("logs/xwiki.log"));
        Log.info("maximum heap " + maximumHeap());
        // Written at the start, so that a read-only place fails here and not in the middle of a request.
        prove(Path.of(System.getProperty("java.io.tmpdir")));
        prove(Path.of(System.getProperty("catalina.base"), "work"));
        rememberKeys(data.resolve("configuration.properties"));
        Faults.sleep(Faults.INIT_DELAY);
        database = new Database(webInf.resolve("hibernate.cfg.xml"));
        boolean empty = Schema.ensure(database);
        pages = new Pages(database);
        items = new Items(database);
        attachments = new Attachments(database, data.resolve("store/file"));
        extensions = new Extensions(data.resolve("extension/repository"), settings, pages);
        identity = new Identity(settings, items);
        if (empty) {
            Faults.sleep(Faults.FIRST_BOOT_DELAY);
            pages.save(new Page("XWiki", "XWikiPreferences", "Preferences", "", Identity.SUPERADMIN));
        }
        extensions.startUnattended();
    }

    /** As it stands on the command line: the last -Xmx wins there. */
    private static String maximumHeap() {
        return ManagementFactory.getRuntimeMXBean().getInputArguments().stream()
            .filter(argument -> argument.startsWith("-Xmx")).reduce("as Java chooses", (first, last) -> last);
    }

    private static void prove(Path folder) throws Exception {
        Files.delete(Files.createTempFile(folder, "proof", ""));
    }

    /** The cookie keys that no setting gives: made once and kept. */
    private void rememberKeys(Path file) throws Exception {
        if (Files.exists(file)) {
            return;
        }
        Properties keys = new Properties();
        for (String key : new String[] {"validationKey", "encryptionKey"}) {
            String name = "xwiki.authentication." + key;
            if (settings.cfg(name, "").isEmpty()) {
                byte[] random = new byte[16];
                new SecureRandom().nextBytes(random);
                keys.setProperty(name, HexFormat.of().formatHex(random));
            }
        }
        try (var writer = Files.newBufferedWriter(file)) {
            keys.store(writer, "made at the first start");
        }
    }
}
