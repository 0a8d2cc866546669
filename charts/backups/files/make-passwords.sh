#!/bin/bash
# Passwords for the database and the wiki of a drill: they live in memory, and no longer than the pod.
set -euo pipefail
umask 077
for name in root xwiki backup monitor superadmin; do
    head --bytes 24 /dev/urandom | od --address-radix n --format x1 | tr --delete ' \n' >"$FOLDER/$name-password"
done
echo "made the passwords of this drill"
