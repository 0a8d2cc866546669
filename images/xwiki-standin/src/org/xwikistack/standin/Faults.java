package org.xwikistack.standin;

import java.util.concurrent.TimeUnit;

/** What goes wrong, or slowly, on request. All off by default; tests switch one on by its STANDIN_ variable. */
final class Faults {
    /** Seconds that Tomcat deploys: the port is open and every request is held. */
    static final int DEPLOY_DELAY = number("STANDIN_DEPLOY_DELAY", 0);
    /** Seconds that every initialising takes longer. */
    static final int INIT_DELAY = number("STANDIN_INIT_DELAY", 0);
    /** Seconds that initialising an empty database takes longer on top. */
    static final int FIRST_BOOT_DELAY = number("STANDIN_FIRST_BOOT_DELAY", 0);
    /** Tries, 3 s apart, to reach the database before initialising fails. */
    static final int DATABASE_TRIES = number("STANDIN_DATABASE_TRIES", 20);
    /** Without its database a page hangs so many seconds before it fails. */
    static final int DATABASE_HANG = number("STANDIN_DATABASE_HANG", 0);
    /** An export ends without a word after so many bytes; 0 for never. */
    static final int EXPORT_TRUNCATE = number("STANDIN_EXPORT_TRUNCATE", 0);
    /** An import leaves this page out and answers 200 all the same. */
    static final String IMPORT_FAIL_PAGE = text("STANDIN_IMPORT_FAIL_PAGE");

    private Faults() {
    }

    static void sleep(int seconds) throws InterruptedException {
        TimeUnit.SECONDS.sleep(seconds);
    }

    private static int number(String name, int usual) {
        String value = text(name);
        return value.isEmpty() ? usual : Integer.parseInt(value);
    }

    private static String text(String name) {
        String value = System.getenv(name);
        return value == null ? "" : value;
    }
}
