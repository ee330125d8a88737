#!/usr/bin/env bash
# Format, lints and documentation; a warning is a failure. (clippy's --all-targets leaves out a test that is off by default: by name.)
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --locked --all-targets -- --deny warnings
cargo clippy --locked --test real -- --deny warnings
RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps --document-private-items
