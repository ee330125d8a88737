//! One directory for everything that a run starts, and a janitor that clears it away whatever happens to the run.
//!
//! The janitor is a second process of this binary, in a process group of its own, that waits for the end of its stdin. The run holds
//! the other end, so a panic, Ctrl-C or SIGKILL ends the run and starts the clearing. What belongs to the run is known by its
//! path: processes name it on their command line, mounts lie beneath it, and each engine notes its bridge in it.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::docker::Docker;

/// First argument of the janitor.
pub(crate) const JANITOR: &str = "clear-when-stdin-ends";

/// File in which an engine notes the bridge that it made.
pub(super) const BRIDGE_FILE: &str = "bridge";

/// The name of an engine's socket in its directory.
pub(super) const ENGINE_SOCKET: &str = "docker.sock";

static RUN: OnceLock<Run> = OnceLock::new();

struct Run {
    dir: PathBuf,
    janitor: Mutex<Option<Child>>,
    used: AtomicU32,
}

/// A new directory of this run. The path is short: Unix sockets beneath it must stay below 108 bytes.
pub(crate) fn new_dir(kind: &str) -> PathBuf {
    let run = RUN.get_or_init(begin);
    let dir = run.dir.join(format!("{kind}{}", run.used.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Clears everything that is left, and waits for it.
pub(crate) fn end() {
    let Some(run) = RUN.get() else { return };
    if let Some(mut janitor) = run.janitor.lock().unwrap().take() {
        drop(janitor.stdin.take());
        janitor.wait().unwrap();
    }
}

fn begin() -> Run {
    use std::os::unix::process::CommandExt;
    let dir = std::env::temp_dir().join(format!("dsh-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut janitor = Command::new(std::env::current_exe().unwrap());
    janitor.arg(JANITOR).arg(&dir).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
    Run { dir, janitor: Mutex::new(Some(janitor.spawn().unwrap())), used: AtomicU32::new(0) }
}

/// The janitor's life.
pub(super) fn clear_when_stdin_ends(dir: &Path) -> ! {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    clear(dir);
    std::process::exit(0)
}

/// Ends what runs in `dir` and removes it: containers, processes, mounts, bridges, files, in this order.
pub(crate) fn clear(dir: &Path) {
    let beneath = || std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders: Vec<_> = std::iter::once(dir.to_owned()).chain(beneath()).collect();
    for socket in folders.iter().map(|folder| folder.join(ENGINE_SOCKET)).filter(|socket| socket.exists()) {
        Docker::new(socket).remove_all_containers();
    }
    end_processes(dir);
    unmount(dir);
    for bridge in folders.iter().filter_map(|folder| std::fs::read_to_string(folder.join(BRIDGE_FILE)).ok()) {
        let _ = Command::new("ip").args(["link", "del", &bridge]).stderr(Stdio::null()).status();
        firewall("-D", &bridge);
    }
    if let Err(error) = std::fs::remove_dir_all(dir) {
        eprintln!("{} is not removed: {error}", dir.display());
    }
}

/// Adds (`-I`) or takes away (`-D`) the rule that lets pods of one bridge reach each other, as Docker does for its own. On a machine where
/// any Docker has run, the kernel shows such packets to the firewall, which else drops them. Where there is no iptables, none is needed.
pub(super) fn firewall(change: &str, bridge: &str) {
    let mut rule = Command::new("iptables");
    rule.args(["-w", change, "FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]);
    let _ = rule.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// SIGTERM, then SIGKILL for what is still there after 8 s.
fn end_processes(dir: &Path) {
    let started = Instant::now();
    loop {
        let left = processes_of(dir);
        if left.is_empty() || started.elapsed() > Duration::from_secs(20) {
            return;
        }
        let signal = if started.elapsed() < Duration::from_secs(8) { Signal::TERM } else { Signal::KILL };
        for pid in left {
            let _ = kill_process(pid, signal);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Processes whose command line names the directory, and their descendants.
fn processes_of(dir: &Path) -> HashSet<Pid> {
    let needle = format!("{}/", dir.display());
    let all: Vec<_> =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| process(&entry.path())).collect();
    let mut found: HashSet<Pid> = HashSet::new();
    loop {
        let before = found.len();
        for (pid, parent, command) in &all {
            if command.contains(&needle) || parent.is_some_and(|parent| found.contains(&parent)) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            found.remove(&rustix::process::getpid());
            return found;
        }
    }
}

/// Pid, parent and command line of `/proc/<pid>`; None for a zombie and for what has just ended.
fn process(dir: &Path) -> Option<(Pid, Option<Pid>, String)> {
    let pid = Pid::from_raw(dir.file_name()?.to_str()?.parse().ok()?)?;
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    let parent = fields.next()?.parse().ok().and_then(Pid::from_raw);
    let command = std::fs::read(dir.join("cmdline")).ok()?;
    Some((pid, parent, String::from_utf8_lossy(&command).into_owned()))
}

/// Lazily unmounts what is mounted beneath the directory, the newest first.
fn unmount(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let points: Vec<_> = points.filter(|point| point.starts_with(dir)).collect();
    for point in points.iter().rev() {
        let _ = Command::new("umount").arg("-l").arg(point).stderr(Stdio::null()).status();
    }
}
