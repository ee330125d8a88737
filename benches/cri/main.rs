//! How long CRI calls take, how many engine calls they make, and what that is beside the bare Docker API: `cargo bench --bench cri`.
//!
//! ```text
//!          ┌── the floor ─────────────HTTP──▶ counting proxy ──┐
//!   bench ─┤                                                   ├──▶ a private dockerd
//!          └──gRPC──▶ dockershim ─────HTTP──▶ counting proxy ──┘
//! ```
//!
//! All contestants live one pod's life at a time, step by step and in turn (A B, B A, A B, …), each among `--pods` standing pods of its
//! own: a machine that slows down slows all of them. Without arguments the contestants are this crate's dockershim on a private engine
//! (root needed) and, on the same engine, the same Docker calls made directly; `--start` adds other adapters, each with a
//! private engine of its own. With `NAME=unix://PATH` arguments they are these sockets, and `--docker` names the floor's engine. What a
//! socket's adapter asks of its engine can only be counted when it was started here. `--events` measures something else instead.
//!
//! Everything that was made is removed, also after a failure, Ctrl-C or SIGTERM; an engine that was not started here keeps nothing
//! but images that an adapter pins. The proxies cost each engine call some 50 µs, the floor's as well.
//!
//! - `options`    the command line
//! - `operation`  what is measured, in the order of a pod's life
//! - `world`      contestants, and the adapters and engines that are started for them
//! - `adapter`    an adapter that is started here
//! - `kubelet`    a contestant that is called by CRI
//! - `floor`      the contestant that is Docker itself
//! - `race`       the turns, the clock and the counter
//! - `events`     what `--events` measures instead
//! - `table`      medians and ratios

#[path = "../shared/adapter.rs"]
mod adapter;
mod events;
mod floor;
mod kubelet;
mod operation;
mod options;
mod race;
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "made for the real-engine suite: it uses all of it, and what it can't go on without fails it"
)]
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use options::Options;
use world::World;

fn main() -> anyhow::Result<()> {
    support::run_as_helper();
    let options = Options::from_command_line();
    let outcome = tokio::runtime::Runtime::new()?.block_on(run(&options));
    support::workspace::end();
    outcome
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    if let Some(number) = options.events {
        return events::run(&mut std::io::stdout().lock(), options, number, &stop).await;
    }
    let mut world = World::build(options)?;
    let raced = race::run(&mut world.contestants, options, &stop).await;
    // clearing up takes as long again, and may fail
    let told =
        raced.and_then(|results| table::write(&mut std::io::stdout().lock(), options, &world.contestants, &results));
    match (told, world.clear().await) {
        (Err(error), Err(left)) => Err(error.context(format!("something is left behind: {left:#}"))),
        (told, cleared) => told.and(cleared),
    }
}

/// Becomes true at Ctrl-C or SIGTERM. The call under way is waited for: what it makes can't be removed before it has answered.
fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (mut signal, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            signal.recv().await;
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(stop)
}
