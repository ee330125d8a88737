#!/usr/bin/env bash
# A first pod on this machine: Docker from the distribution if there is none, dockershim on Docker's bridge with a socket and a state
# directory of its own, `dockershim check --run-pod`. Leaves nothing behind but Docker.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh

program=${CARGO_TARGET_DIR:-target}/release/dockershim
engine=/var/run/docker.sock
dir=$(mktemp -d /tmp/dockershim-demo.XXXXXX)
shim= dockerd= had_image=

docker_() { "${as_root[@]}" docker --host "unix://$engine" "$@"; }
images() { docker_ image ls --quiet --filter "reference=dockershim.invalid/pause"; }
step() { printf '\n== %s\n' "$*"; }

clean_up() {
    status=$?
    trap - EXIT
    if [ $status != 0 ] && [ -s "$dir/dockershim.log" ]; then
        echo "--- the end of dockershim's log"
        tail -n 40 "$dir/dockershim.log"
    fi
    end "$shim"
    if [ -n "$shim" ] && [ -z "$had_image" ]; then images | sort -u | while read -r id; do docker_ image rm --force "$id" >/dev/null; done; fi
    end "$dockerd"
    "${as_root[@]}" rm -rf "$dir"
    exit $status
}
# end PID: SIGTERM, and waits for the end.
end() {
    [ -n "$1" ] || return 0
    "${as_root[@]}" kill "$1" 2>/dev/null || return 0
    wait "$1" 2>/dev/null || true
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step "build"
scripts/build.sh

step "Docker"
want_docker
install_missing
if docker_ version >/dev/null 2>&1; then
    echo "runs already"
elif [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl start docker
    echo "started by systemd"
else
    "${as_root[@]}" dockerd --host "unix://$engine" >"$dir/dockerd.log" 2>&1 &
    dockerd=$!
    for _ in $(seq 150); do
        ! docker_ version >/dev/null 2>&1 || break
        kill -0 "$dockerd" 2>/dev/null || break
        sleep 0.2
    done
    docker_ version >/dev/null 2>&1 || { tail -n 20 "$dir/dockerd.log"; exit 1; }
    echo "started by hand, for as long as this takes"
fi
docker_ version --format 'Docker {{.Server.Version}}, API {{.Server.APIVersion}}'
had_image=$(images)

step "dockershim"
flags=(--docker-endpoint "unix://$engine" --network-plugin bridge)
"${as_root[@]}" "$program" "${flags[@]}" --container-runtime-endpoint "unix://$dir/cri.sock" --root-directory "$dir/state" \
    >"$dir/dockershim.log" 2>&1 &
shim=$!
for _ in $(seq 100); do
    if [ -S "$dir/cri.sock" ] || ! kill -0 $shim 2>/dev/null; then break; fi
    sleep 0.1
done

step "a pod, asked for as a kubelet would"
# what this machine lacks for service as a node is told, too, and no failure of the demonstration
{ "${as_root[@]}" "$program" check --run-pod "${flags[@]}" --container-runtime-endpoint "unix://$dir/cri.sock" \
    --root-directory "$dir/state" || true; } | tee "$dir/check.out"
grep -q 'steps passed in' "$dir/check.out"

step "to go on"
cat <<TEXT
sudo $program --network-plugin bridge      serves on /run/dockershim.sock; then
sudo crictl --runtime-endpoint unix:///run/dockershim.sock version
sudo crictl --runtime-endpoint unix:///run/dockershim.sock pods
sudo crictl --runtime-endpoint unix:///run/dockershim.sock runp pod.json
sudo crictl --runtime-endpoint unix:///run/dockershim.sock create POD container.json pod.json
sudo crictl --runtime-endpoint unix:///run/dockershim.sock start CONTAINER
sudo crictl --runtime-endpoint unix:///run/dockershim.sock logs CONTAINER
TEXT
