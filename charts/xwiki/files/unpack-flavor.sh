#!/bin/bash
# Unpacks the offline archive of the standard flavor into XWiki's extension repository, once per archive:
# a new version of XWiki comes with a new archive.
set -euo pipefail
readonly repository=/usr/local/xwiki/data/extension/repository
readonly marker=$repository/.flavor

if [[ ! -f $XIP ]]; then
    echo "there is no archive ${XIP#/xip/} on the claim; next: copy it there, the pod tries again by itself" >&2
    exit 1
fi
archive="$XIP $(stat --format=%s "$XIP")"
if [[ -f $marker && $(<"$marker") == "$archive" ]]; then
    echo "the flavor is unpacked already"
    exit 0
fi
mkdir -p "$repository"
unzip -o -q "$XIP" -d "$repository"
printf '%s\n' "$archive" >"$marker"
echo "unpacked $archive bytes"
