package org.xwikistack.standin;

import jakarta.servlet.annotation.WebServlet;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.List;
import java.util.regex.Pattern;

/** /bin: pages for people. While the wiki initialises it answers 202, which a probe would take for a success. */
@WebServlet({"/bin/*", ""})
public final class BinServlet extends HttpServlet {
    private static final long serialVersionUID = 1L;

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Wiki wiki = Wiki.get();
        try {
            boolean waits = "false".equals(Paths.parameter(request, "async"));
            Wiki.Phase phase = waits ? wiki.await() : wiki.phase();
            switch (phase) {
                case INITIALISING -> html(response, 202, "XWiki is initialising", "<p>Please wait.</p>");
                case FAILED -> response.sendError(500, "XWiki could not be initialised");
                case READY -> route(wiki, request, response);
            }
        } catch (Exception failed) {
            Log.error(request.getMethod() + " " + request.getRequestURI(), failed);
            if (!response.isCommitted()) {
                response.sendError(500, String.valueOf(failed.getMessage()));
            }
        }
    }

    private static void route(Wiki wiki, HttpServletRequest request, HttpServletResponse response) throws Exception {
        List<String> path = Paths.of(request);
        if (path.size() < 2) {
            response.sendRedirect(base(wiki, request) + "bin/view/Main/");
            return;
        }
        String action = path.get(1);
        String user = wiki.identity().of(request);
        if (action.equals("view")) {
            view(wiki, response, Paths.page(path, request));
        } else if (action.equals("login")) {
            html(response, 200, "Log in", "<form method=\"post\"><input name=\"j_username\"></form>");
        } else if (action.equals("download")) {
            int last = path.size() - 1;
            RestPages.send(response, wiki.attachments().find(String.join(".", path.subList(2, last)), path.get(last)));
        } else if (user.equals(Identity.GUEST)) {
            turnAway(wiki, request, response);
        } else if (action.equals("export")) {
            export(wiki, request, response, user);
        } else {
            html(response, 200, Paths.page(path, request), "<p>The stand-in does nothing here.</p>");
        }
    }

    private static void view(Wiki wiki, HttpServletResponse response, String reference) throws Exception {
        if (wiki.extensions().wizardPending()) {
            html(response, 200, "Distribution Wizard", "<p>This wizard installs a flavor.</p>");
            return;
        }
        Page page = wiki.pages().find(reference);
        if (page == null) {
            html(response, 404, reference, "<p>The requested page could not be found.</p>");
        } else {
            html(response, 200, page.title, "<div id=\"xwikicontent\"><p>" + Xml.escape(page.content) + "</p></div>");
        }
    }

    /** A guest is sent to the login page, or asked for Basic where the address says so. */
    private static void turnAway(Wiki wiki, HttpServletRequest request, HttpServletResponse response)
        throws IOException {
        if (Paths.parameter(request, "basicauth").isEmpty()) {
            response.sendRedirect(base(wiki, request) + "bin/login/XWiki/XWikiLogin");
        } else {
            response.setHeader("WWW-Authenticate", "Basic realm=\"XWiki\"");
            response.sendError(401);
        }
    }

    private static void export(Wiki wiki, HttpServletRequest request, HttpServletResponse response, String user)
        throws Exception {
        String format = Paths.parameter(request, "format");
        if (!wiki.identity().isAdmin(user) || !format.isEmpty() && !format.equals("xar")) {
            html(response, 200, "Export", "<p>You are not allowed to export this wiki.</p>");
            return;
        }
        String name = Paths.parameter(request, "name").replaceAll("[^A-Za-z0-9._-]", "_");
        String file = name.isEmpty() ? "backup" : name;
        String[] wanted = request.getParameterValues("pages");
        List<String> references = wiki.pages().references();
        if (wanted != null) {
            references.removeIf(reference -> !matches(reference, wanted));
        }
        response.setContentType("application/zip");
        response.setHeader("Content-disposition", "attachment; filename=" + file + ".xar");
        // Streamed from here on: no length is known, and an error can no longer be told by a status.
        response.flushBuffer();
        new Xar(wiki).export(references, file, Boolean.parseBoolean(Paths.parameter(request, "backup")),
            response.getOutputStream());
    }

    private static boolean matches(String reference, String[] patterns) {
        for (String pattern : patterns) {
            String quoted = Pattern.quote(pattern.replaceFirst("^xwiki:", ""));
            if (reference.matches(quoted.replace("%", "\\E.*\\Q"))) {
                return true;
            }
        }
        return false;
    }

    /** Where links start: xwiki.home, or what the visitor asked for, as far as Tomcat was told of it. */
    private static String base(Wiki wiki, HttpServletRequest request) {
        String home = wiki.settings().cfg("xwiki.home", "");
        if (!home.isEmpty()) {
            return home;
        }
        int port = request.getServerPort();
        boolean plain = port == (request.getScheme().equals("https") ? 443 : 80);
        return request.getScheme() + "://" + request.getServerName() + (plain ? "" : ":" + port)
            + request.getContextPath() + "/";
    }

    private static void html(HttpServletResponse response, int status, String title, String body) throws IOException {
        response.setStatus(status);
        response.setContentType("text/html;charset=UTF-8");
        response.getWriter().write("<!DOCTYPE html>\n<html><head><title>" + Xml.escape(title) + "</title></head><body>"
            + "<h1>" + Xml.escape(title) + "</h1>" + body + "<hr><p><small>Served by a stand-in for XWiki ("
            + Wiki.VERSION + "), not by XWiki itself.</small></p></body></html>\n");
    }
}
