package org.xwikistack.standin;

import jakarta.servlet.http.HttpServletRequest;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;

/**
 * Who asks: preemptive Basic on every path. A wrong password is not refused, it is a guest, as in XWiki; superadmin
 * exists only while a password is set for it.
 */
final class Identity {
    static final String GUEST = "XWiki.XWikiGuest";
    static final String SUPERADMIN = "XWiki.superadmin";

    private static final String SCHEME = "Basic ";
    private static final String ADMIN_GROUP = "XWiki.XWikiAdminGroup";

    private final Settings settings;
    private final Items items;

    Identity(Settings settings, Items items) {
        this.settings = settings;
        this.items = items;
    }

    /** The user's reference, GUEST for nobody or a wrong password. Only a named user is looked up in the database. */
    String of(HttpServletRequest request) throws Exception {
        String pair = credentials(request.getHeader("Authorization"));
        int colon = pair.indexOf(':');
        if (colon < 1) {
            return GUEST;
        }
        String name = pair.substring(0, colon);
        String password = pair.substring(colon + 1);
        if (name.equalsIgnoreCase("superadmin")) {
            String wanted = settings.cfg("xwiki.superadminpassword", "");
            return !wanted.isEmpty() && same(wanted, password) ? SUPERADMIN : GUEST;
        }
        String reference = "XWiki." + name;
        for (Page.Item user : items.of(reference, "XWiki.XWikiUsers")) {
            if (!user.get("active").equals("0") && matches(user.get("password"), password)) {
                return reference;
            }
        }
        return GUEST;
    }

    /** By a global right of the user's own or of a group, or as a member of the group of admins. */
    boolean isAdmin(String user) throws Exception {
        if (user.equals(SUPERADMIN) || isMember(user, ADMIN_GROUP)) {
            return true;
        }
        for (Page.Item right : items.of("XWiki.XWikiPreferences", "XWiki.XWikiGlobalRights")) {
            if (list(right, "levels").contains("admin")) {
                if (list(right, "users").contains(user)) {
                    return true;
                }
                for (String group : list(right, "groups")) {
                    if (isMember(user, group)) {
                        return true;
                    }
                }
            }
        }
        return false;
    }

    /** A password as the database keeps it. */
    static String hash(String password) {
        byte[] salt = new byte[8];
        new SecureRandom().nextBytes(salt);
        return hash(HexFormat.of().formatHex(salt), password);
    }

    private boolean isMember(String user, String group) throws Exception {
        return items.of(group, "XWiki.XWikiGroups").stream().anyMatch(member -> member.get("member").equals(user));
    }

    private static List<String> list(Page.Item item, String property) {
        return Arrays.asList(item.get(property).split(","));
    }

    private static String credentials(String header) {
        if (header == null || !header.startsWith(SCHEME)) {
            return "";
        }
        try {
            byte[] pair = Base64.getDecoder().decode(header.substring(SCHEME.length()).strip());
            return new String(pair, StandardCharsets.UTF_8);
        } catch (IllegalArgumentException garbled) {
            return "";
        }
    }

    private static String hash(String salt, String password) {
        try {
            byte[] hashed = MessageDigest.getInstance("SHA-512")
                .digest((salt + password).getBytes(StandardCharsets.UTF_8));
            return "hash:SHA-512:" + salt + ":" + HexFormat.of().formatHex(hashed);
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static boolean matches(String kept, String password) {
        String[] parts = kept.split(":");
        return parts.length == 4 && same(kept, hash(parts[2], password));
    }

    private static boolean same(String one, String other) {
        return MessageDigest.isEqual(one.getBytes(StandardCharsets.UTF_8), other.getBytes(StandardCharsets.UTF_8));
    }
}
