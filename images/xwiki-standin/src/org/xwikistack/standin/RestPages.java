package org.xwikistack.standin;

import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.w3c.dom.Element;

/** /rest/wikis/xwiki/spaces/A(/spaces/B)/pages/P: a page, its attachments, its objects. Guests only read. */
final class RestPages {
    private static final String BYTES = "application/octet-stream";

    private RestPages() {
    }

    static void answer(RestCall call) throws Exception {
        List<String> path = call.path();
        StringBuilder space = new StringBuilder();
        int at = 3;
        for (; at + 1 < path.size() && path.get(at).equals("spaces"); at += 2) {
            space.append(space.isEmpty() ? "" : ".").append(path.get(at + 1));
        }
        if (space.isEmpty() || at + 1 >= path.size() || !path.get(at).equals("pages")) {
            call.error(404);
            return;
        }
        String name = path.get(at + 1);
        String reference = space + "." + name;
        List<String> below = path.subList(at + 2, path.size());
        if (!call.is("GET") && call.byGuest()) {
            call.refuse();
        } else if (below.isEmpty()) {
            page(call, space.toString(), name);
        } else if (call.wiki().pages().find(reference) == null) {
            call.error(404);
        } else if (below.get(0).equals("attachments") && below.size() < 3) {
            attachments(call, reference, below);
        } else if (below.get(0).equals("objects") && below.size() < 3) {
            objects(call, reference, below);
        } else {
            call.error(404);
        }
    }

    private static void page(RestCall call, String space, String name) throws Exception {
        Pages pages = call.wiki().pages();
        String reference = space + "." + name;
        if (call.is("PUT")) {
            Element sent = call.body();
            Page page = new Page(space, name, Xml.child(sent, "title"), Xml.child(sent, "content"), call.user());
            boolean fresh = pages.save(page);
            call.xml(fresh ? 201 : 202, "page", described(page));
        } else if (call.is("DELETE")) {
            for (String file : call.wiki().attachments().of(reference).keySet()) {
                call.wiki().attachments().delete(reference, file, call.user());
            }
            call.response().setStatus(pages.delete(reference) ? 204 : 404);
        } else {
            Page page = pages.find(reference);
            if (page == null) {
                call.error(404);
            } else {
                call.xml(200, "page", described(page));
            }
        }
    }

    private static String described(Page page) {
        return Xml.element("id", "xwiki:" + page.reference()) + Xml.element("fullName", page.reference())
            + Xml.element("wiki", "xwiki") + Xml.element("space", page.space) + Xml.element("name", page.name)
            + Xml.element("title", page.title) + Xml.element("syntax", "xwiki/2.1")
            + Xml.element("version", page.version) + Xml.element("author", page.author)
            + Xml.element("content", page.content);
    }

    private static void attachments(RestCall call, String reference, List<String> below) throws Exception {
        Attachments store = call.wiki().attachments();
        if (below.size() == 1) {
            StringBuilder list = new StringBuilder();
            for (Map.Entry<String, Long> file : store.of(reference).entrySet()) {
                list.append("<attachment>").append(Xml.element("name", file.getKey()))
                    .append(Xml.element("size", file.getValue())).append("</attachment>");
            }
            call.xml(200, "attachments", list.toString());
            return;
        }
        String name = below.get(1);
        if (call.is("PUT")) {
            String type = call.request().getContentType();
            try (InputStream body = call.request().getInputStream()) {
                boolean fresh = store.save(reference, name, type == null ? BYTES : type, call.user(), body);
                call.xml(fresh ? 201 : 202, "attachment", Xml.element("name", name));
            }
        } else if (call.is("DELETE")) {
            call.response().setStatus(store.delete(reference, name, call.user()) ? 204 : 404);
        } else {
            send(call.response(), store.find(reference, name));
        }
    }

    /** The bytes; null is 404. A row whose file is gone is an error, not an empty file. */
    static void send(HttpServletResponse response, Path file) throws IOException {
        if (file == null) {
            response.sendError(404);
            return;
        }
        if (!Files.exists(file)) {
            throw new NoSuchFileException("the attachment's content is missing on disk");
        }
        response.setContentType(BYTES);
        response.setContentLengthLong(Files.size(file));
        Files.copy(file, response.getOutputStream());
    }

    private static void objects(RestCall call, String reference, List<String> below) throws Exception {
        if (call.is("POST")) {
            Element sent = call.body();
            Page.Item item = new Page.Item(Xml.child(sent, "className"));
            for (Element property : Xml.children(sent, "property")) {
                String name = property.getAttribute("name");
                String value = Xml.child(property, "value");
                item.properties().put(name, name.equals("password") ? Identity.hash(value) : value);
            }
            int number = call.wiki().items().add(reference, item);
            call.xml(201, "object", described(item) + Xml.element("number", number));
            return;
        }
        StringBuilder list = new StringBuilder();
        for (Page.Item item : call.wiki().items().of(reference)) {
            if (below.size() == 1 || item.className().equals(below.get(1))) {
                list.append("<objectSummary>").append(described(item)).append("</objectSummary>");
            }
        }
        call.xml(200, "objects", list.toString());
    }

    private static String described(Page.Item item) {
        return Xml.element("className", item.className());
    }
}
