//! Whole pumps on real files, with something that rotates as dockerd does at one end and as the kubelet does at the other.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::lanes::Buffers;
use super::looker::Looker;
use super::position::{FileId, Mark, Position, Written};
use super::spool::LINE_LIMIT;
use super::transfer::{Round, Transfer};
use super::*;

/// A directory of one test, removed with it.
pub(super) struct Temp(PathBuf);

impl Temp {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dockershim-log-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Temp(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl std::fmt::Display for Temp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

const TIME: &str = "2026-01-02T03:04:05.6Z";
const MIB: usize = 1024 * 1024;

fn json(text: &str) -> String {
    serde_json::json!({ "log": text, "stream": "stdout", "time": TIME }).to_string() + "\n"
}

/// The lines as a CRI file holds them.
fn cri<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines.into_iter().map(|line| format!("{TIME} stdout F {line}\n")).collect()
}

/// The lines `from..to` of a container that counts.
fn counted(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("line {number}")).collect()
}

fn counted_cri(from: usize, to: usize) -> String {
    cri(counted(from, to).iter().map(String::as_str))
}

/// Dockerd's end: writes the spool and rotates it.
struct Docker {
    path: PathBuf,
    file: File,
    max_files: usize,
}

impl Docker {
    fn new(temp: &Temp, max_files: usize) -> Self {
        let directory = temp.path().join("spool");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("X-json.log");
        let file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        Docker { path, file, max_files }
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.file.write_all(bytes.as_ref()).unwrap();
    }

    fn lines(&mut self, from: usize, to: usize) {
        counted(from, to).iter().for_each(|line| self.write(json(&format!("{line}\n"))));
    }

    /// Oldest first; the new file isn't opened for appending.
    fn rotate(&mut self) {
        let name = |number| PathBuf::from(format!("{}.{number}", self.path.display()));
        let _ = fs::remove_file(name(self.max_files - 1));
        for number in (2..self.max_files).rev() {
            let _ = fs::rename(name(number - 1), name(number));
        }
        fs::rename(&self.path, name(1)).unwrap();
        self.file = OpenOptions::new().write(true).create(true).truncate(true).open(&self.path).unwrap();
    }
}

/// The kubelet's end: the log and its rotated generations.
struct Kubelet {
    path: LogPath,
    rotated: usize,
}

impl Kubelet {
    fn new(temp: &Temp) -> Self {
        let directory = temp.path().join("pods");
        fs::create_dir_all(&directory).unwrap();
        Kubelet { path: LogPath::new(directory.to_str().unwrap(), "c/0.log").unwrap(), rotated: 0 }
    }

    fn log(&self) -> PathBuf {
        self.path.as_joined()
    }

    fn old(&self, number: usize) -> PathBuf {
        PathBuf::from(format!("{}.{number:04}", self.path))
    }

    fn rename(&mut self) {
        if fs::rename(self.log(), self.old(self.rotated)).is_ok() {
            self.rotated += 1;
        }
    }

    fn content(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    /// All generations, oldest first.
    fn whole(&self) -> String {
        (0..self.rotated).map(|number| fs::read_to_string(self.old(number)).unwrap()).collect::<String>()
            + &self.content()
    }

    async fn wait_for(&self, expected: &str) {
        let began = std::time::Instant::now();
        while self.whole() != expected && began.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(self.whole(), expected);
    }
}

fn records(temp: &Temp) -> Records {
    Records::open(temp.path().join("positions")).unwrap()
}

fn id() -> ContainerId {
    ContainerId::new("c0ffee")
}

const LIMIT: Duration = Duration::from_secs(60);

/// A followed container.
struct Node {
    temp: Temp,
    docker: Docker,
    kubelet: Kubelet,
    pumps: Pumps,
}

impl Node {
    async fn follow(max_files: usize) -> Self {
        let node = Self::new(max_files);
        node.follow_again().await;
        node
    }

    fn new(max_files: usize) -> Self {
        let temp = Temp::new();
        let (docker, kubelet) = (Docker::new(&temp, max_files), Kubelet::new(&temp));
        let pumps = Pumps::new(records(&temp), Format::Cri);
        Node { temp, docker, kubelet, pumps }
    }

    async fn follow_again(&self) {
        self.pumps.follow(&id(), self.docker.path.clone(), self.kubelet.path.clone()).await.unwrap();
    }

