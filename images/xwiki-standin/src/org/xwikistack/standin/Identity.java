package org.xwikistack.standin;

import jakarta.servlet.http.HttpServletRequest;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.sql.SQLException;
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

    private final Settings settings;
    private final Pages pages;

    Identity(Settings settings, Pages pages) {
        this.settings = settings;
        this.pages = pages;
    }

    /** The user's reference, GUEST for nobody or a wrong password. */
    String of(HttpServletRequest request) throws SQLException {
        String header = request.getHeader("Authorization");
        if (header == null || !header.startsWith("Basic ")) {
            return GUEST;
        }
        String pair;
        try {
            pair = new String(Base64.getDecoder().decode(header.substring(6).strip()), StandardCharsets.UTF_8);
        } catch (IllegalArgumentException garbled) {
            return GUEST;
        }
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
        for (Page.Element user : pages.objects("XWiki." + name)) {
            if (user.className.equals("XWiki.XWikiUsers") && matches(user.properties.get("password"), password)) {
                return "XWiki." + name;
            }
        }
        return GUEST;
    }

    boolean isAdmin(String user) throws SQLException {
        if (user.equals(SUPERADMIN)) {
            return true;
        }
        for (Page.Element right : pages.objects("XWiki.XWikiPreferences")) {
            if (right.className.equals("XWiki.XWikiGlobalRights")
                && List.of(right.properties.getOrDefault("levels", "").split(",")).contains("admin")
                && List.of(right.properties.getOrDefault("users", "").split(",")).contains(user)) {
                return true;
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

    private static String hash(String salt, String password) {
        try {
            byte[] hashed = MessageDigest.getInstance("SHA-512")
                .digest((salt + password).getBytes(StandardCharsets.UTF_8));
            return "hash:SHA-512:" + salt + ":" + HexFormat.of().formatHex(hashed);
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static boolean matches(String kept, String password) {
        return kept != null && kept.startsWith("hash:") && same(kept, hash(kept.split(":")[2], password));
    }

    private static boolean same(String one, String other) {
        return MessageDigest.isEqual(one.getBytes(StandardCharsets.UTF_8), other.getBytes(StandardCharsets.UTF_8));
    }
}
