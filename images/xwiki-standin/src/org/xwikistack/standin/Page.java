package org.xwikistack.standin;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One page: where it is, what it says, and, while it travels in a XAR, its objects and attachments. */
final class Page {
    /** An object of a class with its properties. */
    record Item(String className, Map<String, String> properties) {
        Item(String className) {
            this(className, new LinkedHashMap<>());
        }

        String get(String property) {
            return properties.getOrDefault(property, "");
        }
    }

    static final String FIRST_VERSION = "1.1";

    final String space;
    final String name;
    final String title;
    final String content;
    final String author;
    String version = FIRST_VERSION;
    long date = System.currentTimeMillis();
    long creationDate = date;
    final List<Item> objects = new ArrayList<>();
    final Map<String, byte[]> files = new LinkedHashMap<>();

    Page(String space, String name, String title, String content, String author) {
        this.space = space;
        this.name = name;
        this.title = title;
        this.content = content;
        this.author = author;
    }

    /** Space.Sub.Name, as XWiki writes references. */
    String reference() {
        return space + "." + name;
    }

    /** The version after this one: 1.1, 1.2, ... */
    String nextVersion() {
        int dot = version.lastIndexOf('.');
        return version.substring(0, dot + 1) + (Integer.parseInt(version.substring(dot + 1)) + 1);
    }
}
