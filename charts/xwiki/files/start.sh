#!/bin/bash
# Starts XWiki by the image's own entrypoint, on a read-only root file system.
#
# The entrypoint rewrites three files of WEB-INF in place. They are mounted from a volume that outlives a
# restart of the container, so each start puts the pristine copies back first: otherwise the placeholders
# would be gone and a changed password would be ignored.
set -euo pipefail
pristine=/run/xwiki-stack/pristine
for file in hibernate.cfg.xml xwiki.cfg xwiki.properties; do
    cat "$pristine/$file" >"webapps/ROOT/WEB-INF/$file"
done
password=$(<"$DB_PASSWORD_FILE")
case $password in
*[!A-Za-z0-9._~/+=-]*)
    echo "start: the database password holds characters that the image's entrypoint cannot carry;" \
        "next: use letters, digits and . _ ~ / + = - only" >&2
    exit 1
    ;;
esac
exec docker-entrypoint.sh xwiki