    /// Ends the pumps without a word, as the death of the process does, and starts anew.
    async fn crash(&mut self) {
        let pump = self.pumps.pump(&id());
        self.pumps = Pumps::new(records(&self.temp), Format::Cri);
        if let Some(pump) = pump {
            let _ = ask(&pump, Command::Stop).await;
        }
    }

    async fn drain(&self) -> Drained {
        self.pumps.drain(&id(), LIMIT).await
    }

    fn position(&self) -> Option<Position> {
        records(&self.temp).load(id().as_str()).unwrap()
    }
}

#[tokio::test]
async fn the_log_is_there_at_once_and_gets_each_line() {
    let mut node = Node::follow(3).await;
    assert_eq!(node.kubelet.content(), "");
    node.docker.lines(0, 2);
    node.kubelet.wait_for(&counted_cri(0, 2)).await;
    node.docker.lines(2, 1000);
    node.kubelet.wait_for(&counted_cri(0, 1000)).await;
}

#[tokio::test]
async fn a_spool_that_comes_later_is_followed() {
    let mut node = Node::new(3);
    fs::remove_dir_all(node.docker.path.parent().unwrap()).unwrap();
    node.follow_again().await;
    node.docker = Docker::new(&node.temp, 3);
    node.docker.lines(0, 3);
    node.kubelet.wait_for(&counted_cri(0, 3)).await;
}

#[tokio::test]
async fn following_again_changes_nothing() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 3);
    node.follow_again().await;
    let (first, second) = tokio::join!(node.drain(), node.drain());
    assert_eq!((first, second), (Drained::Done, Drained::Done));
    assert_eq!(node.kubelet.content(), counted_cri(0, 3));
}

#[tokio::test]
async fn a_torn_line_waits_for_its_end() {
    let mut node = Node::follow(3).await;
    let line = json("whole\n");
    node.docker.write(&line[..20]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(node.kubelet.content(), "");
    node.docker.write(&line[20..]);
    node.kubelet.wait_for(&cri(["whole"])).await;
}

#[tokio::test]
async fn a_line_of_many_megabytes_comes_whole() {
    let mut node = Node::follow(3).await;
    let text = "x\"".repeat(2 * 1024 * 1024);
    let line = json(&format!("{text}\n"));
    for piece in line.as_bytes().chunks(300_000) {
        node.docker.write(piece);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(node.drain().await, Drained::Done);
    assert!(node.kubelet.content() == cri([text.as_str()]));
}

/// What is before a line's text in the spool, and what is after it.
fn around() -> (String, String) {
    let (before, after) =
        json("|\n").split_once('|').map(|(before, after)| (before.to_owned(), after.to_owned())).unwrap();
    (before, after)
}

#[tokio::test]
async fn a_line_of_100_mib_comes_whole() {
    let mut node = Node::follow(3).await;
    let (before, after) = around();
    node.docker.write(before);
    (0..100).for_each(|_| node.docker.write(vec![b'x'; MIB]));
    node.docker.write(after + &json("next\n"));
    assert_eq!(node.drain().await, Drained::Done);
    let content = node.kubelet.content();
    let text = content.strip_prefix(&format!("{TIME} stdout F ")).and_then(|rest| rest.strip_suffix(&cri(["next"])));
    let text = text.unwrap().strip_suffix('\n').unwrap().as_bytes();
    assert!(text.len() == 100 * MIB && text.chunks(MIB).all(|piece| piece == [b'x'; MIB]));
    assert_eq!(node.pumps.counts().damaged, 0);
}

#[tokio::test]
async fn a_line_that_is_too_long_to_be_held_is_damaged_and_the_next_one_comes() {
    let mut node = Node::follow(3).await;
    let (before, after) = around();
    node.docker.write(json("first\n") + &before);
    (0..=LINE_LIMIT / MIB).for_each(|_| node.docker.write(vec![b'x'; MIB]));
    node.docker.write(after + &json("next\n"));
    assert_eq!(node.drain().await, Drained::Done);
    assert!(node.kubelet.content() == cri(["first", "next"]));
    // what was given up, and the rest of it where that was read later
    assert!((1..=2).contains(&node.pumps.counts().damaged));
}

#[tokio::test]
async fn damaged_lines_and_holes_are_passed_over() {
    let mut node = Node::follow(3).await;
    node.docker.write(format!("{}garbage\n\n\0\0\0{}", json("a\n"), json("b\n")));
    node.docker.write([&[0; 300_000], json("c\n").as_bytes()].concat());
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), cri(["a", "b", "c"]));
}

