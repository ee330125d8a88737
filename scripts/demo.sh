#!/usr/bin/env bash
# Runs docs/quick-start.md: its blocks of sh as they stand there, one after the other, each in a shell of its own. What they have made
# is taken back at the end, also after a failure: the last block does that. A Docker that they had to start by hand ends with them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

page=docs/quick-start.md
log=/tmp/first-pod/log
pid_file=/var/run/docker.pid
# the page's reader has none of these
unset DOCKER_HOST DOCKER_CONTEXT
[ ! -e /tmp/first-pod ] || { echo "demo: /tmp/first-pod is there already; take it away first, as $page says" >&2; exit 1; }
blocks=$(mktemp -d)
linked= last= dockerd=
dockerd_runs() { [ -s "$pid_file" ] && "${as_root[@]}" kill -0 "$(cat "$pid_file")" 2>/dev/null; }
dockerd_runs || [ -d /run/systemd/system ] || dockerd=ours

# where root has no sudo, the word alone is missing
if ! command -v sudo >/dev/null; then
    sudo() { "$@"; }
    export -f sudo
fi
# the page says target/
if [ -n "${CARGO_TARGET_DIR:-}" ] && [ ! -e target ]; then
    ln -s "$CARGO_TARGET_DIR" target
    linked=yes
fi
unset CARGO_TARGET_DIR

clean_up() {
    status=$?
    trap - EXIT
    if [ $status != 0 ]; then
        [ ! -s "$log" ] || { echo "--- the end of dockershim's log"; tail -n 40 "$log"; }
        # whatever of it there is to take back
        [ -z "$last" ] || bash "$last" >/dev/null 2>&1 || true
    fi
    if [ -n "$dockerd" ] && dockerd_runs; then
        pid=$(cat "$pid_file")
        "${as_root[@]}" kill "$pid"
        timeout 20 tail --pid="$pid" -f /dev/null || true
    fi
    [ -z "$linked" ] || rm target
    rm -rf "$blocks"
    exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

awk -v dir="$blocks" '
    /^```sh$/ { inside = 1; file = sprintf("%s/%02d", dir, ++count); next }
    /^```/ { inside = 0; next }
    inside { print > file }
' "$page"
all=("$blocks"/*)
last=${all[-1]}

for block in "${all[@]}"; do
    printf '\n'
    sed 's/^/$ /' "$block"
    status=0
    if grep -q 'dockershim check' "$block"; then
        bash -euo pipefail "$block" | tee "$blocks/said" || status=$?
        # what this machine lacks for service as a node is told by the check, and no failure of a first pod
        if grep -q 'steps passed in' "$blocks/said"; then status=0; fi
    else
        bash -euo pipefail "$block" || status=$?
    fi
    [ $status = 0 ] || { echo "demo: this block of $page ended with $status" >&2; exit 1; }
done
