#!/bin/bash
# What users of the official image rely on, written anew from its documentation: MYSQL_ROOT_PASSWORD,
# MYSQL_ROOT_HOST, MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD (each also as <name>_FILE), scripts in
# /docker-entrypoint-initdb.d on an empty data directory, and any other command run as it is.
# The charts of xwiki-stack start mysqld by their own script and do not pass through here.
set -euo pipefail

fail() {
    printf 'entrypoint: %s\n' "$*" >&2
    exit 1
}

# Gives a variable its value from <name>_FILE; naming both is a mistake.
from_file() {
    local name=$1 file=${1}_FILE
    [[ -n ${!name:-} && -n ${!file:-} ]] && fail "both $name and $file are set"
    [[ -n ${!file:-} ]] && printf -v "$name" '%s' "$(<"${!file}")"
    export "${name?}"
    # The entrypoint passes here again, as another user.
    unset "$file"
}

text() {
    local value=${1//\\/\\\\}
    printf "'%s'" "${value//\'/\'\'}"
}

client() { mysql --user=root --socket="$socket" "$@"; }

initialise() {
    local file
    [[ -n ${MYSQL_ROOT_PASSWORD:-}${MYSQL_ALLOW_EMPTY_PASSWORD:-} ]] ||
        fail "the data directory is empty and neither MYSQL_ROOT_PASSWORD nor MYSQL_ALLOW_EMPTY_PASSWORD is set"
    [[ ${MYSQL_USER:-} == root ]] && fail "MYSQL_USER is root; root exists already, use MYSQL_ROOT_PASSWORD"
    "$@" --initialize-insecure
    "$@" --skip-networking --mysqlx=OFF &
    local server=$!
    until client --execute='SELECT 1' >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || fail "the server ended during its first start"
        sleep 0.2
    done
    {
        [[ -n ${MYSQL_DATABASE:-} ]] && printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$MYSQL_DATABASE"
        if [[ -n ${MYSQL_USER:-} ]]; then
            printf "CREATE USER %s@'%%' IDENTIFIED BY %s;\n" "$(text "$MYSQL_USER")" "$(text "${MYSQL_PASSWORD:-}")"
            [[ -n ${MYSQL_DATABASE:-} ]] &&
                printf "GRANT ALL ON \`%s\`.* TO %s@'%%';\n" "${MYSQL_DATABASE//_/\\_}" "$(text "$MYSQL_USER")"
        fi
        if [[ -n ${MYSQL_ROOT_HOST-%} && ${MYSQL_ROOT_HOST-%} != localhost ]]; then
            printf "CREATE USER 'root'@%s IDENTIFIED BY %s;\n" \
                "$(text "${MYSQL_ROOT_HOST-%}")" "$(text "${MYSQL_ROOT_PASSWORD:-}")"
            printf "GRANT ALL ON *.* TO 'root'@%s WITH GRANT OPTION;\n" "$(text "${MYSQL_ROOT_HOST-%}")"
        fi
    } | client
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
        *.sh) bash "$file" ;;
        *.sql) client "${MYSQL_DATABASE:-mysql}" <"$file" ;;
        *.sql.gz) gunzip -c "$file" | client "${MYSQL_DATABASE:-mysql}" ;;
        esac
    done
    printf "ALTER USER 'root'@'localhost' IDENTIFIED BY %s;\nSHUTDOWN;\n" "$(text "${MYSQL_ROOT_PASSWORD:-}")" | client
    wait "$server"
}

[[ ${1:-} == -* ]] && set -- mysqld "$@"
[[ ${1:-} == mysqld ]] || exec "$@"
# A question about the server needs neither data nor passwords.
for word; do
    case $word in --version | -V | --help | '-?' | --print-defaults) exec "$@" ;; esac
done

for name in MYSQL_ROOT_PASSWORD MYSQL_ROOT_HOST MYSQL_DATABASE MYSQL_USER MYSQL_PASSWORD; do
    from_file "$name"
done
socket=/var/run/mysqld/mysqld.sock
if [[ $(id -u) == 0 ]]; then
    # The last: where the server lets SQL read and write files; without it it does not start.
    mkdir -p /var/run/mysqld /var/lib/mysql-files
    chown 999:999 /var/lib/mysql /var/run/mysqld /var/lib/mysql-files
    exec setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"
fi
[[ -d /var/lib/mysql/mysql ]] || initialise "$@"
unset MYSQL_ROOT_PASSWORD MYSQL_PASSWORD
exec "$@"