#[tokio::test]
async fn the_first_follow_starts_at_the_oldest_generation() {
    let mut node = Node::new(4);
    for start in [0, 10, 20] {
        node.docker.lines(start, start + 10);
        node.docker.rotate();
    }
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 30)).await;
}

#[tokio::test]
async fn rotations_while_the_pump_is_behind_lose_nothing() {
    let mut node = Node::follow(200).await;
    for start in (0..6000).step_by(40) {
        node.docker.lines(start, start + 40);
        node.docker.rotate();
        if start % 400 == 0 {
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    }
    assert_eq!(node.drain().await, Drained::Done);
    assert!(node.kubelet.content() == counted_cri(0, 6000));
}

#[tokio::test]
async fn rotations_that_give_inodes_out_again_lose_nothing() {
    let mut node = Node::follow(2).await;
    for start in (0..200).step_by(10) {
        node.docker.lines(start, start + 10);
        node.kubelet.wait_for(&counted_cri(0, start + 10)).await;
        node.docker.rotate();
    }
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), counted_cri(0, 200));
}

#[tokio::test]
async fn a_spool_emptied_in_place_is_read_from_its_start_and_may_be_a_gap() {
    let mut node = Node::follow(2).await;
    node.docker.lines(0, 10);
    node.kubelet.wait_for(&counted_cri(0, 10)).await;
    node.docker.file = OpenOptions::new().write(true).truncate(true).open(&node.docker.path).unwrap();
    node.docker.lines(10, 12);
    node.kubelet.wait_for(&counted_cri(0, 12)).await;
    assert_eq!(node.pumps.counts().gaps, 1);
}

#[tokio::test]
async fn reopening_under_a_writer_neither_loses_nor_doubles_a_line() {
    let mut node = Node::follow(3).await;
    let mut docker = std::mem::replace(&mut node.docker, Docker::new(&Temp::new(), 2));
    let writer = tokio::task::spawn_blocking(move || {
        for start in (0..20_000).step_by(100) {
            docker.lines(start, start + 100);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    while !writer.is_finished() {
        node.kubelet.rename();
        node.pumps.reopen(&id()).await.unwrap();
        let old = node.kubelet.old(node.kubelet.rotated - 1);
        let length = fs::metadata(&old).unwrap().len();
        tokio::time::sleep(Duration::from_millis(15)).await;
        assert_eq!(fs::metadata(&old).unwrap().len(), length, "the old file has stopped growing");
    }
    assert_eq!(node.drain().await, Drained::Done);
    assert!(node.kubelet.rotated > 3);
    assert!(node.kubelet.whole() == counted_cri(0, 20_000));
}

#[tokio::test]
async fn reopening_makes_a_missing_file() {
    let mut node = Node::follow(3).await;
    fs::remove_file(node.kubelet.log()).unwrap();
    node.pumps.reopen(&id()).await.unwrap();
    node.docker.lines(0, 1);
    node.kubelet.wait_for(&counted_cri(0, 1)).await;
}

#[tokio::test]
async fn a_drained_container_is_not_followed() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 100);
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), counted_cri(0, 100));
    assert_eq!(node.drain().await, Drained::NotFollowed);
    assert!(matches!(node.pumps.reopen(&id()).await, Err(Error::NotFollowed(_))));
    let nothing_is_left = async {
        while !node.pumps.pumps().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, nothing_is_left).await.unwrap();
    node.docker.lines(100, 101);
    node.follow_again().await;
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), counted_cri(0, 101));
}

