package org.xwikistack.standin;

/** /rest/wikis: the one wiki that there is. /rest/wikis/xwiki: itself, the import of a XAR into it, its spaces. */
final class RestWiki {
    private RestWiki() {
    }

    static void answer(RestCall call) throws Exception {
        if (call.is("POST")) {
            // Like the real resource, this one asks for no right.
            boolean backup = Boolean.parseBoolean(Paths.parameter(call.request(), "backup"));
            new Xar(call.wiki()).load(call.request().getInputStream(), Paths.parameter(call.request(), "history"),
                backup, call.user());
        } else if (!call.is("GET")) {
            call.error(405);
            return;
        }
        call.xml(200, "wiki", described());
    }

    static void list(RestCall call) throws Exception {
        call.xml(200, "wikis", "<wiki>" + described() + "</wiki>");
    }

    static void spaces(RestCall call) throws Exception {
        StringBuilder list = new StringBuilder();
        for (String space : call.wiki().pages().spaces()) {
            list.append("<space>").append(Xml.element("id", "xwiki:" + space)).append(Xml.element("wiki", "xwiki"))
                .append(Xml.element("name", space)).append("</space>");
        }
        call.xml(200, "spaces", list.toString());
    }

    private static String described() {
        return Xml.element("id", "xwiki") + Xml.element("name", "xwiki");
    }
}
