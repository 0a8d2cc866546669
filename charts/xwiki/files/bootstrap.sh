#!/bin/bash
# Makes the first page and the admin over REST, once: what exists is left as it is.
set -euo pipefail
umask 077
readonly secrets=/etc/xwiki-stack/secret
readonly rest="$XWIKI_URL/rest/wikis/xwiki"
readonly login=/tmp/login
readonly headers=/tmp/headers
readonly body=/tmp/body

say() { printf 'bootstrap: %s\n' "$*"; }
fail() {
    say "$*" >&2
    exit 1
}

# curl reads the password from a file, never from its arguments.
printf 'user = "superadmin:%s"\n' "$(<"$secrets/superadmin-password")" >"$login"

# METHOD PATH [curl options]: gives the status code; the body is in $body.
call() {
    local method=$1 path=$2
    shift 2
    curl --silent --show-error --max-time 60 --config "$login" --request "$method" --output "$body" \
        --dump-header "$headers" --write-out '%{http_code}' "$@" "$rest$path"
}

xml() {
    local text=$1
    text=${text//&/&amp;}
    text=${text//</&lt;}
    printf '%s' "${text//>/&gt;}"
}

put_page() {
    local path=$1 title=$2 content=$3 code
    code=$(call GET "$path")
    case $code in
    200) say "page $path exists" && return ;;
    404) ;;
    *) fail "page $path: HTTP $code" ;;
    esac
    printf '<page xmlns="http://www.xwiki.org"><title>%s</title><content>%s</content></page>' \
        "$(xml "$title")" "$(xml "$content")" >/tmp/page
    code=$(call PUT "$path" --header 'Content-Type: application/xml' --data-binary @/tmp/page)
    case $code in
    201 | 202) say "page $path is made" ;;
    *) fail "page $path could not be made: HTTP $code" ;;
    esac
}

# PATH CLASS FILE: adds an object of a class unless the page has one.
add_object() {
    local path=$1 class=$2 file=$3 code
    code=$(call GET "$path/objects/$class")
    if [[ $code == 200 ]] && grep -q "<className>$class</className>" "$body"; then
        say "$class on $path exists"
        return
    fi
    code=$(call POST "$path/objects" --header 'Content-Type: application/xml' --data-binary "@$file")
    case $code in
    200 | 201 | 202) say "$class on $path is made" ;;
    *) fail "$class on $path could not be made: HTTP $code" ;;
    esac
}

object() {
    local class=$1 name
    shift
    printf '<object xmlns="http://www.xwiki.org"><className>%s</className>' "$class"
    while (($#)); do
        name=$1
        printf '<property name="%s"><value>%s</value></property>' "$name" "$(xml "$2")"
        shift 2
    done
    printf '</object>'
}

say "waiting for the wiki at $XWIKI_URL"
until code=$(call GET "") && [[ $code == 200 ]]; do sleep 3; done
# A wrong password is served as a guest, with 200.
grep -qi '^XWiki-User: .*superadmin' "$headers" ||
    fail "the wiki does not take the superadmin password of the Secret; next: bump secretRevision"

put_page /spaces/Main/pages/WebHome "$PAGE_TITLE" "$PAGE_CONTENT"
put_page "/spaces/XWiki/pages/$ADMIN_USERNAME" "$ADMIN_USERNAME" ""
object XWiki.XWikiUsers first_name "$ADMIN_USERNAME" last_name "" active 1 \
    password "$(<"$secrets/admin-password")" >/tmp/user
add_object "/spaces/XWiki/pages/$ADMIN_USERNAME" XWiki.XWikiUsers /tmp/user
put_page /spaces/XWiki/pages/XWikiPreferences "Preferences" ""
object XWiki.XWikiGlobalRights users "XWiki.$ADMIN_USERNAME" levels admin,edit,programming allow 1 >/tmp/rights
add_object /spaces/XWiki/pages/XWikiPreferences XWiki.XWikiGlobalRights /tmp/rights
put_page /spaces/XWiki/pages/XWikiAdminGroup "Administrators" ""
object XWiki.XWikiGroups member "XWiki.$ADMIN_USERNAME" >/tmp/member
add_object /spaces/XWiki/pages/XWikiAdminGroup XWiki.XWikiGroups /tmp/member
say "done"