#[tokio::test]
async fn a_drain_that_takes_too_long_goes_on() {
    let node = Node::new(3);
    // a directory in the spool's place can't be read
    fs::remove_file(&node.docker.path).unwrap();
    fs::create_dir(&node.docker.path).unwrap();
    node.follow_again().await;
    assert_eq!(node.pumps.drain(&id(), Duration::from_millis(50)).await, Drained::TimedOut);
    fs::remove_dir(&node.docker.path).unwrap();
    fs::write(&node.docker.path, json("late\n")).unwrap();
    node.kubelet.wait_for(&cri(["late"])).await;
    while node.pumps.pump(&id()).is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_crash_leaves_every_line_once() {
    let mut node = Node::follow(3).await;
    let mut written = 0;
    for count in [5, 0, 1, 300, 7] {
        node.docker.lines(written, written + count);
        written += count;
        node.kubelet.wait_for(&counted_cri(0, written)).await;
        node.docker.lines(written, written + 2);
        written += 2;
        node.crash().await;
        node.follow_again().await;
    }
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), counted_cri(0, written));
}

#[tokio::test]
async fn a_line_torn_by_a_crash_is_written_again() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 3);
    node.kubelet.wait_for(&counted_cri(0, 3)).await;
    node.crash().await;
    node.docker.lines(3, 6);
    let mut log = OpenOptions::new().append(true).open(node.kubelet.log()).unwrap();
    let next = counted_cri(3, 5);
    log.write_all(&next.as_bytes()[..next.len() - 4]).unwrap();
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 6)).await;
}

#[tokio::test]
async fn a_crash_between_rename_and_reopen_leaves_every_line_once() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 3);
    node.kubelet.wait_for(&counted_cri(0, 3)).await;
    node.docker.lines(3, 6);
    node.kubelet.wait_for(&counted_cri(0, 6)).await;
    node.kubelet.rename();
    node.crash().await;
    node.docker.lines(6, 8);
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 8)).await;
    assert_eq!(node.kubelet.content(), counted_cri(6, 8));
}

#[tokio::test]
async fn without_a_record_the_log_is_compared_from_its_start() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 50);
    assert_eq!(node.drain().await, Drained::Done);
    assert!(node.position().is_some());
    records(&node.temp).remove(id().as_str()).unwrap();
    node.docker.lines(50, 60);
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 60)).await;
}

#[tokio::test]
async fn a_log_that_lost_its_end_is_made_whole() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 50);
    assert_eq!(node.drain().await, Drained::Done);
    OpenOptions::new().write(true).open(node.kubelet.log()).unwrap().set_len(333).unwrap();
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 50)).await;
}

#[tokio::test]
async fn an_inode_given_out_again_is_not_taken_for_the_old_file() {
    let mut node = Node::new(3);
    node.docker.lines(0, 10);
    let id_of = |path: &Path| FileId::from(&fs::metadata(path).unwrap());
    fs::create_dir_all(node.kubelet.log().parent().unwrap()).unwrap();
    fs::write(node.kubelet.log(), "before\n").unwrap();
    let position = Position {
        spool: Some(Mark { file: id_of(&node.docker.path), fingerprint: "another's".to_owned(), offset: 100 }),
        outputs: vec![Written { file: id_of(&node.kubelet.log()), length: 7 }],
    };
    records(&node.temp).save(id().as_str(), &position).unwrap();
    node.follow_again().await;
    node.kubelet.wait_for(&format!("before\n{}", counted_cri(0, 10))).await;
}

#[tokio::test]
async fn another_adapters_link_is_replaced_and_its_target_kept() {
    let mut node = Node::new(3);
    node.docker.lines(0, 10);
    fs::create_dir_all(node.kubelet.log().parent().unwrap()).unwrap();
    symlink(&node.docker.path, node.kubelet.log()).unwrap();
    let spool = fs::read(&node.docker.path).unwrap();
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 10)).await;
    assert!(fs::symlink_metadata(node.kubelet.log()).unwrap().is_file());
    assert_eq!(fs::read(&node.docker.path).unwrap(), spool);
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_an_error_and_may_be_tried_again() {
    let node = Node::new(3);
    let directory = node.kubelet.log().parent().unwrap().to_owned();
    symlink(node.temp.path(), &directory).unwrap();
    let outcome = node.pumps.follow(&id(), node.docker.path.clone(), node.kubelet.path.clone()).await;
    assert!(matches!(outcome, Err(Error::Open { .. })));
    fs::remove_file(&directory).unwrap();
    node.follow_again().await;
    assert!(node.kubelet.log().exists());
}

