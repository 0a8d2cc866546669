package org.xwikistack.standin;

import jakarta.servlet.annotation.WebServlet;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import org.w3c.dom.Element;

/** /rest: waits while the wiki initialises, fails with it, and then needs the database only for what is in it. */
@WebServlet("/rest/*")
public final class RestServlet extends HttpServlet {
    private static final long serialVersionUID = 1L;
    private static final String XML = "application/xml;charset=UTF-8";

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Wiki wiki = Wiki.get();
        try {
            if (wiki.await() == Wiki.Phase.FAILED) {
                response.sendError(500, "XWiki could not be initialised");
                return;
            }
            response.setHeader("XWiki-Version", Wiki.VERSION);
            response.setHeader("XWiki-Form-Token", wiki.formToken());
            // Without the database nobody can be told from a guest, and /rest answers all the same.
            String user = request.getHeader("Authorization") == null ? Identity.GUEST : user(wiki, request);
            response.setHeader("XWiki-User", "xwiki:" + user);
            route(new Call(wiki, request, response, Paths.of(request), user));
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
            response.sendError(503);
        } catch (Exception failed) {
            Log.error(request.getMethod() + " " + request.getRequestURI(), failed);
            if (!response.isCommitted()) {
                response.sendError(500, String.valueOf(failed.getMessage()));
            }
        }
    }

    private static String user(Wiki wiki, HttpServletRequest request) throws SQLException {
        try {
            return wiki.identity().of(request);
        } catch (SQLException gone) {
            if (Paths.of(request).size() == 1) {
                return Identity.GUEST;
            }
            throw gone;
        }
    }

    /** One request with what is known of it. */
    private record Call(Wiki wiki, HttpServletRequest request, HttpServletResponse response, List<String> path,
        String user) {
        boolean is(String method) {
            return request.getMethod().equals(method) || method.equals("GET") && request.getMethod().equals("HEAD");
        }

        void xml(int status, String body) throws IOException {
            response.setStatus(status);
            response.setContentType(XML);
            response.getWriter().write("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + body + "\n");
        }
    }

    private static void route(Call call) throws Exception {
        List<String> path = call.path;
        int size = path.size();
        if (size == 1) {
            call.xml(200, "<xwiki xmlns=\"" + Xml.NAMESPACE + "\">" + Xml.element("version", Wiki.VERSION) + "</xwiki>");
        } else if (path.get(1).equals("jobs") && call.is("PUT")) {
            startJob(call);
        } else if (path.get(1).equals("jobstatus") && size > 2) {
            jobStatus(call);
        } else if (!path.get(1).equals("wikis") || size > 2 && !path.get(2).equals("xwiki")) {
            call.response.sendError(404);
        } else if (size == 3) {
            wikiItself(call);
        } else if (size == 4 && path.get(3).equals("spaces")) {
            StringBuilder spaces = new StringBuilder();
            for (String space : call.wiki.pages().spaces()) {
                spaces.append("<space>").append(Xml.element("id", "xwiki:" + space))
                    .append(Xml.element("name", space)).append("</space>");
            }
            call.xml(200, "<spaces xmlns=\"" + Xml.NAMESPACE + "\">" + spaces + "</spaces>");
        } else {
            inSpace(call);
        }
    }

    private static void wikiItself(Call call) throws Exception {
        if (call.is("POST")) {
            importXar(call);
            return;
        }
        call.xml(200, "<wiki xmlns=\"" + Xml.NAMESPACE + "\"><id>xwiki</id><name>xwiki</name></wiki>");
    }

    private static void importXar(Call call) throws Exception {
        String type = String.valueOf(call.request.getContentType());
        boolean form = type.startsWith("application/x-www-form-urlencoded") || type.startsWith("multipart/")
            || type.startsWith("text/plain");
        if (form && !call.wiki.formToken().equals(call.request.getHeader("XWiki-Form-Token"))) {
            call.response.sendError(403, "Invalid or missing form token.");
            return;
        }
        String history = call.request.getParameter("history");
        boolean backup = Boolean.parseBoolean(call.request.getParameter("backup"));
        new Xar(call.wiki).load(call.request.getInputStream(), history == null ? "add" : history, backup, call.user);
        call.xml(200, "<wiki xmlns=\"" + Xml.NAMESPACE + "\"><id>xwiki</id></wiki>");
    }

    /** /rest/wikis/xwiki/spaces/A(/spaces/B)/pages/P... */
    private static void inSpace(Call call) throws Exception {
        List<String> path = call.path;
        StringBuilder space = new StringBuilder();
        int at = 3;
        while (at + 1 < path.size() && path.get(at).equals("spaces")) {
            space.append(space.isEmpty() ? "" : ".").append(path.get(at + 1));
            at += 2;
        }
        if (at + 1 >= path.size() || !path.get(at).equals("pages")) {
            call.response.sendError(404);
            return;
        }
        String name = path.get(at + 1);
        List<String> rest = path.subList(at + 2, path.size());
        if (!call.is("GET") && call.user.equals(Identity.GUEST)) {
            call.response.setHeader("WWW-Authenticate", "Basic realm=\"XWiki\"");
            call.response.sendError(401);
        } else if (rest.isEmpty()) {
            page(call, space.toString(), name);
        } else if (rest.get(0).equals("attachments")) {
            attachments(call, space + "." + name, rest);
        } else if (rest.get(0).equals("objects")) {
            objects(call, space + "." + name, rest);
        } else {
            call.response.sendError(404);
        }
    }

    private static void page(Call call, String space, String name) throws Exception {
        String reference = space + "." + name;
        if (call.is("PUT")) {
            Element sent = Xml.parse(call.request.getInputStream());
            Page page = new Page(space, name, Xml.child(sent, "title"), Xml.child(sent, "content"), call.user);
            boolean fresh = call.wiki.pages().save(page);
            call.xml(fresh ? 201 : 202, document(page));
        } else if (call.is("DELETE")) {
            call.response.setStatus(call.wiki.pages().delete(reference) ? 204 : 404);
        } else {
            Page page = call.wiki.pages().find(reference);
            if (page == null) {
                call.response.sendError(404);
            } else {
                call.xml(200, document(page));
            }
        }
    }

    private static String document(Page page) {
        return "<page xmlns=\"" + Xml.NAMESPACE + "\">" + Xml.element("id", "xwiki:" + page.reference())
            + Xml.element("fullName", page.reference()) + Xml.element("wiki", "xwiki")
            + Xml.element("space", page.space) + Xml.element("name", page.name) + Xml.element("title", page.title)
            + Xml.element("version", page.version) + Xml.element("author", page.author)
            + Xml.element("content", page.content) + "</page>";
    }

    private static void attachments(Call call, String reference, List<String> rest) throws Exception {
        Attachments store = call.wiki.attachments();
        if (rest.size() == 1) {
            StringBuilder list = new StringBuilder();
            for (Map.Entry<String, Long> file : store.of(reference).entrySet()) {
                list.append("<attachment>").append(Xml.element("name", file.getKey()))
                    .append(Xml.element("size", file.getValue())).append("</attachment>");
            }
            call.xml(200, "<attachments xmlns=\"" + Xml.NAMESPACE + "\">" + list + "</attachments>");
            return;
        }
        String name = rest.get(1);
        if (call.is("PUT")) {
            if (call.wiki.pages().find(reference) == null) {
                call.response.sendError(404);
                return;
            }
            String type = call.request.getContentType();
            try (InputStream body = call.request.getInputStream()) {
                boolean fresh = store.save(reference, name, type == null ? "application/octet-stream" : type,
                    call.user, body);
                call.xml(fresh ? 201 : 202,
                    "<attachment xmlns=\"" + Xml.NAMESPACE + "\">" + Xml.element("name", name) + "</attachment>");
            }
        } else if (call.is("DELETE")) {
            call.response.setStatus(store.delete(reference, name, call.user) ? 204 : 404);
        } else {
            send(call.response, store.find(reference, name));
        }
    }

    /** The bytes; a row whose file is gone is an error, not an empty file. */
    static void send(HttpServletResponse response, Path file) throws IOException {
        if (file == null) {
            response.sendError(404);
            return;
        }
        if (!Files.exists(file)) {
            throw new IOException("the attachment's content is missing on disk");
        }
        response.setContentType("application/octet-stream");
        response.setContentLengthLong(Files.size(file));
        Files.copy(file, response.getOutputStream());
    }

    private static void objects(Call call, String reference, List<String> rest) throws Exception {
        if (call.is("POST")) {
            Element sent = Xml.parse(call.request.getInputStream());
            Page.Element element = new Page.Element(Xml.child(sent, "className"));
            for (Element property : Xml.children(sent, "property")) {
                String name = property.getAttribute("name");
                String value = Xml.child(property, "value");
                element.properties.put(name, name.equals("password") ? Identity.hash(value) : value);
            }
            int number = call.wiki.pages().add(reference, element);
            if (number < 0) {
                call.response.sendError(404);
            } else {
                call.xml(201, "<object xmlns=\"" + Xml.NAMESPACE + "\">" + Xml.element("className", element.className)
                    + Xml.element("number", number) + "</object>");
            }
            return;
        }
        StringBuilder list = new StringBuilder();
        for (Page.Element element : call.wiki.pages().objects(reference)) {
            if (rest.size() == 1 || element.className.equals(rest.get(1))) {
                list.append("<objectSummary>").append(Xml.element("className", element.className))
                    .append("</objectSummary>");
            }
        }
        call.xml(200, "<objects xmlns=\"" + Xml.NAMESPACE + "\">" + list + "</objects>");
    }

    private static void startJob(Call call) throws Exception {
        if (!call.wiki.identity().isAdmin(call.user)) {
            call.response.sendError(401);
            return;
        }
        Element sent = Xml.parse(call.request.getInputStream());
        StringBuilder id = new StringBuilder();
        Element wanted = Xml.children(sent, "id").iterator().next();
        for (Element part : Xml.children(wanted, "element")) {
            id.append(id.isEmpty() ? "" : "/").append(part.getTextContent());
        }
        String job = id.isEmpty() ? wanted.getTextContent().strip() : id.toString();
        call.wiki.extensions().install(job, Extensions.FLAVOR);
        call.xml(200, "<jobStatus xmlns=\"" + Xml.NAMESPACE + "\"><state>RUNNING</state></jobStatus>");
    }

    private static void jobStatus(Call call) throws Exception {
        String state = call.wiki.extensions().status(String.join("/", call.path.subList(2, call.path.size())));
        if (state == null) {
            call.response.sendError(404);
            return;
        }
        call.xml(200, "<jobStatus xmlns=\"" + Xml.NAMESPACE + "\">" + Xml.element("state", state)
            + "<errorMessage/></jobStatus>");
    }
}
