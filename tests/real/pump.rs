//! Logs under whatever may happen to them: SIGKILL at any instruction, the kubelet's rotation, bursts. Containers number their
//! lines; in the end all generations of a log together hold every number once, in order.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::lab::{Case, Stage, eventually, sh, trials};
use crate::support::client::Cri;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::With(&["--log-spool-size=2m", "--log-spool-files=128"]);
        killed_hundreds_of_times_it_writes_every_line_once,
        rotated_for_minutes_every_line_is_in_one_generation,
    ];
    all.extend(trials![Stage::With(&["--log-spool-size=64k", "--log-spool-files=2"]);
        what_overran_while_nobody_read_is_a_counted_gap,
    ]);
    all.extend(trials![Stage::With(&[]);
        the_default_spool_holds_what_is_printed_while_dockershim_is_restarted,
    ]);
    all.extend(trials![Stage::Shared;
        bursts_are_whole_when_their_end_is_first_seen,
        what_the_pumps_do_is_counted_in_status,
    ]);
    all
}

/// Prints `count` numbered lines of 100 bytes, `batch` of them between two naps.
fn counter(count: usize, batch: usize, nap_ms: u64) -> String {
    let filling = "x".repeat(90);
    format!(
        "awk 'BEGIN {{ for (i = 0; i < {count}; i++) {{ print i, \"{filling}\"; \
         if (i % {batch} == 0) {{ fflush(); system(\"usleep {nap_ms}000\") }} }} }}'"
    )
}

/// The kubelet's rotation of one container's log.
struct Rotation {
    log: PathBuf,
    done: usize,
}

impl Rotation {
    fn new(log: PathBuf) -> Rotation {
        Rotation { log, done: 0 }
    }

    fn generation(&self, number: usize) -> PathBuf {
        PathBuf::from(format!("{}.{number:06}", self.log.display()))
    }

    /// ContainerStatus, rename, ReopenContainerLog; and the old name again when that fails, as the kubelet does it.
    async fn rotate(&mut self, cri: &Cri, id: &str) -> bool {
        if cri.status(id).await.is_err() {
            return false;
        }
        let rotated = self.generation(self.done);
        fs::rename(&self.log, &rotated).unwrap();
        let reopened = cri.reopen_log(id).await;
        match reopened {
            Ok(()) => self.done += 1,
            Err(_) => fs::rename(&rotated, &self.log).unwrap(),
        }
        reopened.is_ok()
    }

    /// Compresses all that are rotated but the newest, which a reader may still have open.
    fn compress(&self) {
        let rotated = (0..self.done.saturating_sub(1)).rev().map(|number| self.generation(number));
        // those before have been compressed already
        for plain in rotated.take_while(|plain| plain.exists()) {
            let beside = PathBuf::from(format!("{}.tmp", plain.display()));
            let packed = fs::File::create(&beside).unwrap();
            assert!(Command::new("gzip").arg("-c").arg(&plain).stdout(packed).status().unwrap().success());
            fs::rename(beside, gz(&plain)).unwrap();
            fs::remove_file(plain).unwrap();
        }
    }

    /// The last line of all: the newest file has none yet when it was rotated after the container's end, before that was told.
    fn last_line(&self) -> String {
        let is_empty = fs::metadata(&self.log).unwrap().len() == 0;
        match self.done.checked_sub(1) {
            Some(before) if is_empty => last_line(&self.generation(before)),
            _ => last_line(&self.log),
        }
    }

    /// All generations together: each line is a whole one, with the next number. How many there are.
    fn count(&self) -> usize {
        let mut count = 0;
        for path in (0..self.done).map(|number| self.generation(number)).chain([self.log.clone()]) {
            for line in BufReader::new(open(&path)).lines() {
                let line = line.unwrap();
                let fields: Vec<_> = line.splitn(5, ' ').collect();
                let [_time, "stdout", "F", number, filling] = fields.as_slice() else {
                    panic!("not a whole line in {}: {line:?}", path.display());
                };
                assert_eq!(*number, count.to_string(), "in {}", path.display());
                assert!(filling.len() == 90 && filling.bytes().all(|byte| byte == b'x'), "{line:?}");
                count += 1;
            }
        }
        count
    }
}

/// The end of a log.
fn last_line(log: &Path) -> String {
    let mut file = fs::File::open(log).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length.saturating_sub(200))).unwrap();
    std::io::read_to_string(file).unwrap().lines().last().unwrap_or_default().to_owned()
}

fn gz(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.gz", path.display()))
}