#[tokio::test]
async fn forgetting_ends_the_pump_and_drops_the_record() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 1);
    node.kubelet.wait_for(&counted_cri(0, 1)).await;
    assert!(node.position().is_some());
    node.pumps.forget(&id()).await;
    assert_eq!(node.position(), None);
    assert_eq!(node.drain().await, Drained::NotFollowed);
    node.pumps.forget(&id()).await;
}

#[tokio::test]
async fn a_look_that_comes_after_the_end_moves_nothing() {
    let mut node = Node::new(3);
    let (spool, path) = (node.docker.path.clone(), node.kubelet.path.clone());
    let transfer = Transfer::open(id(), spool.clone(), path, records(&node.temp), Arc::default()).unwrap();
    let looker = Looker::new(&spool, transfer, None, Arc::default());
    node.docker.lines(0, 1);
    looker.clone().look_again(&mut Buffers::default());
    assert_eq!(node.kubelet.content(), counted_cri(0, 1));
    looker.end(|_| {}).await;
    node.docker.lines(1, 2);
    // of a change that was noticed before
    looker.clone().look_again(&mut Buffers::default());
    assert!(looker.round().await.is_none());
    assert_eq!(node.kubelet.content(), counted_cri(0, 1));
}

#[tokio::test]
async fn a_quiet_containers_position_is_saved_in_time() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 1);
    node.kubelet.wait_for(&counted_cri(0, 1)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.docker.lines(1, 2);
    node.kubelet.wait_for(&counted_cri(0, 2)).await;
    let length = u64::try_from(counted_cri(0, 2).len()).unwrap();
    let began = std::time::Instant::now();
    while node.position().is_none_or(|position| position.outputs[0].length != length) {
        assert!(began.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_written_is_counted_with_its_lag() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 7);
    assert_eq!(node.drain().await, Drained::Done);
    let counts = node.pumps.counts();
    assert_eq!((counts.lines, counts.bytes), (7, u64::try_from(counted_cri(0, 7).len()).unwrap()));
    assert_eq!((counts.damaged, counts.gaps, counts.late_drains), (0, 0, 0));
    // the stamp is of a day long past
    assert!(counts.lag[LAG_BOUNDS.len()] > 0 && counts.lag[..LAG_BOUNDS.len()].iter().all(|count| *count == 0));
    node.follow_again().await;
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.pumps.counts().lines, 7, "what is compared isn't written again");
}

#[tokio::test]
async fn damaged_lines_are_counted() {
    let mut node = Node::follow(3).await;
    node.docker.write(format!("{}garbage\n\0\0{}{{\"log\":\"torn", json("a\n"), json("b\n")));
    node.docker.rotate();
    node.docker.write(json("c\n"));
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), cri(["a", "b", "c"]));
    assert_eq!(node.pumps.counts().damaged, 3);
}

#[tokio::test]
async fn a_spool_that_overran_is_a_gap_and_never_silent() {
    let mut node = Node::follow(2).await;
    node.docker.lines(0, 5);
    node.kubelet.wait_for(&counted_cri(0, 5)).await;
    node.crash().await;
    for start in [5, 10, 15] {
        node.docker.rotate();
        node.docker.lines(start, start + 5);
    }
    node.follow_again().await;
    node.kubelet.wait_for(&(counted_cri(0, 5) + &counted_cri(10, 20))).await;
    assert_eq!(node.pumps.counts().gaps, 1);
    node.docker.rotate();
    node.docker.lines(20, 25);
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.pumps.counts().gaps, 1, "a rotation that was seen is none");
}

#[tokio::test]
async fn a_gap_doubles_no_line_that_was_written_after_the_last_save() {
    let mut node = Node::follow(2).await;
    node.docker.lines(0, 5);
    node.kubelet.wait_for(&counted_cri(0, 5)).await;
    node.crash().await;
    node.docker.rotate();
    node.docker.lines(5, 10);
    node.docker.rotate();
    node.docker.lines(10, 15);
    // the process had written these, and died before it saved its position
    let mut log = OpenOptions::new().append(true).open(node.kubelet.log()).unwrap();
    log.write_all(counted_cri(5, 12).as_bytes()).unwrap();
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 15)).await;
}

