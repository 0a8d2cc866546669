#!/bin/bash
# Copies the three files that the image's entrypoint rewrites to a volume: once as they are, for start.sh,
# and once to be mounted over the originals, which lie on a read-only root.
set -euo pipefail
mkdir -p /run/xwiki-stack/pristine /run/xwiki-stack/live
cd /usr/local/tomcat/webapps/ROOT/WEB-INF
cp hibernate.cfg.xml xwiki.cfg xwiki.properties /run/xwiki-stack/pristine/
cp hibernate.cfg.xml xwiki.cfg xwiki.properties /run/xwiki-stack/live/
echo "copied the configuration of this image"
