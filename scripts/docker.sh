#!/usr/bin/env bash
# A Docker that answers on its usual socket: installed from the distribution (Debian, Ubuntu) where there is none, started where it
# does not run, by systemd or, without it, by hand. One that answers is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

engine=unix:///var/run/docker.sock
by_hand=/var/log/dockerd-by-hand.log
docker_() { "${as_root[@]}" docker --host "$engine" "$@"; }
answers() { docker_ version >/dev/null 2>&1; }

want_docker
install_missing
if answers; then
    echo "Docker runs already"
elif [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl start docker
    echo "Docker has been started by systemd"
else
    "${as_root[@]}" sh -c "exec setsid dockerd --host $engine >$by_hand 2>&1 </dev/null" &
    for _ in $(seq 150); do
        if answers || ! "${as_root[@]}" kill -0 $!; then break; fi
        sleep 0.2
    done 2>/dev/null
    answers || { "${as_root[@]}" tail -n 20 "$by_hand"; exit 1; }
    echo "Docker has been started by hand; its log is $by_hand"
fi
docker_ version --format 'Docker {{.Server.Version}}, API {{.Server.APIVersion}}'
