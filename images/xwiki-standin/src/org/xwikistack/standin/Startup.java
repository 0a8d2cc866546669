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
        Wiki.get().start(Path.of(event.getServletContext().getRealPath("/WEB-INF")));
    }

    @Override
    public void contextDestroyed(ServletContextEvent event) {
        Wiki.get().stop();
    }
}
