#!/usr/bin/env bash
# deb.sh [SUFFIX]: makes a Debian package of what scripts/build.sh has built, with dpkg-deb alone; prints where it is. A suffix makes the
# version a later one of the same program.
set -euo pipefail
cd "$(dirname "$0")/.."

target_dir=${CARGO_TARGET_DIR:-target}
program=$target_dir/release/dockershim
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)${1:-}
architecture=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"

put() { install -D -m "$1" "$2" "$root/$3"; }
put 0755 "$program" usr/bin/dockershim
put 0644 deploy/systemd/dockershim.service usr/lib/systemd/system/dockershim.service
put 0644 deploy/systemd/dockershim.socket usr/lib/systemd/system/dockershim.socket
"$program" config default | put 0644 /dev/stdin etc/dockershim/config.toml
doc=usr/share/doc/dockershim
for page in README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md docs/*; do put 0644 "$page" "$doc/$page"; done
# what the pages call deploy/ is examples/ here
sed -i 's|(\.\./deploy/|(../examples/|g' "$root/$doc"/docs/*.md
sed -i 's|(LICENSE)|(copyright)|' "$root/$doc/README.md"
put 0644 LICENSE "$doc/copyright"
for example in crictl.yaml kubelet/20-dockershim.conf kubelet/config-dir/20-dockershim.conf; do
    put 0644 "deploy/$example" "$doc/examples/$example"
done

size=$(du --summarize --apparent-size --block-size=1024 "$root" | cut -f 1)
mkdir "$root/DEBIAN"
sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/" deploy/debian/control >"$root/DEBIAN/control"
install -m 0644 deploy/debian/conffiles "$root/DEBIAN/conffiles"
install -m 0755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$root/DEBIAN/"
package=$target_dir/dockershim_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
