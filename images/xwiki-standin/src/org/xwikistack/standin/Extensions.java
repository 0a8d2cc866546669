package org.xwikistack.standin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;

/**
 * Installed extensions and the jobs that install them. Nothing is ever downloaded: an install writes the .xed file
 * that XWiki would write beside the extension. With no repository set, only what lies on the volume can be installed.
 */
final class Extensions {
    /** How far a job is; `error` is '' unless it failed. */
    record Job(String state, String error) {
        static final Job RUNNING = new Job("RUNNING", "");
    }

    private static final String FLAVOR = "org.xwiki.platform:xwiki-platform-distribution-flavor-mainwiki";
    private static final String INSTALLED = "<installed>true</installed>";

    private final Path repository;
    private final Settings settings;
    private final Map<String, Job> jobs = new ConcurrentHashMap<>();

    Extensions(Path repository, Settings settings) {
        this.repository = repository;
        this.settings = settings;
    }

    /** Whether visitors would meet the distribution wizard. */
    boolean wizardPending() throws IOException {
        return settings.is("distribution.automaticStartOnMainWiki", true) && !describes(FLAVOR, INSTALLED);
    }

    /** With questions switched off and a flavor named, it is installed as soon as the wiki is ready. */
    void startUnattended() throws IOException {
        String wanted = settings.property("distribution.defaultUI", "");
        if (!settings.is("distribution.job.interactive", true) && !wanted.isEmpty() && wizardPending()) {
            install("distribution", List.of(wanted));
        }
    }

    /** Starts a job; the thread given is the one to wait for where the caller wants to. */
    Thread install(String job, List<String> extensions) {
        jobs.put(job, Job.RUNNING);
        Thread worker = new Thread(() -> {
            String error = "";
            try {
                Faults.sleep(1);
                for (String extension : extensions) {
                    install(extension);
                }
            } catch (IOException | InterruptedException failed) {
                Log.error("job " + job, failed);
                error = failed.getMessage();
            }
            jobs.put(job, new Job("FINISHED", error));
        }, "install");
        worker.setDaemon(true);
        worker.start();
        return worker;
    }

    /** Null for a job that nobody started. */
    Job status(String job) {
        return jobs.get(job);
    }

    private void install(String extension) throws IOException {
        // Unset means the project's own repositories, which have everything; empty means none.
        if (settings.property("extension.repositories", "default").isEmpty() && !describes(extension, "")) {
            throw new IOException(extension + " is on no repository: extension.repositories is empty");
        }
        String name = extension.replace(':', '_');
        Path folder = Files.createDirectories(repository.resolve(name).resolve(Wiki.VERSION));
        Files.writeString(folder.resolve(name + ".xed"), "<extension>" + Xml.element("id", extension)
            + Xml.element("version", Wiki.VERSION) + "<properties>" + INSTALLED + "</properties></extension>\n");
        Log.info("extension " + extension + " is installed (by name only: a stand-in downloads nothing)");
    }

    /** Whether a .xed on the volume describes the extension, and holds the words. */
    private boolean describes(String extension, String words) throws IOException {
        if (!Files.isDirectory(repository)) {
            return false;
        }
        List<Path> files;
        try (Stream<Path> found = Files.walk(repository)) {
            files = found.filter(path -> path.getFileName().toString().endsWith(".xed")).toList();
        }
        for (Path file : files) {
            String text = Files.readString(file);
            if (text.contains(Xml.element("id", extension)) && text.contains(words)) {
                return true;
            }
        }
        return false;
    }
}
