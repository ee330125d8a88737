#!/usr/bin/env bash
# Installs what the tests need and the machine lacks. The tests start an engine and a registry of their own, with their own
# sockets and directories; the services that come with these packages are not used.
set -euo pipefail
. "$(dirname "$0")/install.sh"

want cc gcc
want dockerd docker.io
want runc runc
want containerd containerd
want ip iproute2
want rsyslogd rsyslog
want docker-registry docker-registry
want /bin/busybox busybox-static
want /usr/lib/cni/bridge containernetworking-plugins
install_missing

# a registry on port 5000 is nobody's wish
case " ${missing[*]-} " in
    *" docker-registry "*) [ ! -d /run/systemd/system ] || "${as_root[@]}" systemctl disable --now docker-registry ;;
esac

for component in fmt clippy; do
    cargo $component --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}"
done
