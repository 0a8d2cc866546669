#!/bin/bash
# The stand-in's entrypoint: what the documentation of XWiki's image says its own does, written anew.
set -e

fail() {
    echo "$1" >&2
    exit 1
}

# VARIABLE DEFAULT: from VARIABLE, from the file that VARIABLE_FILE names, or the default.
setting() {
    local name=$1 file=${1}_FILE
    [[ -n ${!name:-} && -n ${!file:-} ]] && fail "error: both $name and $file are set (but are exclusive)"
    if [[ -n ${!file:-} ]]; then
        printf -v "$name" '%s' "$(<"${!file}")"
    fi
    [[ -n ${!name:-} ]] || printf -v "$name" '%s' "$2"
}

# FILE SED-SCRIPT...: rewrites a file in place. Its inode stays, so a file mounted over it stays mounted.
rewrite() {
    local file=$webinf/$1 scratch
    shift
    scratch=$(mktemp "$data/tmp/rewrite.XXXXXX")
    sed "$@" "$file" >"$scratch"
    cat "$scratch" >"$file"
    rm -f "$scratch"
}

# Text as sed puts it in unchanged.
literal() { printf '%s' "$1" | sed -e 's/[\\&|]/\\&/g'; }

# KEY VALUE: the sed script that sets a key, whether it stands in the file as a comment or not.
line() { printf 's|^(# )?%s=.*|%s=%s|' "${1//./\\.}" "$1" "$(literal "$2")"; }

configure() {
    local path=''
    [[ $DB_PASSWORD != *' '* ]] || fail "error: the database password holds a space"
    if [[ $CONTEXT_PATH != ROOT ]]; then
        cp -a webapps/ROOT "webapps/$CONTEXT_PATH"
        rm -rf webapps/ROOT
        path=$CONTEXT_PATH
    fi
    rewrite xwiki.cfg -E -e "$(line xwiki.webapppath "$path")"
    [[ $DB_DATABASE == xwiki ]] || rewrite xwiki.cfg -E -e "$(line xwiki.db "$DB_DATABASE")"
    rewrite hibernate.cfg.xml \
        -e "s|replacecontainer|$(literal "$DB_HOST${DB_PORT:+:$DB_PORT}")|" \
        -e "s|replacedatabase|$(literal "$DB_DATABASE")|" -e "s|replacejdbcparams|$(literal "$JDBC_PARAMS")|" \
        -e "s|replaceuser|$(literal "$DB_USER")|" -e "s|replacepassword|$(literal "$DB_PASSWORD")|"
    rewrite xwiki.properties -E -e "$(line environment.permanentDirectory "$data")" \
        -e "$(line openoffice.autoStart true)"
    [[ -z $SOLR_BASE_URL ]] || rewrite xwiki.properties -E -e "$(line solr.type remote)" \
        -e "$(line solr.remote.baseURL "$SOLR_BASE_URL")"
}

# The same files in the permanent directory beat what was configured.
overrides() {
    local file
    for file in hibernate.cfg.xml xwiki.cfg xwiki.properties; do
        [[ ! -f $data/$file ]] || cat "$data/$file" >"$webinf/$file"
    done
}

# PATTERN OPTION: adds an option to JAVA_OPTS unless it holds the pattern.
java_option() { [[ $JAVA_OPTS =~ $1 ]] || JAVA_OPTS+=" $2"; }

first=${1:-xwiki}
[[ $first == xwiki || $first == -* ]] || exec "$@"

setting DB_USER xwiki
setting DB_PASSWORD xwiki
setting DB_DATABASE xwiki
setting DB_HOST db
setting DB_PORT ''
setting JDBC_PARAMS '?useSSL=false&amp;connectionTimeZone=LOCAL&amp;allowPublicKeyRetrieval=true'
setting SOLR_BASE_URL ''
setting CONTEXT_PATH ROOT

readonly data=/usr/local/xwiki/data
readonly webinf=webapps/$CONTEXT_PATH/WEB-INF
readonly marker=webapps/$CONTEXT_PATH/.first_start_completed

cd /usr/local/tomcat
rm -rf "$data/tmp"
mkdir -p "$data/tmp" "$data/logs"
if [[ ! -e $marker ]]; then
    configure
    overrides
    touch "$marker" 2>/dev/null || echo "warning: $marker cannot be written" >&2
else
    overrides
fi
# Tomcat's own two: no file stands for them.
JAVA_OPTS=${JAVA_OPTS:-}
CATALINA_TMPDIR=${CATALINA_TMPDIR:-$data/tmp}
java_option '-Xmx[0-9]' -Xmx1024m
java_option ALLOW_ENCODED_SLASH -Dorg.apache.tomcat.util.buf.UDecoder.ALLOW_ENCODED_SLASH=true
java_option ALLOW_BACKSLASH -Dorg.apache.catalina.connector.CoyoteAdapter.ALLOW_BACKSLASH=true
java_option java.security.egd -Djava.security.egd=file:/dev/./urandom
export JAVA_OPTS CATALINA_TMPDIR
exec catalina.sh run
