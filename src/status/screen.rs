//! The screen: what is told, in words and units for people. Pure.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use super::told::{Engine, Index, Latency, Logs, Own, Pull, Told};
use crate::cri;
use crate::figures::Failure;
use crate::log::Counts;

/// How much of a failure's message is shown.
const LONGEST_MESSAGE: usize = 300;

/// What is shown.
pub(super) struct Screen<'a> {
    /// Who was asked.
    pub(super) socket: &'a Path,
    pub(super) conditions: &'a [cri::RuntimeCondition],
    pub(super) ready: bool,
    pub(super) told: &'a Told,
    /// Nanoseconds since the epoch.
    pub(super) now_ns: i64,
}

impl Display for Screen<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Told { daemon, engine, index, logs, pulls, streams, failures } = self.told;
        let state = if self.ready { "ready" } else { "NOT READY" };
        writeln!(f, "dockershim {} on {}: {state}", daemon.version, self.socket.display())?;
        for cri::RuntimeCondition { r#type, status, reason, message } in self.conditions {
            match status {
                true => row(f, r#type, "yes")?,
                false => row(f, r#type, format!("NO, {reason}: {message}"))?,
            }
        }
        writeln!(f)?;
        row(f, "process", self.process(daemon))?;
        engine.show(f)?;
        index.show(f)?;
        logs.show(f)?;
        let open = streams.iter().map(|(kind, streams)| (kind.clone(), streams.open)).collect();
        row(f, "streams", format!("{}; {} since the start", counts(&open), sum(streams.values().map(|it| it.opened))))?;
        for pull in pulls {
            pull.show(f)?;
        }
        for (at, failure) in failures.iter().enumerate() {
            if at == 0 {
                writeln!(f, "\nlast failures")?;
            }
            self.failure(f, failure)?;
        }
        Ok(())
    }
}

impl Screen<'_> {
    fn process(&self, own: &Own) -> String {
        let Own { version: _, pid, started_at_ns, resident_bytes, open_files, cpu_s } = own;
        let up = age(self.now_ns - started_at_ns);
        format!("{pid}, up {up}, {}, {open_files} open files, {cpu_s:.1} s of CPU", size(*resident_bytes))
    }

    fn failure(&self, f: &mut Formatter<'_>, failure: &Failure) -> fmt::Result {
        let Failure { at_ns, times, rpc, code, pod, container, message } = failure;
        let mut what = rpc.clone();
        if !pod.is_empty() {
            what.push_str(&format!(" of {pod}"));
        }
        if !container.is_empty() {
            what.push_str(&format!(" ({container})"));
        }
        let times = if *times > 1 { format!(", {times} times") } else { String::new() };
        row(f, &format!("  {} ago", age(self.now_ns - at_ns)), format!("{what}: {code}{times}"))?;
        let line: String =
            message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect();
        let cut = if message.chars().count() > LONGEST_MESSAGE { "…" } else { "" };
        row(f, "", format!("{line}{cut}"))
    }
}

impl Engine {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Engine { version, api_version, cgroup_driver, cgroup_version, storage_driver, .. } = self;
        let Engine { heartbeat_ms, listed_before_s, reads, writes, .. } = self;
        match api_version {
            None => return row(f, "engine", "not reached yet"),
            Some(api) => row(
                f,
                "engine",
                format!("Docker {version}, API {api}, {storage_driver}, cgroup v{cgroup_version} by {cgroup_driver}"),
            )?,
        }
        let took = heartbeat_ms.map_or_else(|| "none yet".to_owned(), |ms| format!("{ms:.1} ms"));
        let ago = listed_before_s.map_or_else(String::new, |s| format!(", {s:.1} s ago"));
        row(f, "  heartbeat", format!("{took}{ago}"))?;
        row(f, "  reads", reads)?;
        row(f, "  writes", writes)
    }
}

impl Index {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Index { synced, differences_found, last_failure, event_lag, pods, containers, images } = self;
        let state = if *synced { "in step with the engine" } else { "NOT in step with the engine" };
        row(f, "index", format!("{state}, {differences_found} differences found since the start"))?;
        if let Some(failure) = last_failure {
            row(f, "  last failure", failure)?;
        }
        row(f, "  event lag", event_lag)?;
        row(f, "pods", counts(pods))?;
        row(f, "containers", counts(containers))?;
        row(f, "images", images)
    }
}

