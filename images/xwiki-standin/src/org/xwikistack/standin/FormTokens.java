package org.xwikistack.standin;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Tokens against forged forms: every reply carries a fresh one, and any of them is accepted back. */
final class FormTokens {
    private static final int NONCE_BYTES = 8;

    private final SecureRandom random = new SecureRandom();
    private final byte[] key = new byte[32];

    FormTokens() {
        random.nextBytes(key);
    }

    String fresh() {
        byte[] nonce = new byte[NONCE_BYTES];
        random.nextBytes(nonce);
        return signed(HexFormat.of().formatHex(nonce));
    }

    boolean accepts(String token) {
        if (token == null || token.length() <= 2 * NONCE_BYTES) {
            return false;
        }
        String wanted = signed(token.substring(0, 2 * NONCE_BYTES));
        return MessageDigest.isEqual(wanted.getBytes(StandardCharsets.UTF_8), token.getBytes(StandardCharsets.UTF_8));
    }

    private String signed(String nonce) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            return nonce + HexFormat.of().formatHex(mac.doFinal(nonce.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
