#!/bin/bash
# Starts MySQL: data directory, users, server.
#
# The data directory is initialised beside its final place and moved there when it is whole: a pod that
# is killed during its first boot leaves nothing that the next boot takes for a database.
# mysqld runs the init file at every start, before it listens: users are made if absent and get the
# passwords of the mounted Secret, so a rotation is a restart.
set -euo pipefail
umask 077
# As process 1 a shell ignores the signal unless it is told otherwise. mysqld, which takes its place, has its own way.
trap 'exit 143' TERM

readonly volume=/var/lib/mysql
readonly data=$volume/data
readonly fresh=$volume/initialising
readonly secrets=/etc/xwiki-stack/secret
readonly memory=/run/xwiki-stack
readonly config=/etc/xwiki-stack/config/my.cnf

say() { printf 'start: %s\n' "$*"; }

# A Secret's value as an SQL string. A line break cannot stand in an init file, so it is refused.
quoted() {
    local file=$secrets/$1 value
    if [[ ! -s $file ]]; then
        say "the Secret has no key $1; next: add it, the pod starts again by itself" >&2
        exit 1
    fi
    value=$(<"$file")
    if [[ $value == *$'\n'* ]]; then
        say "the Secret's $1 holds a line break; next: set a password of one line" >&2
        exit 1
    fi
    value=${value//\\/\\\\}
    printf "'%s'" "${value//\'/\'\'}"
}

# CREATE and ALTER, since a restored database brings users with the passwords of its old home.
account() {
    local who=$1 key=$2 options=${3:-} password
    password=$(quoted "$key")
    printf "CREATE USER IF NOT EXISTS %s;\n" "$who"
    printf "ALTER USER %s IDENTIFIED BY %s %s;\n" "$who" "$password" "$options"
}

render() {
    local schema application="'$APPLICATION_USER'@'%'" backup="'$BACKUP_USER'@'%'" monitor="'$MONITOR_USER'@'%'"
    # Accounts are this server's own: no replica and no restore takes them from the binary log.
    printf 'SET SESSION sql_log_bin = 0;\n'
    account "'root'@'localhost'" root-password
    account "$application" xwiki-password
    account "$backup" backup-password
    account "$monitor" monitor-password 'WITH MAX_USER_CONNECTIONS 5'
    # What was granted once and is not named below is taken back.
    printf 'REVOKE ALL PRIVILEGES, GRANT OPTION FROM %s, %s, %s;\n' "$application" "$backup" "$monitor"
    printf 'GRANT PROCESS ON *.* TO %s;\n' "$application"
    printf 'GRANT PROCESS, RELOAD, REPLICATION CLIENT, SHOW_ROUTINE ON *.* TO %s;\n' "$backup"
    printf 'GRANT PROCESS, REPLICATION CLIENT ON *.* TO %s;\n' "$monitor"
    printf 'GRANT SELECT ON performance_schema.* TO %s;\n' "$monitor"
    for schema in $SCHEMAS; do
        printf 'CREATE DATABASE IF NOT EXISTS `%s` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n' "$schema"
        # An underscore is a wildcard in the name of a grant.
        printf 'GRANT ALL PRIVILEGES ON `%s`.* TO %s;\n' "${schema//_/\\_}" "$application"
        printf 'GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON `%s`.* TO %s;\n' \
            "${schema//_/\\_}" "$backup"
    done
}

if [[ ! -d $data ]]; then
    say "initialising an empty volume"
    rm -rf "$fresh"
    # Behind, since a shell hears a signal only between programs that run in front. What is half made at a stop goes
    # with the line above at the next start.
    mysqld --defaults-file="$config" --initialize-insecure --datadir="$fresh" &
    wait $!
    sync
    mv "$fresh" "$data"
fi

render >"$memory/init.sql"
# The probe keeps the password this server was started with: the mounted Secret may change before it.
{
    printf '[client]\nhost=127.0.0.1\nport=%s\nuser=%s\npassword="' "$PORT" "$MONITOR_USER"
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' "$secrets/monitor-password" | tr -d '\n'
    printf '"\n'
} >"$memory/monitor.cnf"
say "starting the server"
exec mysqld --defaults-file="$config" --datadir="$data" --init-file="$memory/init.sql"
