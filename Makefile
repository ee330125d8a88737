# One line per target; longer bodies are in scripts/. Everything that CI does can be typed here.

# cargo-nextest where it is installed: it runs tests apart and in parallel, and ends what hangs
RUN_TESTS := $(if $(shell command -v cargo-nextest),cargo nextest run,cargo test)

.PHONY: help build deb test-deb docs test-docs check tools unit scripted real test bench fuzz-check fuzz docker demo ci

help:     ## this list
	@sed -n 's/^\([a-z-]*\): *[a-z -]*## /\1\t/p' Makefile | expand -t 12
build:    ## the program, as it is shipped: target/release/dockershim
	scripts/build.sh
deb: build ## a Debian package of it
	scripts/deb.sh
test-deb: build ## the package installed, started, upgraded and removed in a root of its own (root)
	scripts/test-deb.sh
docs:     ## docs/configuration.md from the flags
	UPDATE_DOCS=1 cargo test --locked --lib configuration_page
test-docs: ## docs/quick-start.md as it stands, with its time, and every link of the documentation (root, Docker)
	scripts/test-docs.sh
check:    ## format, lints, documentation
	scripts/check.sh
tools:    ## installs what the tests need (Debian or Ubuntu, as root)
	scripts/install-test-tools.sh
unit:     ## pure tests and house rules, no root
	$(RUN_TESTS) --locked --lib --bins --test tidy --test wire --test fields --test killed --test quiet --test systemd --test migrate --test docs
scripted: ## the server before a scripted Engine, no root
	$(RUN_TESTS) --locked --test scripted
real:     ## the server before a real Engine of its own (root)
	cargo test --locked --test real
test:     tools check unit scripted real ## everything that can fail
bench:    ## how fast it is, beside the raw Engine
	cargo bench --locked --bench cri
	cargo bench --locked --bench cni
	cargo bench --locked --bench log
	cargo bench --locked --bench stream
fuzz-check: ## the fuzz targets, as far as they compile
	cargo check --locked --manifest-path fuzz/Cargo.toml
fuzz:     ## each fuzz target for a minute (cargo-fuzz, and a nightly toolchain)
	for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done
docker:   ## Docker, installed and started where there is none (Debian or Ubuntu, as root)
	scripts/docker.sh
demo:     ## a first pod, on this machine's Docker: docs/quick-start.md
	scripts/demo.sh
ci:       test fuzz-check test-deb test-docs ## what CI runs: the tests, the fuzz targets as far as they compile, the package, and the quick start
