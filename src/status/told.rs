//! What a running dockershim tells of itself: the `info` of a verbose Status, each part of it one object under its name. The daemon
//! writes it, `dockershim status` reads it; what one of an older version doesn't tell is empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::figures::{Failure, Reading};
use crate::log::Counts;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Told {
    /// The process itself.
    pub daemon: Own,
    /// Docker.
    pub engine: Engine,
    /// What exists.
    pub index: Index,
    /// Container logs.
    pub logs: Logs,
    /// Image pulls under way, the oldest first.
    pub pulls: Vec<Pull>,
    /// Exec, attach and port-forward.
    pub streams: BTreeMap<String, Streams>,
    /// RPCs that failed, the latest first.
    pub failures: Vec<Failure>,
}

/// The process itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Own {
    /// Of dockershim.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Nanoseconds since the epoch.
    pub started_at_ns: i64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// CPU time spent, in seconds.
    pub cpu_s: f64,
}

/// Docker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Engine {
    /// Of Docker.
    pub version: String,
    /// The API version that is spoken, once one is agreed.
    pub api_version: Option<String>,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `overlay2`, …
    pub storage_driver: String,
    /// How long the last look whether it still lists took, in milliseconds.
    pub heartbeat_ms: Option<f64>,
    /// Since a listing last came to its end, in seconds.
    pub listed_before_s: Option<f64>,
    /// Calls that only read.
    pub reads: Latency,
    /// Calls that change something; without stops and pulls, which take what they are given.
    pub writes: Latency,
}

/// How long something takes, since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Latency {
    /// How often it was done.
    pub count: u64,
    /// How often it failed.
    pub failed: u64,
    /// Half of them took no longer; None for none.
    pub p50_ms: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<f64>,
}

impl Latency {
    /// As counted.
    pub fn of(took: &Reading, failed: u64) -> Self {
        let ms = |percent| took.quantile(percent).map(|time| time.as_secs_f64() * 1e3);
        Latency { count: took.count(), failed, p50_ms: ms(50), p99_ms: ms(99) }
    }
}

/// What exists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Index {
    /// It is whole, and events keep it so.
    pub synced: bool,
    /// Differences to the engine's listing that were found: lost events.
    pub differences_found: u64,
    /// The engine's last failure.
    pub last_failure: Option<String>,
    /// From the engine's stamp on an event to its being taken in.
    pub event_lag: Latency,
    /// Pods, by state.
    pub pods: BTreeMap<String, u64>,
    /// Containers, by state.
    pub containers: BTreeMap<String, u64>,
    /// Images.
    pub images: u64,
}

/// Container logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logs {
    /// Logs that are followed.
    pub followed: u64,
    /// What has been counted.
    pub since_start: Counts,
    /// Bounds of the lag's classes, in milliseconds.
    pub lag_bounds_ms: Vec<u64>,
    /// From Docker's stamp on a batch's first line to its being written.
    pub lag: Latency,
}

/// An image pull under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pull {
    /// As it was asked for.
    pub image: String,
    /// Layers known.
    pub layers: u64,
    /// Layers that are there.
    pub layers_done: u64,
    /// Bytes downloaded.
    pub bytes: u64,
    /// Bytes to be downloaded, as far as they are known.
    pub of_bytes: u64,
    /// How long it has taken, in seconds.
    pub for_s: f64,
    /// Since anything has moved, in seconds.
    pub still_s: f64,
}

/// Streams of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Streams {
    /// Open now.
    pub open: u64,
    /// Ever opened.
    pub opened: u64,
}

impl Told {
    /// As the `info` of a reply.
    pub fn into_info(self) -> BTreeMap<String, String> {
        let parts = match serde_json::to_value(self) {
            Ok(Value::Object(parts)) => parts,
            // no map of ours has keys that are no strings
            _ => return BTreeMap::new(),
        };
        parts.into_iter().map(|(name, part)| (name, part.to_string())).collect()
    }

    /// Out of the `info` of a reply: what can be understood of it.
    pub fn from_info(info: &BTreeMap<String, String>) -> Told {
        let mut told = Told::default();
        take(info, "daemon", &mut told.daemon);
        take(info, "engine", &mut told.engine);
        take(info, "index", &mut told.index);
        take(info, "logs", &mut told.logs);
        take(info, "pulls", &mut told.pulls);
        take(info, "streams", &mut told.streams);
        take(info, "failures", &mut told.failures);
        told
    }
}

fn take<T: serde::de::DeserializeOwned>(info: &BTreeMap<String, String>, name: &str, into: &mut T) {
    if let Some(part) = info.get(name).and_then(|text| serde_json::from_str(text).ok()) {
        *into = part;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::busy;
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let info = busy().into_info();
        assert_eq!(Told::from_info(&info), busy());
        assert_eq!(info.len(), 7);
    }

    #[test]
    fn what_others_tell_is_taken_as_far_as_it_goes() {
        let info = |name: &str, text: &str| BTreeMap::from([(name.to_owned(), text.to_owned())]);
        let index = Told::from_info(&info("index", r#"{"synced": true, "shape": 7}"#)).index;
        assert_eq!(index, Index { synced: true, ..Index::default() });
        assert_eq!(Told::from_info(&info("index", r#"{"synced": "perhaps"}"#)), Told::default());
        assert_eq!(Told::from_info(&info("config", "{}")), Told::default());
    }

    proptest! {
        #[test]
        fn nothing_that_is_told_makes_it_panic(name in "daemon|engine|index|logs|pulls|streams|failures", text in ".*") {
            Told::from_info(&BTreeMap::from([(name, text)]));
        }
    }
}
