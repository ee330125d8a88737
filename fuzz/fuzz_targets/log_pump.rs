//! Pumps under any sequence of what happens to a log: lines, Docker's rotation, the kubelet's, the death of the process. The
//! model is a count: all generations together hold every number once, in order.
//!
//! Each byte is an act, so a corpus is small and easily read.
#![no_main]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dockershim::id::ContainerId;
use dockershim::log::{Drained, Format, LogPath, Pumps};
use dockershim::record::Records;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// More than an input has acts: nothing overruns.
const GENERATIONS: usize = 64;

fuzz_target!(|acts: &[u8]| {
    let dir = std::env::temp_dir().join(format!("dockershim-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("pods")).unwrap();
    fs::create_dir(dir.join("spool")).unwrap();
    play(&dir, &acts[..acts.len().min(GENERATIONS - 2)]);
    fs::remove_dir_all(&dir).unwrap();
});

/// A container that counts, with Docker's end and the kubelet's.
struct Node<'a> {
    dir: &'a Path,
    spool: PathBuf,
    docker: File,
    log: LogPath,
    life: Life,
    printed: usize,
    rotated: usize,
}

/// The process between two deaths. Dropping the runtime waits for what is being written, and nothing more is.
struct Life {
    runtime: Runtime,
    pumps: Pumps,
    id: ContainerId,
}

impl Life {
    fn begin(dir: &Path, spool: &Path, log: &LogPath) -> Life {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let pumps = Pumps::new(Records::open(dir.join("positions")).unwrap(), Format::Cri);
        let id = ContainerId::new("c0ffee");
        runtime.block_on(pumps.follow(&id, spool.to_owned(), log.clone())).unwrap();
        Life { runtime, pumps, id }
    }
}

fn play(dir: &Path, acts: &[u8]) {
    let spool = dir.join("spool/X-json.log");
    let docker = OpenOptions::new().append(true).create(true).open(&spool).unwrap();
    let log = LogPath::new(dir.join("pods").to_str().unwrap(), "c/0.log").unwrap();
    let life = Life::begin(dir, &spool, &log);
    let mut node = Node { dir, spool, docker, log, life, printed: 0, rotated: 0 };
    for act in acts {
        match act % 8 {
            0..=2 => node.print(usize::from(act / 8)),
            3 => node.rotate_spool(),
            4 => node.wait(u64::from(act / 16)),
            5 => node.die(),
            6 => {
                node.rename_log();
                node.die();
            }
            _ => {
                node.rename_log();
                node.life.runtime.block_on(node.life.pumps.reopen(&node.life.id)).unwrap();
            }
        }
    }
    let Life { runtime, pumps, id } = &node.life;
    assert_eq!(runtime.block_on(pumps.drain(id, Duration::from_secs(20))), Drained::Done);
    node.check();
}

impl Node<'_> {
    fn print(&mut self, lines: usize) {
        for number in self.printed..self.printed + lines {
            let line = format!("{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}}\n");
            self.docker.write_all(line.as_bytes()).unwrap();
        }
        self.printed += lines;
    }

    fn rotate_spool(&mut self) {
        let name = |number| PathBuf::from(format!("{}.{number}", self.spool.display()));
        for number in (1..GENERATIONS).rev() {
            let _ = fs::rename(name(number), name(number + 1));
        }
        fs::rename(&self.spool, name(1)).unwrap();
        self.docker = File::create(&self.spool).unwrap();
    }

    fn wait(&self, milliseconds: u64) {
        self.life.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(milliseconds)).await });
    }

    fn die(&mut self) {
        // two lives at once would write over each other
        self.life.runtime = Builder::new_current_thread().build().unwrap();
        self.life = Life::begin(self.dir, &self.spool, &self.log);
    }

    fn generation(&self, number: usize) -> PathBuf {
        PathBuf::from(format!("{}.{number:04}", self.log))
    }

    /// The first half of the kubelet's rotation.
    fn rename_log(&mut self) {
        fs::rename(self.log.as_joined(), self.generation(self.rotated)).unwrap();
        self.rotated += 1;
    }

    fn check(&self) {
        let names = (0..self.rotated).map(|number| self.generation(number)).chain([self.log.as_joined()]);
        let whole: String = names.map(|name| fs::read_to_string(name).unwrap()).collect();
        let model: String = (0..self.printed).map(|number| format!("2026-01-02T03:04:05Z stdout F {number}\n")).collect();
        assert!(whole == model, "{whole}");
    }
}
