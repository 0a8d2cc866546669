#!/bin/bash
# Starts XWiki by the image's own entrypoint, on a read-only root file system.
#
# The entrypoint rewrites three files of WEB-INF in place, replacing placeholders. They are mounted from a
# volume that outlives a restart of the container, so each start puts the pristine copies back first:
# otherwise the placeholders would be gone and a changed password would be ignored. `cat` keeps the inode,
# and with it the mount.
set -euo pipefail

for file in hibernate.cfg.xml xwiki.cfg xwiki.properties; do
    cat "/run/xwiki-stack/pristine/$file" >"/usr/local/tomcat/webapps/ROOT/WEB-INF/$file"
done

# Tomcat keeps the access log of every day for ever; a full log volume would get the pod evicted.
while sleep 1d; do find /usr/local/tomcat/logs -type f -mtime +7 -delete || true; done &

# This shell stays process 1: it hands on the signal to end, and collects the orphans of LibreOffice, which
# the JVM as process 1 would leave as zombies.
docker-entrypoint.sh xwiki &
readonly wiki=$!
trap 'kill -TERM "$wiki"' TERM INT
while :; do
    # A signal interrupts `wait`; the wiki is over only when its process is.
    wait "$wiki" && code=0 || code=$?
    kill -0 "$wiki" 2>/dev/null || exit "$code"
done
