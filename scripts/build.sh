#!/usr/bin/env bash
# Builds the program as it is shipped, one static file, and links it to target/release/dockershim. It is static by the C library at
# hand: any toolchain for Linux brings what that takes. Prints where the program is.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc --version --verbose | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-target}
# with --target, build scripts and macros keep out of it: they can't be static
RUSTFLAGS="${RUSTFLAGS:-} -Ctarget-feature=+crt-static" cargo build --release --locked --target "$target" --bin dockershim
mkdir -p "$out/release"
ln -f "$out/$target/release/dockershim" "$out/release/dockershim"
echo "$out/release/dockershim"
