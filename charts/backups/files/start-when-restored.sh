#!/bin/bash
# Lets the wiki of a drill start once a set is restored: before, it would fill the empty database and the empty volume.
set -euo pipefail
# As process 1 a shell ignores the signal unless it is told otherwise.
trap 'exit 143' TERM
until [[ -f $MARKER ]]; do sleep 0.5; done
echo "restored: $(<"$MARKER"); starting"
XCONF_xwikicfg_xwiki_superadminpassword=$(<"$SUPERADMIN_PASSWORD_FILE")
export XCONF_xwikicfg_xwiki_superadminpassword
exec bash /etc/xwiki-stack/config/start.sh
