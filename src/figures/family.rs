//! What is told to Prometheus: name, type, labels and a sentence for each. A value is told through its family alone, so that what is
//! listed and what is sent can't differ. Pure.

/// How a family's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They come and go.
    Gauge,
    /// Durations in classes.
    Histogram,
}

/// A kind of figure.
#[derive(Debug)]
pub struct Family {
    /// Without the `_total` that values of counters have.
    pub name: &'static str,
    /// What it tells, and in which unit.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

macro_rules! families {
    ($($ident:ident $name:literal $kind:ident [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $ident: Family = Family { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };
        )*
        /// All of them, by name.
        pub static ALL: &[&Family] = &[$(&$ident),*];
    };
}

families! {
    BUILD "dockershim_build" Gauge ["version"]
        "1, with the version that runs.";
    CNI_CALL_SECONDS "dockershim_cni_call_seconds" Histogram ["plugin", "verb"]
        "How long runs of CNI plugins took, in seconds.";
    CNI_FAILURES "dockershim_cni_failures" Counter ["plugin", "verb"]
        "Runs of CNI plugins that failed.";
    CONTAINERS "dockershim_containers" Gauge ["state"]
        "Containers in the index.";
    ENGINE_CALL_SECONDS "dockershim_engine_call_seconds" Histogram ["call"]
        "How long the engine took until its answer began, in seconds.";
    ENGINE_FAILURES "dockershim_engine_failures" Counter ["call", "cause"]
        "Calls that the engine refused (4xx, 5xx), that it could not be reached for, or that were given up.";
    ENGINE_LISTING_AGE_SECONDS "dockershim_engine_listing_age_seconds" Gauge []
        "Since the engine last completed a listing, in seconds; after 10 the runtime is not ready.";
    EVENT_LAG_SECONDS "dockershim_event_lag_seconds" Histogram []
        "From the engine's stamp on an event to its being taken in, in seconds.";
    IMAGES "dockershim_images" Gauge []
        "Images in the index.";
    INDEX_DIFFERENCES "dockershim_index_differences" Counter []
        "Differences that holding the index against the engine's listing has found: events that were lost.";
    INDEX_SYNCED "dockershim_index_synced" Gauge []
        "1 while the engine's events are followed, else 0.";
    LOG_BYTES "dockershim_log_bytes" Counter []
        "Bytes written to container logs.";
    LOG_DAMAGED_LINES "dockershim_log_damaged_lines" Counter []
        "Lines of Docker's that were no whole ones.";
    LOG_GAPS "dockershim_log_gaps" Counter []
        "Times that Docker removed a file which had not been read to its end, or may not have been.";
    LOG_LAG_SECONDS "dockershim_log_lag_seconds" Histogram []
        "From Docker's stamp on a batch's first line to its being written, in seconds.";
    LOG_LATE_DRAINS "dockershim_log_late_drains" Counter []
        "Containers whose end was told before their log was whole.";
    LOG_LINES "dockershim_log_lines" Counter []
        "Lines written to container logs.";
    PODS "dockershim_pods" Gauge ["state"]
        "Pod sandboxes in the index.";
    PULLS "dockershim_pulls" Gauge []
        "Image pulls under way.";
    RPC_FAILURES "dockershim_rpc_failures" Counter ["rpc", "code"]
        "RPCs that failed, by gRPC's name of the status; Cancelled are those whose client went away.";
    RPC_SECONDS "dockershim_rpc_seconds" Histogram ["rpc"]
        "How long RPCs took, in seconds; those that stream, to the stream's end.";
    STREAMS "dockershim_streams" Gauge ["kind"]
        "Streams that are open.";
    STREAMS_OPENED "dockershim_streams_opened" Counter ["kind"]
        "Streams that have been opened.";
    PROCESS_CPU_SECONDS "process_cpu_seconds" Counter []
        "CPU time spent, in seconds.";
    PROCESS_OPEN_FDS "process_open_fds" Gauge []
        "File descriptors that are open.";
    PROCESS_RESIDENT_MEMORY_BYTES "process_resident_memory_bytes" Gauge []
        "Resident memory, in bytes.";
    PROCESS_START_TIME_SECONDS "process_start_time_seconds" Gauge []
        "When the process was started, in seconds since the epoch.";
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../docs/prometheus.md");

    #[test]
    fn names_are_sorted_and_each_stands_once() {
        assert!(ALL.is_sorted_by(|one, next| one.name < next.name));
    }

    #[test]
    fn the_documented_list_is_the_real_one() {
        let row = |family: &&Family| {
            let (kind, suffix) = match family.kind {
                Kind::Counter => ("counter", "_total"),
                Kind::Gauge => ("gauge", ""),
                Kind::Histogram => ("histogram", ""),
            };
            format!("| `{}{suffix}` | {kind} | {} | {} |", family.name, family.labels.join(", "), family.help)
        };
        let wanted: Vec<String> = ALL.iter().map(row).collect();
        let documented: Vec<&str> = DOCS.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(documented, wanted, "docs/prometheus.md should have:\n{}", wanted.join("\n"));
    }
}
