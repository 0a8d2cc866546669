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

# Rewrites a file in place: its inode stays, so a file mounted over it stays mounted. FILE SED-SCRIPT...
rewrite() {
    local file=$1 scratch
    shift
    scratch=$(mktemp "$data/tmp/rewrite.XXXXXX")
    sed "$@" "$file" >"$scratch"
    cat "$scratch" >"$file"
    rm -f "$scratch"
}

literal() { printf '%s' "$1" | sed -e 's/[\\&|]/\\&/g'; }

configure() {
    local host=$DB_HOST${DB_PORT:+:$DB_PORT}
    if [[ $CONTEXT_PATH != ROOT ]]; then
        cp -a webapps/ROOT "webapps/$CONTEXT_PATH"
        rm -rf webapps/ROOT
    fi
    [[ $DB_PASSWORD != *' '* ]] || fail "error: the database password holds a space"
    rewrite "$webinf/xwiki.cfg" -e "s|^xwiki.webapppath=.*|xwiki.webapppath=$([[ $CONTEXT_PATH == ROOT ]] || literal "$CONTEXT_PATH")|"
    [[ $DB_DATABASE == xwiki ]] || printf '\nxwiki.db=%s\n' "$DB_DATABASE" >>"$webinf/xwiki.cfg"
    rewrite "$webinf/hibernate.cfg.xml" \
        -e "s|replacecontainer|$(literal "$host")|" -e "s|replacedatabase|$(literal "$DB_DATABASE")|" \
        -e "s|replacejdbcparams|$(literal "$JDBC_PARAMS")|" -e "s|replaceuser|$(literal "$DB_USER")|" \
        -e "s|replacepassword|$(literal "$DB_PASSWORD")|"
    rewrite "$webinf/xwiki.properties" -e "s|^# environment.permanentDirectory=.*|environment.permanentDirectory=$data|" \
        -e 's|^# openoffice.autoStart=.*|openoffice.autoStart=true|'
    if [[ -n $SOLR_BASE_URL ]]; then
        printf '\nsolr.type=remote\nsolr.remote.baseURL=%s\n' "$SOLR_BASE_URL" >>"$webinf/xwiki.properties"
    fi
}

overrides() {
    local file
    for file in hibernate.cfg.xml xwiki.cfg xwiki.properties; do
        [[ ! -f $data/$file ]] || cat "$data/$file" >"$webinf/$file"
    done
}

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
setting JAVA_OPTS ''
setting CATALINA_TMPDIR /usr/local/xwiki/data/tmp

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
[[ $JAVA_OPTS =~ -Xmx[0-9] ]] || JAVA_OPTS+=' -Xmx1024m'
[[ $JAVA_OPTS == *java.security.egd* ]] || JAVA_OPTS+=' -Djava.security.egd=file:/dev/./urandom'
export JAVA_OPTS CATALINA_TMPDIR
shift || true
exec catalina.sh run "$@"
