//! Quiet containers cost no wake-ups: a thousand pumps with nothing to do, and how often the threads of this process have gone to sleep
//! meanwhile. A process of its own, since every thread in it is counted.
#![expect(clippy::unwrap_used, reason = "what a test can't go on without fails it")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dockershim::id::ContainerId;
use dockershim::log::{Format, LogPath, Pumps};
use dockershim::record::Records;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

const CONTAINERS: usize = 1000;
const LINE: &str = "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n";
/// Longer than anything in a pump waits for by itself.
const TIME: Duration = Duration::from_secs(6);
/// What the runtime and this test may need for themselves.
const SWITCHES: u64 = 20;

#[test]
fn a_thousand_quiet_containers_wake_nobody() {
    raise_open_files();
    let dir = std::env::temp_dir().join(format!("dockershim-quiet-{}", std::process::id()));
    fs::create_dir_all(dir.join("pods")).unwrap();
    // what may block ends soon when there is no more to do
    let ends_soon = Duration::from_millis(100);
    let runtime =
        Builder::new_multi_thread().worker_threads(2).thread_keep_alive(ends_soon).enable_all().build().unwrap();
    let woken = runtime.block_on(async {
        let pumps = Pumps::new(Records::open(dir.join("positions")).unwrap(), Format::Cri);
        for number in 0..CONTAINERS {
            follow(&pumps, &dir, number).await;
        }
        let began = Instant::now();
        while pumps.counts().lines < 1000 {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", pumps.counts());
            sleep(Duration::from_millis(20)).await;
        }
        // the last positions are saved, and told
        sleep(Duration::from_secs(1)).await;
        let before = switches();
        sleep(TIME).await;
        let since = |(thread, count): (&String, &u64)| count - before.get(thread).copied().unwrap_or_default();
        switches().iter().map(since).sum::<u64>()
    });
    fs::remove_dir_all(dir).unwrap();
    assert!(woken <= SWITCHES, "{woken} wake-ups in {TIME:?}");
}

/// Follows a container that has printed a line.
async fn follow(pumps: &Pumps, dir: &Path, number: usize) {
    let spool = dir.join(format!("spool-{number}"));
    fs::create_dir(&spool).unwrap();
    fs::write(spool.join("X-json.log"), LINE).unwrap();
    let path = LogPath::new(dir.join("pods").to_str().unwrap(), &format!("{number}/0.log")).unwrap();
    pumps.follow(&ContainerId::new(format!("{number:064}")), spool.join("X-json.log"), path).await.unwrap();
}

/// How often each thread has gone to sleep.
fn switches() -> HashMap<String, u64> {
    let count = |thread: fs::DirEntry| {
        // one may have ended meanwhile
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((thread.file_name().into_string().ok()?, count.trim().parse().ok()?))
    };
    fs::read_dir("/proc/self/task").unwrap().filter_map(|thread| count(thread.unwrap())).collect()
}

/// A followed container holds two open files.
fn raise_open_files() {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).unwrap();
}
