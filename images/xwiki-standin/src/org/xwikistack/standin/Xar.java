package org.xwikistack.standin;

import java.io.ByteArrayInputStream;
import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;
import java.util.zip.ZipOutputStream;
import org.w3c.dom.Element;

/** The portable archive of a wiki: a ZIP of package.xml and one XML file per page. */
final class Xar {
    private final Wiki wiki;

    Xar(Wiki wiki) {
        this.wiki = wiki;
    }

    /** Writes pages as they are read; nothing is held in memory but one page. */
    void export(List<String> references, String name, boolean backup, OutputStream out) throws Exception {
        ZipOutputStream zip = new ZipOutputStream(Faults.EXPORT_TRUNCATE > 0 ? new Truncated(out) : out);
        StringBuilder files = new StringBuilder();
        for (String reference : references) {
            Page page = wiki.pages().find(reference);
            if (page == null) {
                continue;
            }
            page.objects.addAll(wiki.items().of(reference));
            zip.putNextEntry(new ZipEntry(page.space.replace('.', '/') + "/" + page.name + ".xml"));
            zip.write(document(page).getBytes(StandardCharsets.UTF_8));
            zip.closeEntry();
            files.append("<file defaultAction=\"0\" language=\"\">").append(Xml.escape(reference)).append("</file>");
        }
        zip.putNextEntry(new ZipEntry("package.xml"));
        String infos = Xml.element("name", name) + Xml.element("backupPack", backup)
            + Xml.element("preserveVersion", backup);
        zip.write(("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<package><infos>" + infos + "</infos><files>" + files
            + "</files></package>\n").getBytes(StandardCharsets.UTF_8));
        zip.closeEntry();
        zip.finish();
    }

    /** Reads an archive to its end; a page that cannot be saved is logged and left out, as XWiki does. */
    void load(InputStream in, String history, boolean backup, String user) throws Exception {
        ZipInputStream zip = new ZipInputStream(in);
        int read = 0;
        for (ZipEntry entry = zip.getNextEntry(); entry != null; entry = zip.getNextEntry()) {
            read++;
            if (entry.getName().equals("package.xml") || entry.getName().startsWith("META-INF/")) {
                continue;
            }
            Element root = Xml.parse(new ByteArrayInputStream(zip.readAllBytes()));
            if (!root.getAttribute("locale").isEmpty()) {
                Log.warn("translation " + entry.getName() + " is left out: the stand-in keeps none");
                continue;
            }
            Page page = page(root, backup ? null : user);
            if (page.reference().equals(Faults.IMPORT_FAIL_PAGE)) {
                Log.warn("page " + page.reference() + " could not be saved");
                continue;
            }
            wiki.pages().restore(page, history);
            for (Map.Entry<String, byte[]> file : page.files.entrySet()) {
                wiki.attachments().save(page.reference(), file.getKey(), "application/octet-stream", page.author,
                    new ByteArrayInputStream(file.getValue()));
            }
        }
        if (read == 0) {
            throw new IOException("the body is not a XAR");
        }
    }

    private String document(Page page) throws Exception {
        StringBuilder text = new StringBuilder("<?xml version=\"1.1\" encoding=\"UTF-8\"?>\n");
        text.append("<xwikidoc version=\"1.5\" reference=\"").append(Xml.escape(page.reference()))
            .append("\" locale=\"\">").append(Xml.element("web", page.space)).append(Xml.element("name", page.name))
            .append("<language/><defaultLanguage/><translation>0</translation>")
            .append(Xml.element("creator", page.author)).append(Xml.element("author", page.author))
            .append(Xml.element("creationDate", page.creationDate)).append(Xml.element("date", page.date))
            .append(Xml.element("contentUpdateDate", page.date)).append(Xml.element("version", page.version))
            .append(Xml.element("title", page.title)).append("<syntaxId>xwiki/2.1</syntaxId><hidden>false</hidden>")
            .append(Xml.element("content", page.content));
        for (Map.Entry<String, Long> file : wiki.attachments().of(page.reference()).entrySet()) {
            Path bytes = wiki.attachments().find(page.reference(), file.getKey());
            text.append("<attachment>").append(Xml.element("filename", file.getKey()))
                .append(Xml.element("filesize", file.getValue()))
                .append(Xml.element("content", Base64.getEncoder().encodeToString(Files.readAllBytes(bytes))))
                .append("</attachment>");
        }
        int number = 0;
        for (Page.Item object : page.objects) {
            text.append("<object>").append(Xml.element("name", page.reference()))
                .append(Xml.element("number", number++)).append(Xml.element("className", object.className()));
            for (Map.Entry<String, String> property : object.properties().entrySet()) {
                text.append("<property>").append("<").append(property.getKey()).append(">")
                    .append(Xml.escape(property.getValue())).append("</").append(property.getKey())
                    .append("></property>");
            }
            text.append("</object>");
        }
        return text.append("</xwikidoc>\n").toString();
    }

    private static Page page(Element root, String author) {
        String reference = root.getAttribute("reference");
        String space = Xml.child(root, "web");
        String name = Xml.child(root, "name");
        int dot = reference.lastIndexOf('.');
        if (dot > 0) {
            // The attribute decides, not the older elements.
            space = reference.substring(0, dot);
            name = reference.substring(dot + 1);
        }
        Page page = new Page(space, name, Xml.child(root, "title"), Xml.child(root, "content"),
            author == null ? Xml.child(root, "author") : author);
        page.version = Xml.child(root, "version").isEmpty() ? "1.1" : Xml.child(root, "version");
        page.creationDate = number(Xml.child(root, "creationDate"), page.creationDate);
        for (Element file : Xml.children(root, "attachment")) {
            page.files.put(Xml.child(file, "filename"), Base64.getMimeDecoder().decode(Xml.child(file, "content")));
        }
        for (Element object : Xml.children(root, "object")) {
            Page.Item item = new Page.Item(Xml.child(object, "className"));
            for (Element property : Xml.children(object, "property")) {
                for (var node = property.getFirstChild(); node != null; node = node.getNextSibling()) {
                    if (node instanceof Element value) {
                        item.properties().put(value.getTagName(), value.getTextContent());
                    }
                }
            }
            page.objects.add(item);
        }
        return page;
    }

    private static long number(String text, long fallback) {
        return text.isEmpty() ? fallback : Long.parseLong(text);
    }

    /** Ends in the middle, as a server that fails while it streams. */
    private static final class Truncated extends FilterOutputStream {
        private long left = Faults.EXPORT_TRUNCATE;

        Truncated(OutputStream out) {
            super(out);
        }

        @Override
        public void write(byte[] bytes, int from, int count) throws IOException {
            int kept = (int) Math.min(left, count);
            out.write(bytes, from, kept);
            left -= kept;
        }

        @Override
        public void write(int one) throws IOException {
            write(new byte[] {(byte) one}, 0, 1);
        }
    }
}