/// A generation's text, compressed or not.
fn open(path: &Path) -> Box<dyn Read> {
    if path.exists() {
        return Box::new(fs::File::open(path).unwrap());
    }
    let mut gzip = Command::new("gzip").arg("-dc").arg(gz(path)).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = Vec::new();
    gzip.stdout.take().unwrap().read_to_end(&mut text).unwrap();
    assert!(gzip.wait().unwrap().success());
    Box::new(std::io::Cursor::new(text))
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

async fn killed_hundreds_of_times_it_writes_every_line_once(case: Case) {
    const LINES: usize = 700_000;
    let pod = case.run_pod("killed").await;
    let config = sh("main", &counter(LINES, 250, 8));
    let id = case.start(&pod, &config).await;
    let mut rotation = Rotation::new(pod.log(&config));
    let (mut dice, mut kills, began) = (Dice(12_345), 0, Instant::now());
    let shim = &case.lab.shim;
    let has_ended = || case.lab.engine.docker.get(&format!("/containers/{id}/json"))["State"]["Running"] == false;
    while began.elapsed() < Duration::from_secs(30) && !has_ended() {
        shim.kill();
        shim.spawn();
        kills += 1;
        if kills % 2 == 0 {
            // in the middle of anything, from its first instruction on
            sleep(Duration::from_millis(dice.below(120))).await;
            continue;
        }
        let cri = shim.cri();
        let ready = || async { cri.status(&id).await.ok() };
        eventually("dockershim is back", Duration::from_secs(20), ready).await;
        // long enough to catch up, or in the middle of a rotation
        sleep(Duration::from_millis(if kills % 8 == 1 { 300 } else { dice.below(40) })).await;
        let killed = async {
            sleep(Duration::from_micros(dice.below(100_000))).await;
            shim.kill();
        };
        tokio::join!(rotation.rotate(&cri, &id), killed);
        shim.spawn();
        kills += 1;
    }
    shim.kill();
    shim.start_again();
    let status = eventually("the writer's end is told", Duration::from_secs(60), || async {
        let status = shim.cri().status(&id).await.ok()?;
        (status.state() == cri::ContainerState::ContainerExited).then_some(status)
    });
    assert_eq!(status.await.exit_code, 0);
    // what nobody has read for so long may take more than the 2 s that an end waits for its log
    let whole = || async { rotation.last_line().contains(&format!(" {} x", LINES - 1)).then_some(()) };
    eventually("the log is whole", Duration::from_secs(60), whole).await;
    assert_eq!(rotation.count(), LINES);
    assert!(kills >= 100 && rotation.done >= 3, "{kills} kills, {} rotations", rotation.done);
}

/// At a far lower limit than a kubelet has, and while Docker rotates its own file as well.
async fn rotated_for_minutes_every_line_is_in_one_generation(case: Case) {
    const LIMIT: u64 = 20 << 10;
    const TIME: Duration = Duration::from_secs(120);
    let pod = case.run_pod("rotated-small").await;
    let config = sh("main", &counter(1_000_000, 100, 50));
    let id = case.start(&pod, &config).await;
    let mut rotation = Rotation::new(pod.log(&config));
    let began = Instant::now();
    while began.elapsed() < TIME {
        sleep(Duration::from_millis(50)).await;
        if fs::metadata(&rotation.log).unwrap().len() < LIMIT {
            continue;
        }
        rotation.compress();
        if rotation.rotate(&case.cri, &id).await {
            let old = rotation.generation(rotation.done - 1);
            let length = fs::metadata(&old).unwrap().len();
            sleep(Duration::from_millis(15)).await;
            assert_eq!(fs::metadata(&old).unwrap().len(), length, "the old file has stopped growing");
        }
    }
    case.cri.stop(&id, 0).await.unwrap();
    let count = rotation.count();
    let spools = spools(&case.lab.engine.docker.get(&format!("/containers/{id}/json")));
    let printed: usize = spools.iter().map(|spool| spool.matches("x\\n\"").count()).sum();
    assert_eq!(count, printed, "{} generations of {} files", rotation.done, spools.len());
    assert!(rotation.done > 100 && spools.len() > 3, "{} generations of {} files", rotation.done, spools.len());
}

/// All of Docker's own files.
fn spools(inspect: &Value) -> Vec<String> {
    let newest = inspect["LogPath"].as_str().unwrap();
    let older = (1..).map_while(|number| fs::read_to_string(format!("{newest}.{number}")).ok());
    std::iter::once(fs::read_to_string(newest).unwrap()).chain(older).collect()
}

async fn bursts_are_whole_when_their_end_is_first_seen(case: Case) {
    const LINES: usize = 50_000;
    let pod = case.run_pod("bursts").await;
    let burst = |number: usize| {
        let (case, pod) = (case.clone(), pod.clone());
        async move {
            let config = sh(&format!("burst-{number}"), &format!("seq 0 {}", LINES - 1));
            let id = case.start(&pod, &config).await;
            while case.cri.status(&id).await.unwrap().state() != cri::ContainerState::ContainerExited {
                sleep(Duration::from_millis(2)).await;
            }
            let log = fs::read_to_string(pod.log(&config)).unwrap();
            assert!(log.lines().enumerate().all(|(at, line)| line.ends_with(&format!(" stdout F {at}"))));
            assert_eq!(log.lines().count(), LINES);
        }
    };
    tokio::join!(burst(0), burst(1), burst(2));
}

/// What Status tells of the pumps.
async fn counts(case: &Case) -> Value {
    let status = case.lab.shim.cri().runtime().status(cri::StatusRequest { verbose: true }).await.unwrap().into_inner();
    let logs: Value = serde_json::from_str(&status.info["logs"]).unwrap();
    logs["sinceStart"].clone()
}

async fn what_overran_while_nobody_read_is_a_counted_gap(case: Case) {
    let pod = case.run_pod("gap").await;
    let config = sh("main", "echo first; sleep 13; seq 1 20000; echo last; exec sleep 3600");
    let id = case.start(&pod, &config).await;
    let log = pod.log(&config);
    let has = |line: &'static str| {
        let log = log.clone();
        move || {
            let text = fs::read_to_string(&log).unwrap();
            async move { text.contains(line).then_some(()) }
        }
    };
    eventually("the first line is there", Duration::from_secs(10), has(" first\n")).await;
    // its position is kept by then: without one, nobody can tell what was missed
    tokio::time::sleep(Duration::from_secs(2)).await;
    case.lab.shim.kill();
    let last = || async {
        let path = format!("/containers/{id}/logs?stdout=1&tail=1");
        let (_, text) = case.lab.engine.docker.call("GET", &path, "", b"").unwrap();
        String::from_utf8_lossy(&text).contains("last").then_some(())
    };
    eventually("all is printed", Duration::from_secs(20), last).await;
    case.lab.shim.start_again();
    eventually("the last line is there", Duration::from_secs(20), has(" last\n")).await;
    assert_eq!(counts(&case).await["gaps"], 1);
    let said = case.lab.shim.log(1000);
    assert_eq!(said.matches("docker has removed lines before they were read").count(), 1, "{said}");
}

