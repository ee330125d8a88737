//! How fast logs are. `cargo bench --bench log` compares the converter with serde_json, and shows what a thousand quiet containers
//! cost; `cargo bench --bench log -- --whole` (root, dockerd) runs the whole path: a container that prints as fast as it can, then
//! several at 1 MB/s. Medians of plain timings, which is enough for ratios: no framework is needed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench speaks to who runs it, and stops at what it can't do"
)]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the real-engine suite, which uses all of it")]
mod support;

use std::fs;
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dockershim::cri;
use dockershim::id::ContainerId;
use dockershim::log::{Format, LAG_BOUNDS, LogPath, Pumps, line};
use dockershim::record::Records;
use dockershim::translate::time::parse_ns;
use serde::Deserialize;
use support::client::{Cri, image_spec};
use support::engine::{Engine, Options};
use support::images::{self, BUSYBOX};
use support::shim::Shim;
use support::workspace;

fn main() {
    support::run_as_helper();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::args().any(|argument| argument == "--whole") {
        runtime.block_on(whole());
        workspace::end();
    } else {
        convert();
        runtime.block_on(quiet());
    }
}

// --- the converter

/// A line of Docker's, as serde_json reads it.
#[derive(Deserialize)]
struct Entry<'a> {
    log: String,
    stream: &'a str,
    time: &'a str,
}

/// What the converter does, by serde_json.
fn by_serde(lines: &[u8], out: &mut Vec<u8>) {
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let entry: Entry<'_> = serde_json::from_slice(line).unwrap();
        let (text, tag) = entry.log.strip_suffix('\n').map_or((entry.log.as_str(), 'P'), |text| (text, 'F'));
        out.extend_from_slice(format!("{} {} {tag} {text}\n", entry.time, entry.stream).as_bytes());
    }
}

fn convert() {
    println!("converter, MB/s of Docker's lines (median of 21)");
    let plain = "GET /api/v1/namespaces/default/pods?limit=500 200 1.234ms user-agent/1.0 (linux/amd64)\n".to_owned();
    let kinds = [
        ("plain", plain.clone()),
        ("quoted", format!("{{\"level\":\"info\",\"msg\":\"handled\",\"path\":\"{}\"}}\n", plain.trim_end())),
        ("long", plain.trim_end().repeat(180) + "\n"),
        ("escaped", "\u{1}\u{2}<>&\u{2028}\t\"\\".repeat(12) + "\n"),
    ];
    for (name, text) in kinds {
        let entry = serde_json::json!({ "log": text, "stream": "stdout", "time": "2026-01-02T03:04:05.123456789Z" });
        let lines = (entry.to_string() + "\n").repeat(4 * 1024 * 1024 / text.len()).into_bytes();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        line::convert(&lines, &mut ours);
        by_serde(&lines, &mut theirs);
        assert!(ours == theirs);
        let our_time = median(|| _ = black_box(line::convert(&lines, cleared(&mut ours))));
        let their_time = median(|| by_serde(&lines, cleared(&mut theirs)));
        let rate = |time: Duration| lines.len() as f64 / 1e6 / time.as_secs_f64();
        println!(
            "  {name:8} {:6.0}  serde_json {:6.0}  {:.1} times as fast",
            rate(our_time),
            rate(their_time),
            their_time.as_secs_f64() / our_time.as_secs_f64()
        );
    }
}

