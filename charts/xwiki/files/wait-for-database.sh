#!/bin/bash
# Waits until the database lets XWiki in, with XWiki's own account: a server that starts, a password that
# is being rotated or a wrong one leave the pod waiting, and the last line of the log says why.
set -u
MYSQL_PWD=$(<"$DB_PASSWORD_FILE")
export MYSQL_PWD
while ! said=$(mysql --connect-timeout=5 --host="$DB_HOST" --port="$DB_PORT" --user="$DB_USER" \
    --execute='SELECT 1' "$DB_DATABASE" 2>&1); do
    printf '%s\n' "$(tail -n 1 <<<"$said")"
    sleep 3
    # A mounted Secret is refreshed while we wait.
    MYSQL_PWD=$(<"$DB_PASSWORD_FILE")
done
echo "the database lets $DB_USER in"
