#!/bin/bash
# Makes the first page and the admin over REST, as superadmin. It may run any number of times: a page that
# exists is left as it is, and the admin's account is made last, so that where it exists all before it does.
set -euo pipefail
umask 077
# As process 1 a shell ignores the signal unless it is told otherwise.
trap 'exit 143' TERM

readonly secrets=/etc/xwiki-stack/secret
readonly rest=$XWIKI_URL/rest/wikis/xwiki
# In memory: what holds a password is neither an argument nor on a disk.
readonly login=/tmp/login headers=/tmp/headers body=/tmp/body sent=/tmp/sent
readonly namespace='xmlns="http://www.xwiki.org"'

say() { printf 'bootstrap: %s\n' "$*"; }
fail() {
    say "$*" >&2
    exit 1
}

# METHOD PATH [curl options]: gives the status, 000 without an answer; the answer is in $body and $headers.
call() {
    local method=$1 path=$2
    shift 2
    curl --silent --max-time 60 --config "$login" --request "$method" --output "$body" --dump-header "$headers" \
        --write-out '%{http_code}' "$@" "$rest$path" || true
}

# METHOD PATH: sends $sent as XML.
send() { call "$1" "$2" --header 'Content-Type: application/xml' --data-binary "@$sent"; }

# Text as XML content.
xml() { printf '%s' "$1" | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g'; }

# WORDS FUNCTION [ARGUMENT...]: runs the function until it succeeds, saying now and then what is missing.
wait_for() {
    local words=$1 tries=0
    shift
    until "$@"; do
        ((tries % 20 != 0)) || say "waiting for $words: HTTP $code"
        tries=$((tries + 1))
        sleep 3
    done
}

# PATH: the status is 200.
answers() {
    code=$(call GET "$1")
    [[ $code == 200 ]]
}

# PATH TITLE CONTENT: makes a page unless there is one.
make_page() {
    local path=$1 code
    code=$(call GET "$path")
    if [[ $code == 200 ]]; then
        say "page ${path#/spaces/} exists, it is left as it is"
        return
    fi
    [[ $code == 404 ]] || fail "page ${path#/spaces/} cannot be read: HTTP $code"
    printf '<page %s><title>%s</title><content>%s</content></page>' \
        "$namespace" "$(xml "$2")" "$(xml "$3")" >"$sent"
    code=$(send PUT "$path")
    [[ $code == 201 || $code == 202 ]] || fail "page ${path#/spaces/} could not be made: HTTP $code"
    say "page ${path#/spaces/} is made"
}

# PATH CLASS: the page has an object of the class.
has_object() {
    local code
    code=$(call GET "$1/objects/$2")
    [[ $code == 200 || $code == 404 ]] || fail "objects of ${1#/spaces/} cannot be read: HTTP $code"
    [[ $code == 200 ]] && grep -q "<className>$2</className>" "$body"
}

# PATH CLASS [NAME VALUE]...: adds an object to a page.
add_object() {
    local path=$1 class=$2 code
    shift 2
    {
        printf '<object %s><className>%s</className>' "$namespace" "$class"
        while (($#)); do
            printf '<property name="%s"><value>%s</value></property>' "$1" "$(xml "$2")"
            shift 2
        done
        printf '</object>'
    } >"$sent"
    code=$(send POST "$path/objects")
    rm -f "$sent"
    [[ $code == 20[0-2] ]] || fail "$class could not be added to ${path#/spaces/}: HTTP $code"
    say "$class is added to ${path#/spaces/}"
}

printf 'user = "superadmin:%s"\n' "$(sed 's/[\\"]/\\&/g' "$secrets/superadmin-password")" >"$login"

wait_for "the wiki at $XWIKI_URL" answers ""
# A wrong password is not refused: XWiki serves the caller as a guest, with 200.
grep -qi '^XWiki-User: .*superadmin' "$headers" ||
    fail "the wiki does not take the superadmin password of the Secret; next: bump secretRevision"

if [[ $FLAVOR == none ]]; then
    make_page /spaces/Main/pages/WebHome "$PAGE_TITLE" "$PAGE_CONTENT"
else
    # The flavor brings this page; one of ours would be in its way.
    wait_for "the flavor to bring its first page" answers /spaces/Main/pages/WebHome
fi

readonly admin=XWiki.$ADMIN_USERNAME user=/spaces/XWiki/pages/$ADMIN_USERNAME
if has_object "$user" XWiki.XWikiUsers; then
    say "user $admin exists, it is left as it is"
else
    make_page /spaces/XWiki/pages/XWikiAdminGroup 'Administrators' ''
    add_object /spaces/XWiki/pages/XWikiAdminGroup XWiki.XWikiGroups member "$admin"
    make_page /spaces/XWiki/pages/XWikiPreferences 'Preferences' ''
    # A right that is given to somebody is taken from everybody else: without this, guests may write.
    add_object /spaces/XWiki/pages/XWikiPreferences XWiki.XWikiGlobalRights users "$admin" \
        groups XWiki.XWikiAdminGroup levels admin,edit,comment,delete,register,script,programming allow 1
    make_page "$user" "$ADMIN_USERNAME" ''
    add_object "$user" XWiki.XWikiUsers first_name "$ADMIN_USERNAME" active 1 \
        password "$(<"$secrets/admin-password")"
fi
say "done"
