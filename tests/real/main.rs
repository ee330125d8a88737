//! The real `dockershim` binary on a real Docker Engine that the suite starts for itself. Nothing is simulated here: what a real
//! engine can't be made to show is tested in `tests/scripted`.
//!
//! Needs root and the packages of `scripts/install-test-tools.sh`; without them it fails, it never skips. Run by `make real`, or
//! with a filter: `cargo test --test real -- exec::`. Most tests share one engine and one dockershim and run beside each other, each
//! with pods of its own; what kills or counts has an engine of its own.
//!
//! - `lab`        the shared engine, a test's own pods, and what clears them away
//! - `pod`        sandboxes: whole life, exact round trips, filters, idempotence
//! - `container`  containers: life, exit codes and reasons, users, names held by others
//! - `stop`       grace periods, ends in parallel, a shorter grace that overtakes a longer one
//! - `logs`       CRI log files: format, partial lines, reopening
//! - `log_places` where logs can't be written, links, other log drivers, removal
//! - `pump`       logs under SIGKILL, rotation and bursts: every line once
//! - `shipper`    rsyslog reads a log across rotations
//! - `exec`       ExecSync: output, exit codes, timeout, limits
//! - `streams`    exec, attach and port-forward over SPDY and WebSocket, by the clients in `stream_client` and one of npm's
//! - `stream_holdings` what streams cost while they are stalled, and what is left of many
//! - `resources`  limits, updates, statistics, what the kubelet sends on cgroup v2, oom_score_adj
//! - `stats`      statistics and metrics of known work, against the kernel's own word
//! - `defaults`   an engine whose daemon.json has other defaults for everything
//! - `mounts`     propagation, links, a thousand at once
//! - `security`   what a security context asks for, held against the container
//! - `hostile`    images whose configuration means harm
//! - `images`     pull, status, list, removal, the pinned pause image
//! - `network`    bridge, host network, ports, DNS, sysctls, namespaces
//! - `bare`       CNI pods whose network namespace the Engine leaves alone: files of /etc, restarts, many at once
//! - `cni`        networks by Debian's plugins: traffic, DEL whatever is gone, failures that leave nothing
//! - `refusals`   bad input by field, what the transport refuses, and that nothing is left behind
//! - `crash`      SIGKILL at any time, engines that go and come, a second dockershim
//! - `cost`       engine calls per RPC
//! - `events`     GetContainerEvents under many ends, what a restart of ours keeps of a pod, lists in batches
//! - `takeover`   pods that cri-dockerd has left are taken over as they run, and handed back
//! - `migrate_page` docs/migrate.md as it stands, on a node of cri-dockerd
//! - `check`      `dockershim check`
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "what a test can't go on without fails it; a suite speaks to who runs it"
)]

mod bare;
mod check;
mod cni;
mod container;
mod cost;
mod crash;
mod defaults;
mod events;
mod exec;
mod hostile;
mod images;
mod lab;
mod log_places;
mod logs;
mod migrate_page;
mod mounts;
mod network;
mod pod;
mod pump;
mod refusals;
mod resources;
mod security;
mod shipper;
mod stats;
mod stop;
mod stream_client;
mod stream_holdings;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod takeover;

use std::process::ExitCode;

use libtest_mimic::Arguments;

/// Tests that run beside each other, unless `--test-threads` says otherwise: they wait more than they work.
const THREADS: usize = 4;

fn main() -> ExitCode {
    support::run_as_helper();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let parts = [
        pod::trials(),
        container::trials(),
        stop::trials(),
        logs::trials(),
        migrate_page::trials(),
        log_places::trials(),
        pump::trials(),
        shipper::trials(),
        exec::trials(),
        streams::trials(),
        stream_holdings::trials(),
        resources::trials(),
        stats::trials(),
        mounts::trials(),
        security::trials(),
        defaults::trials(),
        hostile::trials(),
        images::trials(),
        network::trials(),
        bare::trials(),
        cni::trials(),
        refusals::trials(),
        crash::trials(),
        cost::trials(),
        events::trials(),
        takeover::trials(),
        check::trials(),
    ];
    let conclusion = libtest_mimic::run(&arguments, parts.into_iter().flatten().collect());
    let left = lab::left_behind();
    support::workspace::end();
    if left.is_empty() {
        return conclusion.exit_code();
    }
    eprintln!("containers left behind: {left:?}");
    ExitCode::FAILURE
}
