package org.xwikistack.standin;

import jakarta.servlet.ServletContextEvent;
import jakarta.servlet.ServletContextListener;
import jakarta.servlet.annotation.WebListener;
import java.nio.file.Path;

/** Starts the wiki beside Tomcat, and ends it with Tomcat. */
@WebListener
public final class Startup implements ServletContextListener {
    @Override
    public void contextInitialized(ServletContextEvent event) {
        try {
            // Tomcat listens before it deploys: until this returns, the port is open and requests are held.
            Faults.sleep(Faults.DEPLOY_DELAY);
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
        Wiki.get().start(Path.of(event.getServletContext().getRealPath("/WEB-INF")));
    }

    @Override
    public void contextDestroyed(ServletContextEvent event) {
        Wiki.get().stop();
    }
}
