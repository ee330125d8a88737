#!/usr/bin/env bash
# Installs what the tests need and the machine lacks. The tests start an engine and a registry of their own, with their own
# sockets and directories; the services that come with these packages are not used.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

want cc gcc
want dockerd docker.io
want runc runc
want containerd containerd
want ip iproute2
want rsyslogd rsyslog
want docker-registry docker-registry
want /bin/busybox busybox-static
want /usr/lib/cni/bridge containernetworking-plugins
want node nodejs
want npm npm
install_missing

# an implementation of SPDY that is not ours, where a test looks for it
npm_dir=${CARGO_TARGET_DIR:-target}/npm
NODE_PATH=$npm_dir/node_modules node -e 'require("spdy-transport")' 2>/dev/null ||
    npm install --prefix "$npm_dir" --no-save --no-package-lock --no-audit --no-fund --loglevel=error spdy-transport@3.0.0

# a registry on port 5000 is nobody's wish
case " ${missing[*]-} " in
    *" docker-registry "*) [ ! -d /run/systemd/system ] || "${as_root[@]}" systemctl disable --now docker-registry ;;
esac

for component in fmt clippy; do
    cargo $component --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}"
done
