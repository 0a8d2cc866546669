package org.xwikistack.standin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;

/**
 * Installed extensions and the jobs that install them. Nothing is ever downloaded: an install writes the .xed file
 * that XWiki would write beside the extension.
 */
final class Extensions {
    static final String FLAVOR = "org.xwiki.platform:xwiki-platform-distribution-flavor-mainwiki";

    private final Path repository;
    private final Settings settings;
    private final Map<String, String> jobs = new ConcurrentHashMap<>();

    Extensions(Path repository, Settings settings) {
        this.repository = repository;
        this.settings = settings;
    }

    boolean hasFlavor() {
        if (!Files.isDirectory(repository)) {
            return false;
        }
        try (Stream<Path> found = Files.walk(repository)) {
            return found.anyMatch(path -> path.getFileName().toString().endsWith(".xed")
                && path.toString().contains("flavor-mainwiki"));
        } catch (IOException unreadable) {
            throw new java.io.UncheckedIOException(unreadable);
        }
    }

    /** With questions switched off and a flavor named, it is installed as soon as the wiki is ready. */
    void startUnattended() {
        String wanted = settings.property("distribution.defaultUI", "");
        boolean asks = settings.is("distribution.job.interactive", true);
        boolean starts = settings.is("distribution.automaticStartOnMainWiki", true);
        if (!asks && starts && !wanted.isEmpty() && !hasFlavor()) {
            install("distribution", wanted);
        }
    }

    void install(String job, String extension) {
        jobs.put(job, "RUNNING");
        Thread worker = new Thread(() -> {
            try {
                Thread.sleep(1000);
                Path folder = repository.resolve(extension.replace(':', '_')).resolve(Wiki.VERSION);
                Files.createDirectories(folder);
                Files.writeString(folder.resolve(extension.replace(':', '_') + ".xed"),
                    "<extension><id>" + extension + "</id><installed>true</installed></extension>\n");
                Log.info("extension " + extension + " is installed (by name only: a stand-in downloads nothing)");
                jobs.put(job, "FINISHED");
            } catch (IOException | InterruptedException failed) {
                Log.error("extension " + extension + " could not be installed", failed);
                jobs.put(job, "FAILED");
            }
        }, "install");
        worker.setDaemon(true);
        worker.start();
    }

    /** RUNNING, FINISHED or FAILED; null for a job that nobody started. */
    String status(String job) {
        return jobs.get(job);
    }
}
