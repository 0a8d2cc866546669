package org.xwikistack.standin;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/**
 * XWiki's two configuration sources, each key looked up as the environment variable
 * XCONF_source_key, then as the system property xconf.source.key, then in the file.
 */
final class Settings {
    private final Properties cfg;
    private final Properties properties;

    Settings(Path webInf) throws IOException {
        this.cfg = load(webInf.resolve("xwiki.cfg"));
        this.properties = load(webInf.resolve("xwiki.properties"));
    }

    /** A key of xwiki.cfg, or the fallback where it is unset or empty. */
    String cfg(String key, String fallback) {
        return find("xwikicfg", key, cfg, fallback);
    }

    /** A key of xwiki.properties; an empty value counts, since it switches things off. */
    String property(String key, String fallback) {
        return find("xwikiproperties", key, properties, fallback);
    }

    boolean is(String key, boolean fallback) {
        return Boolean.parseBoolean(property(key, String.valueOf(fallback)));
    }

    /** `.`, `:` and `-` become `_`; case and `_` stay; everything else becomes `_` and its code in hex, as in URLs. */
    static String encode(String key) {
        StringBuilder name = new StringBuilder();
        for (char letter : key.toCharArray()) {
            if (letter == '.' || letter == ':' || letter == '-') {
                name.append('_');
            } else if (letter == '_' || letter < 128 && Character.isLetterOrDigit(letter)) {
                name.append(letter);
            } else {
                name.append('_').append(String.format("%02X", (int) letter));
            }
        }
        return name.toString();
    }

    private static String find(String source, String key, Properties file, String fallback) {
        String value = System.getenv("XCONF_" + source + "_" + encode(key));
        if (value == null) {
            value = System.getProperty("xconf." + source + "." + key);
        }
        if (value == null) {
            value = file.getProperty(key);
        }
        return value == null ? fallback : value.strip();
    }

    private static Properties load(Path file) throws IOException {
        Properties loaded = new Properties();
        if (Files.exists(file)) {
            try (Reader reader = Files.newBufferedReader(file)) {
                loaded.load(reader);
            }
        }
        return loaded;
    }
}
