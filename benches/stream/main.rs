//! How fast exec and port-forward are, and what they leave behind, beside the bare Engine and a direct connection:
//! `cargo bench --bench stream` (root, dockerd).
//!
//! ```text
//!          ┌── raw ─────────────────────hijack──▶ dockerd ─▶ a process
//!   bench ─┼── SPDY, WebSocket ─▶ dockershim ─▶ dockerd ─▶ a process
//!          ├── SPDY, WebSocket, tunnel ─▶ dockershim ─▶ a server in the bench
//!          └── direct ─────────────────────────TCP──▶ that server
//! ```
//!
//! All ways are taken in turn, so a machine that slows down slows all of them; another adapter (`--start`, `--socket`) is measured
//! in the same turns. What the client itself can do is the first line (`alone`). Beside each figure is what an adapter's process spent.
//! `--streams 10000` shows instead what is left in an adapter after so many streams.
//!
//! - `options`  the command line
//! - `world`    the engine, the adapters and their pods, the server
//! - `adapter`  an adapter that is started here
//! - `wire`     frames
//! - `client`   conversations
//! - `measure`  what is done, and its time

#[path = "../shared/adapter.rs"]
mod adapter;
mod client;
mod measure;
mod options;
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "made for the real-engine suite: it uses all of it, and what it can't go on without fails it"
)]
#[path = "../../tests/support/mod.rs"]
mod support;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;

use client::Until;
use measure::{Measure, Runner, Way};
use options::Options;
use world::{Holdings, World, machine_cpu, order};

fn main() -> anyhow::Result<()> {
    support::run_as_helper();
    let options = Options::from_command_line();
    let outcome = run(&options);
    support::workspace::end();
    outcome
}

fn run(options: &Options) -> anyhow::Result<()> {
    let world = World::build(options)?;
    let out = &mut std::io::stdout().lock();
    let done = match options.streams {
        Some(number) => many(out, &world, number),
        None => race(out, &world, options),
    };
    let cleared = world.clear();
    done.and(cleared)
}

/// Figures of one way, and the CPU time that its adapter spent for each of them, and everybody.
#[derive(Default)]
struct Samples {
    values: Vec<f64>,
    cpu: Vec<Duration>,
    whole: Vec<Duration>,
    /// Why there is none.
    failure: Option<anyhow::Error>,
}

/// Everybody in turn; a line for each as soon as its measure is done.
fn race(out: &mut impl Write, world: &World, options: &Options) -> anyhow::Result<()> {
    let bytes = options.size << 20;
    let runner = |side, way| Runner { world, side, way, bytes };
    let own = world.sides.first().context("no adapter")?;
    let mut runners: Vec<_> = [Way::Alone, Way::Raw, Way::Relay, Way::Direct].map(|way| runner(own, way)).into();
    runners.extend(world.sides.iter().flat_map(|side| Way::THROUGH.map(|way| runner(side, way))));
    writeln!(
        out,
        "{} MiB; medians; rates in MB/s, times in ms; CPU of the adapter and of the whole machine in ms\n",
        options.size
    )?;
    writeln!(out, "{:<13} {:<24} {:>9} {:>9} {:>9} {:>9}", "", "", "figure", "of floor", "CPU", "machine")?;
    for measure in options.measures() {
        let mut samples = BTreeMap::<usize, Samples>::new();
        let times = if measure.is_rate() { options.rounds } else { options.repeats };
        for time in 0..times {
            for turn in 0..runners.len() {
                let at = (turn + time) % runners.len();
                if runners[at].way != Way::Alone || time < options.rounds {
                    sample(&runners[at], measure, samples.entry(at).or_default());
                }
            }
        }
        write(out, measure, &runners, samples)?;
    }
    Ok(())
}

/// One figure; a way that doesn't lead there has none, nor one that an adapter doesn't offer.
fn sample(runner: &Runner<'_>, measure: Measure, samples: &mut Samples) {
    if !measure.goes(runner.way) {
        return;
    }
    let cpu = || Holdings::of(runner.side.pid).map_or(Duration::ZERO, |holdings| holdings.cpu);
    let (before, machine) = (cpu(), machine_cpu());
    match runner.measure(measure) {
        Ok(value) => {
            samples.values.push(value);
            samples.cpu.push(cpu().saturating_sub(before));
            samples.whole.push(machine_cpu().saturating_sub(machine));
        }
        Err(error) => samples.failure = Some(error),
    }
}

fn write(
    out: &mut impl Write,
    measure: Measure,
    runners: &[Runner<'_>],
    samples: BTreeMap<usize, Samples>,
) -> anyhow::Result<()> {
    let mut floor = None;
    for (runner, mut samples) in samples.into_iter().map(|(at, samples)| (&runners[at], samples)) {
        let through = Way::THROUGH.contains(&runner.way);
        let name =
            if through { format!("{}, {:?}", runner.side.name, runner.way) } else { format!("{:?}", runner.way) };
        if samples.values.is_empty() {
            if let Some(failure) = samples.failure {
                writeln!(out, "{:<13} {name:<24} {failure:#}", format!("{measure:?}"))?;
            }
            continue;
        }
        samples.values.sort_by(f64::total_cmp);
        samples.cpu.sort();
        samples.whole.sort();
        let middle = samples.values.len() / 2;
        let value = samples.values[middle];
        let is_floor = matches!(runner.way, Way::Raw | Way::Direct);
        floor = if is_floor { Some(value) } else { floor };
        let ratio = floor.map_or_else(String::new, |floor| format!("{:.2}", value / floor));
        let cpu = if through { format!("{:.1}", samples.cpu[middle].as_secs_f64() * 1000.0) } else { String::new() };
        let whole = samples.whole[middle].as_secs_f64() * 1000.0;
        writeln!(out, "{:<13} {name:<24} {value:>9.1} {ratio:>9} {cpu:>9} {whole:>9.0}", format!("{measure:?}"))?;
        out.flush()?;
    }
    Ok(())
}

/// Many streams through each adapter, in rounds: ten execs, by SPDY and WebSocket in turn, and connections of port-forward, ninety on
/// one of the client's (thirty over WebSocket, which has no more channels for them than 128).
fn many(out: &mut impl Write, world: &World, number: usize) -> anyhow::Result<()> {
    for side in &world.sides {
        let runner = |way| Runner { world, side, way, bytes: 0 };
        let tell = |out: &mut dyn Write, when: &str| -> anyhow::Result<()> {
            let Holdings { resident_kib, threads, files, .. } = Holdings::of(side.pid)?;
            Ok(writeln!(out, "{}: {resident_kib} KiB, {threads} threads, {files} open files {when}", side.name)?)
        };
        tell(out, "before")?;
        let mut done = 0;
        for round in 0.. {
            for exec in 0..10 {
                let way = if exec % 2 == 0 { Way::Spdy } else { Way::WebSocket };
                runner(way).exec("echo x", false)?.0.take_in(Until::End)?;
            }
            let way = [Way::Spdy, Way::Tunnel, Way::WebSocket][round % 3];
            let connections = if way == Way::WebSocket { 30 } else { 90 };
            let mut talk = runner(way).connections(connections)?;
            talk.say(&order(1000, 0))?;
            talk.take_in(Until::Bytes(1000 * connections))?;
            done += 10 + connections;
            if done >= number {
                break;
            }
            if [0, 9, 49].contains(&round) {
                tell(out, &format!("after {done} streams"))?;
            }
        }
        tell(out, &format!("after {done} streams"))?;
        std::thread::sleep(Duration::from_secs(15));
        tell(out, "15 s later")?;
    }
    Ok(())
}
