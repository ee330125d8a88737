//! A pump in a process of its own, killed at any instruction again and again, while Docker's end writes and rotates and the
//! kubelet's renames and reopens: all generations together hold every line once. The real suite does the same with a real engine;
//! this takes seconds, and no root.
#![expect(clippy::unwrap_used, reason = "what a test can't go on without fails it")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dockershim::id::ContainerId;
use dockershim::log::{Drained, Format, LogPath, Pumps};
use dockershim::record::Records;

/// The directory of the process that is killed; set in no other.
const DIR: &str = "DOCKERSHIM_TEST_PUMP";
/// Set in the last process, which comes to its end.
const LAST: &str = "DOCKERSHIM_TEST_LAST";
const KILLS: u64 = 200;
/// Docker keeps so many files: more than are written.
const FILES: usize = 200;

/// Not a test of its own: what the test below starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let pumps = Pumps::new(Records::open(dir.join("positions")).unwrap(), Format::Cri);
    let id = ContainerId::new("c0ffee");
    let log = LogPath::new(dir.join("pods").to_str().unwrap(), "0.log").unwrap();
    pumps.follow(&id, dir.join("spool/X-json.log"), log.clone()).await.unwrap();
    if std::env::var(LAST).is_ok() {
        assert_eq!(pumps.drain(&id, Duration::from_secs(30)).await, Drained::Done);
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(9)).await;
        let rotated = fs::read_dir(dir.join("pods")).unwrap().count();
        fs::rename(log.as_joined(), format!("{log}.{rotated:06}")).unwrap();
        pumps.reopen(&id).await.unwrap();
    }
}

#[test]
fn a_pump_that_is_killed_again_and_again_writes_every_line_once() {
    let dir = std::env::temp_dir().join(format!("dockershim-killed-{}", std::process::id()));
    fs::create_dir_all(dir.join("pods")).unwrap();
    fs::create_dir(dir.join("spool")).unwrap();
    File::create(dir.join("spool/X-json.log")).unwrap();
    let ended = AtomicBool::new(false);
    let lines = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&dir.join("spool/X-json.log"), &ended));
        let mut dice: u64 = 12_345;
        for _ in 0..KILLS {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut child = start(&dir, None);
            std::thread::sleep(Duration::from_micros(5000 + (dice >> 33) % 70_000));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(start(&dir, Some(LAST)).wait().unwrap().success());
    let mut generations: Vec<_> = fs::read_dir(dir.join("pods")).unwrap().map(|entry| entry.unwrap().path()).collect();
    generations.sort();
    // 0.log sorts first, and is the newest
    generations.rotate_left(1);
    let whole: String = generations.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for (number, line) in whole.split_terminator('\n').enumerate() {
        assert_eq!(line, format!("2026-01-02T03:04:05Z stdout F {number}"), "of {lines} lines");
    }
    assert_eq!(whole.matches('\n').count(), lines);
    assert!(generations.len() > 10 && lines > 10_000, "{} generations of {lines} lines", generations.len());
    fs::remove_dir_all(dir).unwrap();
}

fn start(dir: &Path, last: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["the_process_that_is_killed", "--exact"]).env(DIR, dir).envs(last.map(|name| (name, "1")));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Dockerd's end: counts, and rotates as dockerd does. How many lines there are.
fn write(path: &Path, ended: &AtomicBool) -> usize {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    let name = |number: usize| PathBuf::from(format!("{}.{number}", path.display()));
    let mut count = 0;
    while !ended.load(Ordering::Relaxed) {
        let number =
            |number| format!("{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}}\n");
        (count..count + 50).for_each(|line| file.write_all(number(line).as_bytes()).unwrap());
        count += 50;
        if count % 2000 == 0 {
            for number in (1..FILES).rev() {
                let _ = fs::rename(name(number), name(number + 1));
            }
            fs::rename(path, name(1)).unwrap();
            file = File::create(path).unwrap();
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    count
}