async fn the_default_spool_holds_what_is_printed_while_dockershim_is_restarted(case: Case) {
    // 4 MB of the Engine's lines a second
    const LINES: usize = 250_000;
    let pod = case.run_pod("restarted").await;
    let config = sh("main", &counter(LINES, 250, 8));
    let id = case.start(&pod, &config).await;
    let log = pod.log(&config);
    let length = || fs::metadata(&log).unwrap().len();
    let busy = || async { (length() > 2_500_000).then_some(()) };
    eventually("it prints", Duration::from_secs(20), busy).await;
    case.lab.shim.kill();
    let before = length();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(length(), before, "nobody writes the log");
    let began = Instant::now();
    case.lab.shim.start_again();
    let caught_up = || async { (length() > before + 2_500_000).then_some(()) };
    eventually("what was missed is written", Duration::from_secs(20), caught_up).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let ended = || async {
        let status = case.lab.shim.cri().status(&id).await.ok()?;
        (status.state() == cri::ContainerState::ContainerExited).then_some(())
    };
    eventually("the writer ends", Duration::from_secs(60), ended).await;
    let rotation = Rotation::new(log.clone());
    let whole = || async { rotation.last_line().contains(&format!(" {} x", LINES - 1)).then_some(()) };
    eventually("the log is whole", Duration::from_secs(20), whole).await;
    assert_eq!((rotation.count(), &counts(&case).await["gaps"]), (LINES, &Value::from(0)));
}

async fn what_the_pumps_do_is_counted_in_status(case: Case) {
    let before = counts(&case).await;
    let pod = case.run_pod("counted").await;
    case.run_to_end(&pod, &sh("main", "seq 1 1000")).await;
    let after = counts(&case).await;
    let grown = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
    assert!(grown("lines") >= 1000 && grown("bytes") >= 40_000, "{before} {after}");
    assert_eq!((grown("damaged"), grown("gaps")), (0, 0));
}
