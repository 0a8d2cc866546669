package org.xwikistack.standin;

import jakarta.servlet.http.HttpServletRequest;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A request's address in parts, and what they name. */
final class Paths {
    private Paths() {
    }

    /** The decoded segments of the path below the context. */
    static List<String> of(HttpServletRequest request) {
        List<String> segments = new ArrayList<>();
        for (String part : request.getRequestURI().substring(request.getContextPath().length()).split("/")) {
            if (!part.isEmpty()) {
                segments.add(decoded(part.replace("+", "%2B")));
            }
        }
        return segments;
    }

    /** Space.Sub.Page of /bin/ACTION/Space/Sub/Page; WebHome where the path ends with a slash. */
    static String page(List<String> segments, HttpServletRequest request) {
        List<String> named = new ArrayList<>(segments.subList(Math.min(2, segments.size()), segments.size()));
        if (named.isEmpty()) {
            named.add("Main");
        }
        if (named.size() == 1 || request.getRequestURI().endsWith("/")) {
            named.add("WebHome");
        }
        return String.join(".", named);
    }

    /** A parameter of the query string, or ''. Unlike getParameter it leaves the body of a form unread. */
    static String parameter(HttpServletRequest request, String name) {
        String query = request.getQueryString();
        for (String pair : (query == null ? "" : query).split("&")) {
            if (pair.startsWith(name + "=")) {
                return decoded(pair.substring(name.length() + 1));
            }
        }
        return "";
    }

    private static String decoded(String text) {
        return URLDecoder.decode(text, StandardCharsets.UTF_8);
    }
}
