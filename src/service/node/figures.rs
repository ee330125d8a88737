//! How we are doing, gathered from all rooms: for a verbose Status, and for Prometheus. Reads memory, and `/proc` of our own process;
//! asks neither the engine nor a plugin.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::figures::{Exposition, Timed, family};
use crate::index::model::State;
use crate::log::LAG_BOUNDS;
use crate::process;
use crate::service::Daemon;
use crate::status::told;

/// Engine calls that wait for what they are told to wait for.
const PATIENT: [&str; 2] = ["POST /containers/{id}/stop", "POST /images/create"];

/// How many there are in each state.
struct Sizes {
    pods: [(&'static str, u64); 2],
    containers: [(&'static str, u64); 4],
    images: u64,
}

impl Daemon {
    /// For a verbose Status.
    pub(super) fn told(&self) -> told::Told {
        let own = process::own();
        let streams =
            self.streams.counts().map(|(kind, (open, opened))| (kind.to_owned(), told::Streams { open, opened }));
        told::Told {
            daemon: told::Own {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started_at_ns: self.started_at_ns,
                resident_bytes: own.resident_bytes,
                open_files: own.open_files,
                cpu_s: own.cpu.as_secs_f64(),
            },
            engine: self.told_of_engine(),
            index: self.told_of_index(),
            logs: told::Logs {
                followed: count(self.pumps.followed()),
                since_start: self.pumps.counts(),
                lag_bounds_ms: LAG_BOUNDS.iter().filter_map(|bound| u64::try_from(bound.as_millis()).ok()).collect(),
                lag: told::Latency::of(&self.pumps.lag(), 0),
            },
            pulls: self.told_of_pulls(),
            streams: streams.into(),
            failures: self.failures.read(),
        }
    }

    fn told_of_engine(&self) -> told::Engine {
        let (health, facts) = (self.index.health(), self.index.facts().unwrap_or_default());
        let latency = |wanted: fn(&str) -> bool| {
            let (took, failed) = self.engine.calls().sum(|call| wanted(call) && !PATIENT.contains(call));
            told::Latency::of(&took, failed)
        };
        told::Engine {
            version: facts.version.version.clone(),
            api_version: self.engine.api().map(|api| api.to_string()),
            cgroup_driver: facts.info.cgroup_driver.clone(),
            cgroup_version: facts.info.cgroup_version.clone(),
            storage_driver: facts.info.driver.clone(),
            heartbeat_ms: health.heartbeat.map(|took| took.as_secs_f64() * 1e3),
            listed_before_s: health.listed_at.map(|at| at.elapsed().as_secs_f64()),
            reads: latency(|call| call.starts_with("GET ") || call.starts_with("HEAD ")),
            writes: latency(|call| !call.starts_with("GET ") && !call.starts_with("HEAD ")),
        }
    }

    fn told_of_index(&self) -> told::Index {
        let (health, Sizes { pods, containers, images }) = (self.index.health(), self.sizes());
        told::Index {
            synced: health.synced,
            differences_found: health.differences,
            last_failure: health.failure,
            event_lag: told::Latency::of(&self.index.event_lag(), 0),
            pods: by_name(pods),
            containers: by_name(containers),
            images,
        }
    }

    fn told_of_pulls(&self) -> Vec<told::Pull> {
        let pulls = self.pulls.read().into_iter().map(|(image, took, progress)| told::Pull {
            image,
            layers: count(progress.layers),
            layers_done: count(progress.done),
            bytes: progress.bytes,
            of_bytes: progress.of_bytes,
            for_s: took.as_secs_f64(),
            still_s: progress.still.as_secs_f64(),
        });
        pulls.collect()
    }

    /// For Prometheus.
    pub fn exposition(&self) -> Exposition {
        let mut told = Exposition::default();
        told.count(&family::BUILD, &[env!("CARGO_PKG_VERSION")], 1);
        self.expose_calls(&mut told);
        self.expose_index(&mut told);
        self.expose_work(&mut told);
        let own = process::own();
        told.seconds(&family::PROCESS_CPU_SECONDS, &[], own.cpu);
        told.count(&family::PROCESS_OPEN_FDS, &[], own.open_files);
        told.count(&family::PROCESS_RESIDENT_MEMORY_BYTES, &[], own.resident_bytes);
        let started = Duration::from_nanos(u64::try_from(self.started_at_ns).unwrap_or(0));
        told.seconds(&family::PROCESS_START_TIME_SECONDS, &[], started);
        told
    }

    fn expose_calls(&self, told: &mut Exposition) {
        for Timed { name, took, failures } in self.rpcs.read() {
            told.durations(&family::RPC_SECONDS, &[name], took);
            failures.iter().for_each(|(code, times)| told.count(&family::RPC_FAILURES, &[name, code], *times));
        }
        for Timed { name, took, failures } in self.engine.calls().read() {
            told.durations(&family::ENGINE_CALL_SECONDS, &[name], took);
            failures.iter().for_each(|(cause, times)| told.count(&family::ENGINE_FAILURES, &[name, cause], *times));
        }
        for Timed { name: (plugin, verb), took, failures } in self.cni.calls().read() {
            let verb = verb.to_string();
            told.durations(&family::CNI_CALL_SECONDS, &[&plugin, &verb], took);
            failures.values().for_each(|times| told.count(&family::CNI_FAILURES, &[&plugin, &verb], *times));
        }
    }

    fn expose_index(&self, told: &mut Exposition) {
        let (health, Sizes { pods, containers, images }) = (self.index.health(), self.sizes());
        pods.into_iter().for_each(|(state, size)| told.count(&family::PODS, &[state], size));
        containers.into_iter().for_each(|(state, size)| told.count(&family::CONTAINERS, &[state], size));
        told.count(&family::IMAGES, &[], images);
        told.count(&family::INDEX_DIFFERENCES, &[], health.differences);
        told.count(&family::INDEX_SYNCED, &[], u64::from(health.synced));
        if let Some(at) = health.listed_at {
            told.seconds(&family::ENGINE_LISTING_AGE_SECONDS, &[], at.elapsed());
        }
        told.durations(&family::EVENT_LAG_SECONDS, &[], self.index.event_lag());
    }

    fn expose_work(&self, told: &mut Exposition) {
        let counts = self.pumps.counts();
        told.count(&family::LOG_BYTES, &[], counts.bytes);
        told.count(&family::LOG_LINES, &[], counts.lines);
        told.count(&family::LOG_DAMAGED_LINES, &[], counts.damaged);
        told.count(&family::LOG_GAPS, &[], counts.gaps);
        told.count(&family::LOG_LATE_DRAINS, &[], counts.late_drains);
        told.durations(&family::LOG_LAG_SECONDS, &[], self.pumps.lag());
        told.count(&family::PULLS, &[], count(self.pulls.read().len()));
        for (kind, (open, opened)) in self.streams.counts() {
            told.count(&family::STREAMS, &[kind], open);
            told.count(&family::STREAMS_OPENED, &[kind], opened);
        }
    }

    fn sizes(&self) -> Sizes {
        let table = self.index.table();
        let pods = |ready| count(table.sandboxes().filter(|sandbox| sandbox.ready == ready).count());
        let containers = |state| count(table.containers().filter(|container| container.state == state).count());
        Sizes {
            pods: [("ready", pods(true)), ("notready", pods(false))],
            containers: [
                ("created", containers(State::Created)),
                ("running", containers(State::Running)),
                ("exited", containers(State::Exited)),
                ("unknown", containers(State::Unknown)),
            ],
            images: count(self.index.images().all().len()),
        }
    }
}

fn by_name<const N: usize>(sizes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    sizes.map(|(state, size)| (state.to_owned(), size)).into()
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
