package org.xwikistack.standin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDateTime;
import java.time.temporal.ChronoUnit;

/** One line on the console and in data/logs/xwiki.log. */
final class Log {
    private static volatile Path file;

    private Log() {
    }

    static void to(Path target) throws IOException {
        Files.createDirectories(target.getParent());
        file = target;
    }

    static void info(String text) {
        write("INFO ", text);
    }

    static void warn(String text) {
        write("WARN ", text);
    }

    static void error(String text, Throwable cause) {
        write("ERROR", text + ": " + cause);
    }

    private static synchronized void write(String level, String text) {
        String line = LocalDateTime.now().truncatedTo(ChronoUnit.MILLIS) + " " + level + " [xwiki stand-in] " + text;
        System.out.println(line);
        if (file != null) {
            try {
                Files.writeString(file, line + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            } catch (IOException full) {
                System.out.println("the log file cannot be written: " + full);
            }
        }
    }
}
