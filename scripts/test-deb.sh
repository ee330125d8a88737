#!/usr/bin/env bash
# Installs, starts, upgrades, removes and purges the package in a root that has nothing but a busybox (as root, for chroot). Neither
# Docker nor systemd is in it: that the daemon serves without the one, and the package installs without the other, is a part of it.
# What the package asks of systemd is seen in a second root, with a systemctl that writes down what it is called with; and the units are
# read by systemd's own verifier.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
want systemd-analyze systemd
install_missing

if [ "$(id -u)" != 0 ]; then echo "as root, please: a package is installed in a root of its own" >&2; exit 1; fi
root=$(mktemp -d /tmp/dockershim-root.XXXXXX)
shim=
clean_up() {
    [ -z "$shim" ] || kill -9 "$shim" 2>/dev/null || true
    rm -rf "$root"
}
trap clean_up EXIT
fail() { echo "test-deb: $*" >&2; exit 1; }

# new_root DIR: what dpkg and the package's scripts need.
new_root() {
    mkdir -p "$1"/{bin,dev,proc,run,tmp,var/lib/dpkg/{info,updates},etc}
    cp /bin/busybox "$1/bin/busybox"
    for applet in sh rm rmdir mkdir grep; do ln -s busybox "$1/bin/$applet"; done
    : >"$1/var/lib/dpkg/status"
    # a file does for what is only thrown away
    : >"$1/dev/null"
}
new_root "$root"
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

# Where systemd runs: each act of dpkg's, and what systemctl is called with for it.
with_systemd=$root/with-systemd
new_root "$with_systemd"
mkdir -p "$with_systemd/run/systemd/system"
cat >"$with_systemd/bin/systemctl" <<'STUB'
#!/bin/sh
echo "$*" >>/tmp/systemctl
case "$1" in
    is-active) [ -e "/tmp/active-$3" ] ;;
    enable | try-restart) [ ! -e /tmp/fails ] ;;
esac
STUB
chmod +x "$with_systemd/bin/systemctl"
# does ACT... : and systemctl is called as the lines on standard input say, looking at others' units aside.
does() {
    : >"$with_systemd/tmp/systemctl"
    dpkg --root="$with_systemd" --log=/dev/null "$@" >"$with_systemd/tmp/said" 2>&1 || fail "$*: $(cat "$with_systemd/tmp/said")"
    diff - <(grep -v '^is-active ' "$with_systemd/tmp/systemctl") || fail "$*: systemctl was called otherwise"
}
says() { grep -qF -- "$1" "$with_systemd/tmp/said" || fail "nothing tells \"$1\": $(cat "$with_systemd/tmp/said")"; }
reload=daemon-reload
units='dockershim.socket dockershim.service'
enable="enable --now $units"
disable="disable --now $units"
restart='try-restart dockershim.service'
purge() { does --purge dockershim <<<"$disable"$'\n'$reload$'\n'$reload; }

does --install "$first" <<<$reload$'\n'"$enable"
does --install "$second" <<<$reload$'\n'$reload$'\n'"$restart"
does --remove dockershim <<<"$disable"$'\n'$reload
# its version of before is known still; that it was removed, too
does --install "$second" <<<$reload$'\n'"$enable"
purge

# beside a cri-dockerd nothing is started, whether systemd knows it or not
: >"$with_systemd/tmp/active-cri-docker.socket"
does --install "$first" <<<$reload
says 'dockershim migrate --force'
rm "$with_systemd/tmp/active-cri-docker.socket"
purge
mkdir "$with_systemd/proc/7"
echo cri-dockerd >"$with_systemd/proc/7/comm"
does --install "$first" <<<$reload
says 'dockershim migrate --force'
rm -r "$with_systemd/proc/7"
purge

# what can't be started is installed all the same
: >"$with_systemd/tmp/fails"
does --install "$first" <<<$reload$'\n'"$enable"
says 'not started'
does --install "$second" <<<$reload$'\n'$reload$'\n'"$restart"
says 'not started'

# the verifier wants to see what the units name
ln -s busybox "$with_systemd/bin/kill"
for unit in sysinit basic shutdown sockets; do echo '[Unit]' >"$with_systemd/usr/lib/systemd/system/$unit.target"; done
found=$(systemd-analyze verify --root="$with_systemd" --man=no $units 2>&1) || fail "systemd-analyze: $found"
[ -z "$found" ] || fail "systemd-analyze: $found"

rm -f "$second"
echo "test-deb: $first installs, starts, upgrades and goes"
