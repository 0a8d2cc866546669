package org.xwikistack.standin;

import jakarta.servlet.annotation.WebServlet;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.sql.SQLException;
import java.util.List;

/**
 * /rest: waits while the wiki initialises, fails with it, and then needs the database only for what is in it. What
 * holds for every path stands here: phase, headers, forged forms, errors.
 */
@WebServlet("/rest/*")
public final class RestServlet extends HttpServlet {
    private static final long serialVersionUID = 1L;
    /** What a browser sends across sites without asking first. */
    private static final List<String> FORGEABLE =
        List.of("application/x-www-form-urlencoded", "multipart/form-data", "text/plain");

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Wiki wiki = Wiki.get();
        try {
            if (wiki.await() == Wiki.Phase.FAILED) {
                response.sendError(500, "XWiki could not be initialised");
                return;
            }
            response.setHeader("XWiki-Version", Wiki.VERSION);
            response.setHeader("XWiki-Form-Token", wiki.formTokens().fresh());
            // Replaced as soon as we know better; a reply that fails before has its headers too.
            tell(response, Identity.GUEST);
            List<String> path = Paths.of(request);
            String user = user(wiki, request, path);
            tell(response, user);
            if (forged(wiki, request)) {
                response.sendError(403, "Invalid or missing form token.");
            } else {
                route(new RestCall(wiki, request, response, path, user));
            }
        } catch (IllegalArgumentException garbled) {
            response.sendError(400, garbled.getMessage());
        } catch (Exception failed) {
            Log.error(request.getMethod() + " " + request.getRequestURI(), failed);
            if (!response.isCommitted()) {
                response.sendError(500, String.valueOf(failed.getMessage()));
            }
        }
    }

    private static void route(RestCall call) throws Exception {
        List<String> path = call.path();
        if (path.size() == 1) {
            call.xml(200, "xwiki", Xml.element("version", Wiki.VERSION));
        } else if (path.get(1).equals("jobs") || path.get(1).equals("jobstatus")) {
            RestJobs.answer(call);
        } else if (path.size() == 2 && path.get(1).equals("wikis")) {
            RestWiki.list(call);
        } else if (path.size() > 2 && path.get(1).equals("wikis") && path.get(2).equals("xwiki")) {
            if (path.size() == 3) {
                RestWiki.answer(call);
            } else if (path.size() == 4 && path.get(3).equals("spaces")) {
                RestWiki.spaces(call);
            } else {
                RestPages.answer(call);
            }
        } else {
            call.error(404);
        }
    }

    private static void tell(HttpServletResponse response, String user) {
        response.setHeader("XWiki-User", "xwiki:" + user);
    }

    private static boolean forged(Wiki wiki, HttpServletRequest request) {
        String type = String.valueOf(request.getContentType());
        return request.getMethod().equals("POST") && FORGEABLE.stream().anyMatch(type::startsWith)
            && !wiki.formTokens().accepts(request.getHeader("XWiki-Form-Token"));
    }

    /** Without its database the wiki cannot tell a user from a guest; /rest itself answers all the same. */
    private static String user(Wiki wiki, HttpServletRequest request, List<String> path) throws Exception {
        try {
            return wiki.identity().of(request);
        } catch (SQLException gone) {
            if (path.size() == 1) {
                return Identity.GUEST;
            }
            throw gone;
        }
    }
}
