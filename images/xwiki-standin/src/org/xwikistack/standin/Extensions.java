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
 * that XWiki would write beside the extension, and of a flavor the first page. With no repository set, only what lies
 * on the volume can be installed.
 */
final class Extensions {
    /** How far a job is; `error` is '' unless it failed. */
    record Job(String state, String error) {
        static final Job RUNNING = new Job("RUNNING", "");
    }

    private static final String FLAVOR = "org.xwiki.platform:xwiki-platform-distribution-flavor-mainwiki";
    private static final String INSTALLED = "<installed>true</installed>";
    private static final String FIRST_PAGE = "Main.WebHome";

    private final Path repository;
    private final Settings settings;
    private final Pages pages;
    private final Map<String, Job> jobs = new ConcurrentHashMap<>();

    Extensions(Path repository, Settings settings, Pages pages) {
        this.repository = repository;
        this.settings = settings;
        this.pages = pages;
    }

    /** Whether visitors would meet the distribution wizard: where no questions are asked there is none. */
    boolean wizardPending() throws IOException {
        return interactive() && settings.is("distribution.automaticStartOnMainWiki", true)
            && !describes(FLAVOR, INSTALLED);
    }

    /** With questions switched off, the user interface that is named is installed at every start until it is there. */
    void startUnattended() throws IOException {
        String wanted = settings.property("distribution.defaultUI", "");
        if (!interactive() && !wanted.isEmpty() && !describes(wanted, INSTALLED)) {
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
            } catch (Exception failed) {
                Log.error("job " + job, failed);
                error = String.valueOf(failed.getMessage());
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

    private boolean interactive() {
        return settings.is("distribution.job.interactive", true);
    }

    private void install(String extension) throws Exception {
        // Unset means the project's own repositories, which have everything; empty means none.
        if (settings.property("extension.repositories", "default").isEmpty() && !describes(extension, "")) {
            throw new IOException(extension + " is on no repository: extension.repositories is empty");
        }
        if (extension.equals(FLAVOR) && pages.find(FIRST_PAGE) == null) {
            pages.save(new Page("Main", "WebHome", "Home", "The page that a flavor brings.", Identity.SUPERADMIN));
        }
        // Last: an install that was broken off is none, and is tried again.
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
