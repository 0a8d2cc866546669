package org.xwikistack.standin;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One page: where it is, what it says, its objects and, while it travels in a XAR, its attachments. */
final class Page {
    final String space;
    final String name;
    final String title;
    final String content;
    final String author;
    String version = "1.1";
    long date = System.currentTimeMillis();
    long creationDate = date;
    final List<Element> objects = new ArrayList<>();
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

    /** An object of a class with its properties. */
    static final class Element {
        final String className;
        final Map<String, String> properties = new LinkedHashMap<>();

        Element(String className) {
            this.className = className;
        }
    }
}