fn cleared(buffer: &mut Vec<u8>) -> &mut Vec<u8> {
    buffer.clear();
    buffer
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

// --- quiet containers

async fn quiet() {
    const CONTAINERS: usize = 1000;
    let dir = std::env::temp_dir().join(format!("dockershim-bench-{}", std::process::id()));
    let pumps = Pumps::new(Records::open(dir.join("positions")).unwrap(), Format::Cri);
    fs::create_dir(dir.join("pods")).unwrap();
    let empty = resident_kib("self");
    for number in 0..CONTAINERS {
        let spool = dir.join(format!("spool-{number}"));
        fs::create_dir(&spool).unwrap();
        let line = "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n";
        fs::write(spool.join("X-json.log"), line).unwrap();
        let path = LogPath::new(dir.join("pods").to_str().unwrap(), &format!("{number}/0.log")).unwrap();
        pumps.follow(&ContainerId::new(format!("{number:064}")), spool.join("X-json.log"), path).await.unwrap();
    }
    // their lines are written and their positions saved; the blocking pool's threads have gone
    tokio::time::sleep(Duration::from_secs(13)).await;
    assert_eq!(pumps.counts().lines, 1000);
    let (before, cpu) = (switches(), cpu_ticks("self"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!(
        "{CONTAINERS} quiet containers: {} switches and {} ticks of CPU in 10 s, {} KiB each",
        switches() - before,
        cpu_ticks("self") - cpu,
        (resident_kib("self") - empty) / 1000
    );
    drop(pumps);
    fs::remove_dir_all(dir).unwrap();
}

/// Times that a thread of ours has gone to sleep, over all threads.
fn switches() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| field(&task.unwrap().path().join("status"), "voluntary_ctxt_switches:")).sum()
}

// --- the machine's word

/// A number of a `name: number` file.
fn field(path: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.split_whitespace().next().unwrap().parse().unwrap()
}

fn resident_kib(pid: &str) -> u64 {
    field(&Path::new("/proc").join(pid).join("status"), "VmRSS:")
}

/// User and system time, in hundredths of a second.
fn cpu_ticks(pid: &str) -> u64 {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

// --- the whole path

struct Lab {
    shim: Shim,
    engine: Engine,
    cri: Cri,
    pod: String,
    config: cri::PodSandboxConfig,
    /// What containers wait for: they begin together, and what their start costs is not counted.
    gate: PathBuf,
}

impl Lab {
    async fn start() -> Lab {
        let engine = Engine::start(Options::default());
        images::load_all(&engine.docker);
        let shim = Shim::start_with(&engine.socket(), &["--network-plugin=bridge"]);
        let cri = shim.cri();
        let log_directory = workspace::new_dir("l").display().to_string();
        let metadata = cri::PodSandboxMetadata {
            name: "bench".to_owned(),
            uid: "00000000-0000-4000-8000-000000000001".to_owned(),
            namespace: "bench".to_owned(),
            attempt: 0,
        };
        let linux = Some(cri::LinuxPodSandboxConfig::default());
        let config = cri::PodSandboxConfig {
            metadata: Some(metadata),
            log_directory,
            linux,
            ..cri::PodSandboxConfig::default()
        };
        let pod = cri.run_pod(&config).await.unwrap();
        Lab { shim, engine, cri, pod, config, gate: workspace::new_dir("gate") }
    }

    /// Starts a container that runs a script once the gate is open; its id and its log.
    async fn run(&self, name: &str, script: &str) -> (String, PathBuf) {
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(image_spec(BUSYBOX)),
            command: ["/bin/sh", "-c", &format!("until [ -e /gate/open ]; do sleep 1; done; {script}")]
                .map(str::to_owned)
                .to_vec(),
            mounts: vec![cri::Mount {
                host_path: self.gate.display().to_string(),
                container_path: "/gate".to_owned(),
                ..cri::Mount::default()
            }],
            log_path: format!("{name}/0.log"),
            linux: Some(cri::LinuxContainerConfig::default()),
            ..cri::ContainerConfig::default()
        };
        let id = self.cri.create(&self.pod, &config, &self.config).await.unwrap();
        self.cri.start(&id).await.unwrap();
        (id, Path::new(&self.config.log_directory).join(config.log_path))
    }

    fn pids(&self) -> [String; 2] {
        let dockerd = fs::read_to_string(self.engine.socket().with_file_name("docker.pid")).unwrap();
        [self.shim.pid().unwrap().to_string(), dockerd.trim().to_owned()]
    }

    async fn counts(&self) -> serde_json::Value {
        let request = cri::StatusRequest { verbose: true };
        let status = self.cri.runtime().status(request).await.unwrap().into_inner();
        let logs: serde_json::Value = serde_json::from_str(&status.info["logs"]).unwrap();
        logs["sinceStart"].clone()
    }

    /// Runs containers for a while, and tells what that has cost.
    async fn measure(&self, what: &str, containers: usize, script: &str, time: Duration) {
        let [shim, dockerd] = self.pids();
        let mut running = Vec::new();
        for number in 0..containers {
            running.push(self.run(&format!("{what}-{number}"), script).await);
        }
        let (cpu, rss, counts) = ([cpu_ticks(&shim), cpu_ticks(&dockerd)], resident_kib(&shim), self.counts().await);
        let gate = self.gate.join("open");
        let began = Instant::now();
        fs::write(&gate, "").unwrap();
        let inspect = self.engine.docker.get(&format!("/containers/{}/json", running[0].0));
        let [lags, spool_lags] = [running[0].1.clone(), PathBuf::from(inspect["LogPath"].as_str().unwrap())]
            .map(|path| tokio::task::spawn_blocking(move || sample_lags(&path, time)));
        let (lags, spool_lags) = (lags.await.unwrap(), spool_lags.await.unwrap());
        // now: what the end of many costs is not counted
        let spent = [cpu_ticks(&shim) - cpu[0], cpu_ticks(&dockerd) - cpu[1]];
        let (after, took, rss_busy) = (self.counts().await, began.elapsed(), resident_kib(&shim));
        let bytes = after["bytes"].as_u64().unwrap() - counts["bytes"].as_u64().unwrap();
        fs::remove_file(gate).unwrap();
        // at once: one by one would take minutes, as the others go on printing
        let ending = running.into_iter().map(|(id, _)| {
            let cri = self.cri.clone();
            tokio::spawn(async move {
                cri.stop(&id, 0).await.unwrap();
                cri.remove(&id).await.unwrap();
            })
        });
        for ended in ending.collect::<Vec<_>>() {
            ended.await.unwrap();
        }
        println!(
            "{what}: {containers} containers, {} MB in {took:.0?}; CPU {} ms, dockerd {} ms: {:.1} %; lag {}, in Docker's own file {}; \
             {} batches later than 50 ms; RSS {rss} KiB before, {rss_busy} then, {} after; gaps {}",
            bytes / 1_000_000,
            spent[0] * 10,
            spent[1] * 10,
            spent[0] as f64 / spent[1] as f64 * 100.0,
            percentiles(&lags),
            percentiles(&spool_lags),
            late(&after["lag"], &counts["lag"]),
            resident_kib(&shim),
            after["gaps"],
        );
    }
}

async fn whole() {
    let lab = Lab::start().await;
    let filling = "x".repeat(99);
    // it says only when, so that printing doesn't slow the pace; and no process for each pause, no work for each line: at fifty
    // containers those would be most of what the machine does
    let paced = format!(
        "mkfifo /never; exec 3<>/never; while echo; do read -r -t 0.05 nothing <&3; done | awk 'BEGIN {{ for (i = 0; i < 500; i++) \
         text = text \"{filling}\\n\" }} {{ printf \"%s\", text; fflush() }}'"
    );
    let number = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(50);
    lab.measure("warm", 1, &paced, Duration::from_secs(5)).await;
    lab.measure("fast", 1, &format!("exec yes {filling}"), Duration::from_secs(30)).await;
    lab.measure("paced", number, &paced, Duration::from_secs(20)).await;
    lab.measure("few", 4, &paced, Duration::from_secs(20)).await;
    // whether memory grows
    lab.measure("again", number, &paced, Duration::from_secs(20)).await;
    lab.cri.remove_pod(&lab.pod).await.unwrap();
}

/// How old the first new line of a file is at each look that finds one, sorted; one look each millisecond. What is there already
/// doesn't count: it was written while the other containers started.
fn sample_lags(path: &Path, time: Duration) -> Vec<Duration> {
    let mut file = fs::File::open(path).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    let (mut lags, mut text, began) = (Vec::new(), Vec::new(), Instant::now());
    while began.elapsed() < time {
        text.clear();
        file.read_to_end(&mut text).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if let Ok(ns @ 1..) = u64::try_from(parse_ns(&stamp(&String::from_utf8_lossy(line)))) {
            lags.push(now.saturating_sub(Duration::from_nanos(ns)));
        } else if fs::metadata(path).is_ok_and(|found| found.ino() != file.metadata().unwrap().ino()) {
            // Docker has rotated
            file = fs::File::open(path).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    lags.sort();
    lags
}

/// Of a line of a container's log, or of Docker's file.
fn stamp(line: &str) -> String {
    let docker = line.rsplit_once("\"time\":\"").and_then(|(_, rest)| rest.split('"').next());
    docker.or_else(|| line.split(' ').next()).unwrap_or_default().to_owned()
}

/// Of the batches of all containers, as dockershim has counted them.
fn late(after: &serde_json::Value, before: &serde_json::Value) -> String {
    let number = |classes: &serde_json::Value, class: usize| classes[class].as_u64().unwrap_or_default();
    let counted: Vec<_> = (0..=LAG_BOUNDS.len()).map(|class| number(after, class) - number(before, class)).collect();
    let on_time = LAG_BOUNDS.iter().filter(|bound| **bound <= Duration::from_millis(50)).count();
    let (late, all) = (counted[on_time..].iter().sum::<u64>(), counted.iter().sum::<u64>());
    format!("{late} of {all}")
}

fn percentiles(lags: &[Duration]) -> String {
    let at = |share: usize| lags[(lags.len() * share / 100).min(lags.len() - 1)];
    format!("p50 {:.0?} p99 {:.0?} max {:.0?} of {} looks", at(50), at(99), at(100), lags.len())
}
