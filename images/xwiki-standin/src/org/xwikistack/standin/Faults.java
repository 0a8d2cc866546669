package org.xwikistack.standin;

/**
 * What goes wrong on request. All off by default; tests switch one on by its STANDIN_ variable.
 */
final class Faults {
    /** Seconds that every start takes longer. */
    static final int INIT_DELAY = number("STANDIN_INIT_DELAY");
    /** Seconds that a start on an empty database takes longer on top. */
    static final int FIRST_BOOT_DELAY = number("STANDIN_FIRST_BOOT_DELAY");
    /** An export ends without a word after so many bytes. */
    static final int EXPORT_TRUNCATE = number("STANDIN_EXPORT_TRUNCATE");
    /** An import leaves this page out and answers 200 all the same. */
    static final String IMPORT_FAIL_PAGE = text("STANDIN_IMPORT_FAIL_PAGE");
    /** Without its database a page hangs so many seconds before it fails. */
    static final int DATABASE_HANG = number("STANDIN_DATABASE_HANG");

    private Faults() {
    }

    private static int number(String name) {
        String value = text(name);
        return value.isEmpty() ? 0 : Integer.parseInt(value);
    }

    private static String text(String name) {
        String value = System.getenv(name);
        return value == null ? "" : value;
    }
}
