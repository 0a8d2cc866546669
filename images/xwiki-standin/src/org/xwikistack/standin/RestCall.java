package org.xwikistack.standin;

import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.List;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/** One request to /rest with what is known of it. `path` starts with "rest". */
record RestCall(Wiki wiki, HttpServletRequest request, HttpServletResponse response, List<String> path, String user) {
    boolean is(String method) {
        return request.getMethod().equals(method) || method.equals("GET") && request.getMethod().equals("HEAD");
    }

    boolean byGuest() {
        return user.equals(Identity.GUEST);
    }

    /** The body as XML; one that is not is the caller's mistake. */
    Element body() throws IOException {
        try {
            return Xml.parse(request.getInputStream());
        } catch (SAXException garbled) {
            throw new IllegalArgumentException("the body is not XML: " + garbled.getMessage());
        }
    }

    /** Answers with an element of XWiki's namespace. */
    void xml(int status, String name, String content) throws IOException {
        response.setStatus(status);
        response.setContentType("application/xml;charset=UTF-8");
        response.getWriter().write("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<" + name + " xmlns=\"" + Xml.NAMESPACE
            + "\">" + content + "</" + name + ">\n");
    }

    void error(int status) throws IOException {
        response.sendError(status);
    }

    void refuse() throws IOException {
        response.setHeader("WWW-Authenticate", "Basic realm=\"XWiki\"");
        response.sendError(401);
    }
}