impl Logs {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Logs { followed, since_start, lag_bounds_ms: _, lag } = self;
        let (lines, bytes) = (since_start.lines, size(since_start.bytes));
        row(f, "logs", format!("{followed} followed; {lines} lines, {bytes} since the start"))?;
        let Counts { gaps, damaged, late_drains, .. } = since_start;
        let trouble = [("gaps", *gaps), ("damaged", *damaged), ("late", *late_drains)];
        if trouble.iter().any(|(_, count)| *count > 0) {
            row(f, "  trouble", counts(&trouble.map(|(what, count)| (what.to_owned(), count)).into()))?;
        }
        row(f, "  lag", lag)
    }
}

impl Pull {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Pull { image, layers, layers_done, bytes, of_bytes, for_s, still_s } = self;
        let still = if *still_s >= 5.0 { format!(", nothing has moved for {still_s:.0} s") } else { String::new() };
        let bytes = format!("{} of {}", size(*bytes), size(*of_bytes));
        row(f, "pull", format!("{image}: {layers_done} of {layers} layers, {bytes} in {for_s:.0} s{still}"))
    }
}

impl Display for Latency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Latency { count, failed, p50_ms, p99_ms } = self;
        let (Some(p50), Some(p99)) = (p50_ms, p99_ms) else { return f.write_str("none yet") };
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms of {count}")?;
        if *failed > 0 { write!(f, ", {failed} failed") } else { Ok(()) }
    }
}

fn row(f: &mut Formatter<'_>, name: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "{name:<15} {text}")
}

/// `12 ready, 3 notready`; those of which there is none are left out.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let some = counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{count} {name}"));
    let some: Vec<String> = some.collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// `45 s`, `2 min`, `3 h 20 min`, `3 d 4 h`.
fn age(ns: i64) -> String {
    let s = (ns / 1_000_000_000).max(0);
    match (s / 86_400, s / 3600, s / 60) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, min) => format!("{min} min"),
        (0, h, min) => format!("{h} h {} min", min % 60),
        (d, h, _) => format!("{d} d {} h", h % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW_NS, busy};
    use super::*;

    fn condition(name: &str, trouble: &str) -> cri::RuntimeCondition {
        cri::RuntimeCondition {
            r#type: name.to_owned(),
            status: trouble.is_empty(),
            reason: if trouble.is_empty() { String::new() } else { "NotReady".to_owned() },
            message: trouble.to_owned(),
        }
    }

    fn shown(told: &Told, conditions: &[cri::RuntimeCondition]) -> String {
        let ready = conditions.iter().all(|condition| condition.status);
        Screen { socket: Path::new("/run/dockershim.sock"), conditions, ready, told, now_ns: NOW_NS }.to_string()
    }

    #[test]
    fn a_busy_daemon_fits_on_a_screen() {
        let conditions = [condition("RuntimeReady", ""), condition("NetworkReady", "")];
        let screen = shown(&busy(), &conditions);
        insta::assert_snapshot!(screen);
        assert!(screen.lines().count() <= 40);
    }

    #[test]
    fn one_that_never_reached_its_engine_says_why() {
        let mut told = Told::default();
        told.daemon.version = "0.1.0".to_owned();
        told.index.last_failure = Some("docker engine can't be reached: No such file or directory".to_owned());
        let conditions =
            [condition("RuntimeReady", "the engine has not been listed yet"), condition("NetworkReady", "")];
        insta::assert_snapshot!(shown(&told, &conditions));
    }

    #[test]
    fn ages_are_told_in_what_they_are_counted_in() {
        let seconds = [-5, 0, 59, 60, 3599, 3600, 86_399, 86_400, 1_000_000];
        let told = seconds.map(|s| age(s * 1_000_000_000));
        let wanted = ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 0 h", "11 d 13 h"];
        assert_eq!(told, wanted);
    }
}
