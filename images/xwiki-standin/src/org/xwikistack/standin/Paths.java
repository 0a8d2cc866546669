package org.xwikistack.standin;

import jakarta.servlet.http.HttpServletRequest;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A request's path as decoded segments, and what they name. */
final class Paths {
    private Paths() {
    }

    static List<String> of(HttpServletRequest request) {
        List<String> segments = new ArrayList<>();
        String path = request.getRequestURI().substring(request.getContextPath().length());
        for (String part : path.split("/")) {
            if (!part.isEmpty()) {
                segments.add(URLDecoder.decode(part.replace("+", "%2B"), StandardCharsets.UTF_8));
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
}
