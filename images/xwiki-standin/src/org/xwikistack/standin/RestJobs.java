package org.xwikistack.standin;

import java.util.ArrayList;
import java.util.List;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** /rest/jobs and /rest/jobstatus: installing extensions and following it. */
final class RestJobs {
    private RestJobs() {
    }

    static void answer(RestCall call) throws Exception {
        List<String> path = call.path();
        if (path.get(1).equals("jobstatus") && call.is("GET") && path.size() > 2) {
            Extensions.Job found = call.wiki().extensions().status(String.join("/", path.subList(2, path.size())));
            if (found == null) {
                call.error(404);
            } else {
                tell(call, found);
            }
        } else if (path.size() == 2 && call.is("PUT")) {
            start(call);
        } else {
            call.error(404);
        }
    }

    private static void start(RestCall call) throws Exception {
        if (!call.wiki().identity().isAdmin(call.user())) {
            call.refuse();
            return;
        }
        if (!Paths.parameter(call.request(), "jobType").equals("install")) {
            throw new IllegalArgumentException("the stand-in knows one job type: install");
        }
        Element sent = call.body();
        List<String> id = new ArrayList<>();
        for (Element named : Xml.children(sent, "id")) {
            for (Element part : Xml.children(named, "element")) {
                id.add(part.getTextContent().strip());
            }
        }
        List<String> wanted = extensions(sent);
        if (id.isEmpty() || wanted.isEmpty()) {
            throw new IllegalArgumentException("the request names no job or no extension");
        }
        String job = String.join("/", id);
        Thread worker = call.wiki().extensions().install(job, wanted);
        if (Paths.parameter(call.request(), "async").equals("false")) {
            worker.join();
        }
        tell(call, call.wiki().extensions().status(job));
    }

    /** The ids of all ExtensionId elements, however deep in the request's properties. */
    private static List<String> extensions(Element sent) {
        List<String> found = new ArrayList<>();
        NodeList all = sent.getElementsByTagNameNS("*", "*");
        for (int i = 0; i < all.getLength(); i++) {
            if (all.item(i) instanceof Element one && one.getLocalName().endsWith("ExtensionId")) {
                found.add(Xml.child(one, "id"));
            }
        }
        return found;
    }

    private static void tell(RestCall call, Extensions.Job job) throws Exception {
        call.xml(200, "jobStatus", Xml.element("state", job.state())
            + (job.error().isEmpty() ? "" : Xml.element("errorMessage", job.error())));
    }
}
