#!/bin/bash
# Waits until the database lets XWiki in, with XWiki's own account and what that account needs: a server
# that starts, a password that is being rotated or a wrong one leave the pod waiting instead of failing,
# and the last line of the log says why.
set -uo pipefail
# As process 1 a shell ignores the signal unless it is told otherwise; the pod would go only when killed.
trap 'exit 143' TERM

# Why XWiki could not start now; nothing when it could.
obstacle() {
    local password said
    # Read anew each time: a mounted Secret follows its source while we wait.
    password=$(<"$DB_PASSWORD_FILE")
    if [[ -z $password || $password == *[!A-Za-z0-9._~/+=-]* ]]; then
        echo "the password is empty or holds characters that XWiki's image cannot carry;" \
            "use letters, digits and . _ ~ / + = -"
        return
    fi
    # This table takes the PROCESS privilege to read. XWiki reads it while it makes its schema: without the
    # privilege the first start fails and leaves half a schema behind.
    if ! said=$(MYSQL_PWD=$password mysql --no-defaults --connect-timeout=5 --get-server-public-key \
        --host="$DB_HOST" --port="$DB_PORT" --user="$DB_USER" --database="$DB_DATABASE" \
        --execute='SELECT COUNT(*) FROM information_schema.INNODB_TABLES' 2>&1); then
        said=${said##*$'\n'}
        echo "${said:-no answer}"
    fi
}

told=''
tries=0
while reason=$(obstacle); [[ -n $reason ]]; do
    # Each reason once, and again about every minute: the log stays readable however long this takes.
    if [[ $reason != "$told" ]] || ((tries % 20 == 0)); then
        echo "waiting for database $DB_DATABASE at $DB_HOST:$DB_PORT: $reason"
    fi
    told=$reason
    tries=$((tries + 1))
    sleep 3
done
echo "the database lets $DB_USER in"
