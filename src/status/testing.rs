//! A daemon that has something of everything to tell, for the tests of this room.

use super::told::{Engine, Index, Latency, Logs, Own, Pull, Streams, Told};
use crate::figures::Failure;
use crate::log::Counts;

/// When it is told, in nanoseconds since the epoch.
pub(super) const NOW_NS: i64 = 1_767_225_600_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn latency(count: u64, failed: u64, p50_ms: f64, p99_ms: f64) -> Latency {
    Latency { count, failed, p50_ms: Some(p50_ms), p99_ms: Some(p99_ms) }
}

pub(super) fn busy() -> Told {
    let counted = |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Told {
        daemon: Own {
            version: "0.1.0".to_owned(),
            pid: 4321,
            started_at_ns: NOW_NS - 273_600 * SECOND,
            resident_bytes: 9_856_614,
            open_files: 120,
            cpu_s: 92.34,
        },
        engine: Engine {
            version: "20.10.24".to_owned(),
            api_version: Some("1.41".to_owned()),
            cgroup_driver: "systemd".to_owned(),
            cgroup_version: "2".to_owned(),
            storage_driver: "overlay2".to_owned(),
            heartbeat_ms: Some(3.1),
            listed_before_s: Some(2.4),
            reads: latency(18_234, 3, 1.2, 8.04),
            writes: latency(120, 0, 61.0, 212.0),
        },
        index: Index {
            synced: true,
            differences_found: 2,
            last_failure: None,
            event_lag: latency(1200, 0, 0.4, 2.0),
            pods: counted(&[("ready", 12), ("notready", 3)]),
            containers: counted(&[("created", 1), ("running", 20), ("exited", 4), ("unknown", 0)]),
            images: 14,
        },
        logs: Logs {
            followed: 20,
            since_start: Counts { lines: 120_344, bytes: 10_800_000, gaps: 1, ..Counts::default() },
            lag_bounds_ms: vec![10, 25],
            lag: latency(400, 0, 12.0, 41.0),
        },
        pulls: vec![Pull {
            image: "registry.example/team/app:1.4".to_owned(),
            layers: 7,
            layers_done: 3,
            bytes: 12 << 20,
            of_bytes: 80 << 20,
            for_s: 32.2,
            still_s: 14.0,
        }],
        streams: [("exec", 1, 9), ("attach", 0, 0), ("portforward", 2, 8)]
            .map(|(kind, open, opened)| (kind.to_owned(), Streams { open, opened }))
            .into(),
        failures: vec![
            Failure {
                at_ns: NOW_NS - 125 * SECOND,
                times: 3,
                rpc: "StartContainer".to_owned(),
                code: "Internal".to_owned(),
                pod: "default/web".to_owned(),
                container: "main".to_owned(),
                message: "start container k8s_main_web: no space left on device".to_owned(),
            },
            Failure {
                at_ns: NOW_NS - 7300 * SECOND,
                times: 1,
                rpc: "PullImage".to_owned(),
                code: "Unknown".to_owned(),
                message: format!("RegistryUnavailable:\n{} and more", "x".repeat(400)),
                ..Failure::default()
            },
        ],
    }
}