#[tokio::test]
async fn a_spool_that_overran_before_the_first_save_is_a_gap() {
    let mut node = Node::follow(2).await;
    node.docker.lines(0, 5);
    node.kubelet.wait_for(&counted_cri(0, 5)).await;
    node.crash().await;
    records(&node.temp).remove(id().as_str()).unwrap();
    for start in [5, 10, 15] {
        node.docker.rotate();
        node.docker.lines(start, start + 5);
    }
    node.follow_again().await;
    node.kubelet.wait_for(&(counted_cri(0, 5) + &counted_cri(10, 20))).await;
    assert_eq!(node.pumps.counts().gaps, 1);
}

#[tokio::test]
async fn a_rotation_that_the_kubelet_takes_back_after_a_crash_loses_nothing() {
    let mut node = Node::follow(3).await;
    for round in 0..4 {
        node.docker.lines(round * 10, round * 10 + 5);
        node.kubelet.wait_for(&counted_cri(0, round * 10 + 5)).await;
        let old = node.kubelet.old(0);
        fs::rename(node.kubelet.log(), &old).unwrap();
        node.pumps.reopen(&id()).await.unwrap();
        node.crash().await;
        node.docker.lines(round * 10 + 5, round * 10 + 10);
        // ReopenContainerLog has failed, by what the kubelet knows
        fs::rename(&old, node.kubelet.log()).unwrap();
        node.follow_again().await;
    }
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), counted_cri(0, 40));
}

#[tokio::test]
async fn a_late_drain_is_counted() {
    let node = Node::new(3);
    fs::remove_file(&node.docker.path).unwrap();
    fs::create_dir(&node.docker.path).unwrap();
    node.follow_again().await;
    assert_eq!(node.pumps.drain(&id(), Duration::from_millis(20)).await, Drained::TimedOut);
    assert_eq!(node.pumps.counts().late_drains, 1);
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_tried_again_by_itself() {
    let mut node = Node::new(3);
    let directory = node.kubelet.log().parent().unwrap().to_owned();
    fs::write(&directory, "in the directory's place").unwrap();
    assert!(node.pumps.prepare(&node.kubelet.path).await.is_err());
    for _ in 0..2 {
        let followed = node.pumps.follow(&id(), node.docker.path.clone(), node.kubelet.path.clone()).await;
        assert!(matches!(followed, Err(Error::Open { .. })));
    }
    assert!(matches!(node.pumps.reopen(&id()).await, Err(Error::Open { .. })), "the kubelet is told why");
    fs::remove_file(&directory).unwrap();
    node.docker.lines(0, 5);
    let began = std::time::Instant::now();
    while !node.kubelet.log().exists() {
        assert!(began.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.drain().await, Drained::Done);
    assert_eq!(node.kubelet.content(), counted_cri(0, 5));
}

#[tokio::test]
async fn a_container_that_ended_before_its_log_could_be_opened_gets_it_later() {
    let mut node = Node::new(3);
    let directory = node.kubelet.log().parent().unwrap().to_owned();
    fs::write(&directory, "in the directory's place").unwrap();
    node.docker.lines(0, 5);
    let followed = node.pumps.follow(&id(), node.docker.path.clone(), node.kubelet.path.clone()).await;
    assert!(followed.is_err());
    assert_eq!(node.pumps.drain(&id(), Duration::from_millis(20)).await, Drained::TimedOut);
    fs::remove_file(&directory).unwrap();
    while node.pumps.pump(&id()).is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.kubelet.content(), counted_cri(0, 5));
}

#[tokio::test]
async fn a_container_that_is_gone_leaves_no_log_but_what_was_rotated() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 5);
    node.kubelet.wait_for(&counted_cri(0, 5)).await;
    node.kubelet.rename();
    node.pumps.reopen(&id()).await.unwrap();
    let log = node.kubelet.path.to_string();
    node.pumps.discard(&id(), &log).await;
    assert!(!node.kubelet.log().exists() && node.kubelet.old(0).exists() && node.docker.path.exists());
    assert_eq!((node.position(), node.pumps.pump(&id()).is_some()), (None, false));
    node.pumps.discard(&id(), &log).await;
    node.pumps.discard(&id(), "no path at all").await;
}

