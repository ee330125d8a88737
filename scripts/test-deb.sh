#!/usr/bin/env bash
# Installs, starts, upgrades, removes and purges the package in a root that has nothing but a busybox (as root, for chroot). Neither
# Docker nor systemd is in it: that the daemon serves without the one, and the package installs without the other, is a part of it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then echo "as root, please: a package is installed in a root of its own" >&2; exit 1; fi
root=$(mktemp -d /tmp/dockershim-root.XXXXXX)
shim=
clean_up() {
    [ -z "$shim" ] || kill -9 "$shim" 2>/dev/null || true
    rm -rf "$root"
}
trap clean_up EXIT
fail() { echo "test-deb: $*" >&2; exit 1; }

mkdir -p "$root"/{bin,dev,proc,run,tmp,var/lib/dpkg/{info,updates},etc}
cp /bin/busybox "$root/bin/busybox"
for applet in sh rm rmdir; do ln -s busybox "$root/bin/$applet"; done
: >"$root/var/lib/dpkg/status"
# a file does for what is only thrown away
: >"$root/dev/null"
dpkg_() { dpkg --root="$root" --log=/dev/null "$@" >/dev/null; }
inside() { chroot "$root" "$@"; }
# serve: as the unit does, but on sockets of its own making.
serve() {
    # not by the function: a shell of its own would get the signals
    chroot "$root" /usr/bin/dockershim --network-plugin=bridge &
    shim=$!
    for _ in $(seq 100); do
        [ ! -S "$root/run/dockershim.sock" ] || return 0
        kill -0 "$shim" 2>/dev/null || fail "the daemon ended"
        sleep 0.1
    done
    fail "the daemon does not listen"
}
stop() { kill "$shim"; wait "$shim" || fail "the daemon ended with $?"; shim=; [ ! -e "$root/run/dockershim.sock" ] || fail "the socket is left"; }

first=$(scripts/deb.sh)
second=$(scripts/deb.sh +1)
[ "$(stat -c %s "$first")" -lt $((8 << 20)) ] || fail "$first is larger than 8 MiB"
if ldd "${CARGO_TARGET_DIR:-target}/release/dockershim" 2>/dev/null | grep -q '=>'; then fail "the program is not static"; fi

dpkg_ --install "$first"
inside /usr/bin/dockershim config check >/dev/null
program=$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' "$root/usr/lib/systemd/system/dockershim.service")
[ -x "$root$program" ] || fail "the unit starts $program, which is not there"
for example in crictl.yaml kubelet/20-dockershim.conf kubelet/config-dir/20-dockershim.conf; do
    [ -s "$root/usr/share/doc/dockershim/examples/$example" ] || fail "$example is missing"
done
serve

echo 'log-level = "debug"' >>"$root/etc/dockershim/config.toml"
kill -HUP "$shim"
dpkg_ --install "$second"
grep -q '^log-level = "debug"$' "$root/etc/dockershim/config.toml" || fail "an upgrade forgets the operator's configuration"
kill -0 "$shim" || fail "the daemon ended while its program was replaced"
stop
serve
stop

dpkg_ --remove dockershim
[ ! -e "$root/usr/bin/dockershim" ] && [ -e "$root/etc/dockershim/config.toml" ] || fail "remove leaves the wrong things"
dpkg_ --purge dockershim
# dpkg takes directories along that nobody else owns
left=$(find "$root" -mindepth 1 -name '*dockershim*')
[ -z "$left" ] || fail "purge leaves $left"
rm -f "$second"
echo "test-deb: $first installs, starts, upgrades and goes"
