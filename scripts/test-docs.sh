#!/usr/bin/env bash
# Two things that documentation can do wrong: send its reader nowhere, and tell him to type what does not work.
#
# Every relative link of the pages must lead to a file, and to a heading in it. Then docs/quick-start.md is run as it stands; in a fresh
# clone, as in CI, that is what its reader has. How much of the time the build takes depends on the machine and on what target/ has
# already: it is told, and not judged. All else has two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=120
faults=0
fault() { echo "test-docs: $*" >&2; faults=$((faults + 1)); }

# prose PAGE: without what stands in code.
prose() { awk '/^ *```/ { code = !code; next } !code' "$1" | sed 's/`[^`]*`//g'; }
# anchors PAGE: what its headings are reached by, as Markdown's readers make them, and what it names itself.
anchors() {
    awk '/^ *```/ { code = !code; next } !code && /^#+ /' "$1" | sed 's/^#* *//; s/\[\([^]]*\)\]([^)]*)/\1/g' |
        tr '[:upper:]' '[:lower:]' | sed 's/[^[:alnum:] _-]//g; s/ /-/g' |
        awk '{ n = seen[$0]++; print n ? $0 "-" n : $0 }'
    grep -o '<a id="[^"]*"' "$1" | cut -d '"' -f 2 || true
}
links() { prose "$1" | grep -oE '\]\([^)]+\)|(src|srcset|href)="[^"]+"' | sed -E 's/^\]\(//; s/\)$//; s/^[a-z]+="//; s/"$//; s/ .*//' || true; }

checked=0
for page in *.md docs/*.md; do
    while read -r link; do
        case $link in http://* | https://* | mailto:*) continue ;; esac
        checked=$((checked + 1))
        path=${link%%#*} anchor=
        case $link in *#*) anchor=${link#*#} ;; esac
        target=$page
        if [ -n "$path" ]; then target=$(dirname "$page")/$path; fi
        if [ ! -e "$target" ]; then
            fault "$page: $link: there is no $target"
        elif [ -n "$anchor" ] && ! anchors "$target" | grep -qxF -- "$anchor"; then
            fault "$page: $link: $target has no such heading"
        fi
    done < <(links "$page")
done
[ "$checked" -gt 20 ] || fault "only $checked links have been found: are they looked for rightly?"
for page in docs/*.md; do
    [ "$page" = docs/README.md ] || links docs/README.md | grep -qxF "${page#docs/}" || fault "docs/README.md does not name $page"
done
[ "$faults" = 0 ] || exit 1
echo "test-docs: $checked links lead somewhere"

SECONDS=0
cargo build --locked
build=$SECONDS
SECONDS=0
make --no-print-directory demo
rest=$SECONDS
echo "test-docs: the quick start took $((build + rest)) s: the build $build s, all else $rest s"
[ "$rest" -le "$limit" ] || { echo "test-docs: all but the build has $limit s" >&2; exit 1; }