#[tokio::test]
async fn in_dockers_format_the_log_is_a_link_that_cannot_be_reopened() {
    let mut node = Node::new(3);
    node.pumps = Pumps::new(records(&node.temp), Format::Docker);
    node.pumps.prepare(&node.kubelet.path).await.unwrap();
    node.follow_again().await;
    assert_eq!(fs::read_link(node.kubelet.log()).unwrap(), node.docker.path);
    assert!(matches!(node.pumps.reopen(&id()).await, Err(Error::Linked(_))));
    assert_eq!(node.drain().await, Drained::NotFollowed);
    node.pumps.discard(&id(), &node.kubelet.path.to_string()).await;
    assert!(!node.kubelet.log().is_symlink() && node.docker.path.exists());
}

#[tokio::test]
async fn a_log_of_lines_stays_one_when_the_format_is_changed() {
    let mut node = Node::follow(3).await;
    node.docker.lines(0, 5);
    node.kubelet.wait_for(&counted_cri(0, 5)).await;
    node.crash().await;
    node.pumps = Pumps::new(records(&node.temp), Format::Docker);
    node.docker.lines(5, 8);
    node.follow_again().await;
    node.kubelet.wait_for(&counted_cri(0, 8)).await;
    node.pumps.reopen(&id()).await.unwrap();
}

/// What may happen to a container's log.
#[derive(Clone, Debug)]
enum Act {
    Lines(usize),
    Rotate,
    Round,
    /// The process dies after a round's writing and before its saving; this much of the end had not been written.
    RoundThenCrash(usize),
    Save,
    /// The process dies; of what was written since the last save, this much of the end had not been.
    Crash(usize),
    KubeletRotates,
    KubeletRenamesThenCrash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1..20_usize).prop_map(Act::Lines),
        1 => Just(Act::Rotate),
        3 => Just(Act::Round),
        2 => (0..200_usize).prop_map(Act::RoundThenCrash),
        1 => Just(Act::Save),
        1 => (0..200_usize).prop_map(Act::Crash),
        1 => Just(Act::KubeletRotates),
        1 => Just(Act::KubeletRenamesThenCrash),
    ]
}

/// Cuts the log's end as a crash in the middle of writing leaves it: nothing that a saved position speaks of.
fn tear(temp: &Temp, log: &Path, count: usize) {
    let position: Option<Position> = records(temp).load(id().as_str()).unwrap();
    let metadata = fs::metadata(log).unwrap();
    let outputs = position.unwrap_or_default().outputs;
    let named = outputs.iter().filter(|output| output.file == FileId::from(&metadata));
    let saved = named.map(|output| output.length).max().unwrap_or_default();
    let length = metadata.len().saturating_sub(u64::try_from(count).unwrap()).max(saved);
    OpenOptions::new().write(true).open(log).unwrap().set_len(length).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_generations_together_hold_every_line_once(acts in prop::collection::vec(act(), 1..40)) {
        let temp = Temp::new();
        let (mut docker, mut kubelet) = (Docker::new(&temp, 100), Kubelet::new(&temp));
        let open = |kubelet: &Kubelet, docker: &Docker| {
            Transfer::open(id(), docker.path.clone(), kubelet.path.clone(), records(&temp), Arc::default()).unwrap()
        };
        let mut transfer = open(&kubelet, &docker);
        let mut written = 0;
        for act in acts {
            match act {
                Act::Lines(count) => {
                    docker.lines(written, written + count);
                    written += count;
                }
                Act::Rotate => docker.rotate(),
                Act::Round => drop(transfer.round(&mut Buffers::default()).unwrap()),
                Act::RoundThenCrash(count) => {
                    let record = temp.path().join("positions").join(id().as_str());
                    let before = fs::read(&record).ok();
                    transfer.round(&mut Buffers::default()).unwrap();
                    match before {
                        Some(before) => fs::write(record, before).unwrap(),
                        None => drop(fs::remove_file(record)),
                    }
                    tear(&temp, &kubelet.log(), count);
                    transfer = open(&kubelet, &docker);
                }
                Act::Save => transfer.save(),
                Act::Crash(count) => {
                    tear(&temp, &kubelet.log(), count);
                    transfer = open(&kubelet, &docker);
                }
                Act::KubeletRotates => {
                    kubelet.rename();
                    transfer.reopen().unwrap();
                }
                Act::KubeletRenamesThenCrash => {
                    kubelet.rename();
                    transfer = open(&kubelet, &docker);
                }
            }
        }
        while transfer.round(&mut Buffers::default()).unwrap() != Round::Nothing {}
        prop_assert_eq!(kubelet.whole(), counted_cri(0, written));
    }
}
