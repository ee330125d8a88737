//! Runs the compiled program itself, on this kernel: its modes, its signals, and as PID 1 of a PID namespace (needs root).

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::image::PROGRAM_FILE;

/// Anything that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);
/// "At once", on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The program as a file that any user may run; removed at the end.
struct Program {
    dir: PathBuf,
}

impl Program {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("dockershim-pause-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        let program = Program { dir };
        // written by another process: while a test beside this one forks, a file that we write is busy in its child, and can't be run
        let mut install = Command::new("install");
        let mut install =
            install.args(["-m", "755", "/dev/stdin"]).arg(program.path()).stdin(Stdio::piped()).spawn().unwrap();
        install.stdin.take().unwrap().write_all(PROGRAM_FILE).unwrap();
        assert!(install.wait().unwrap().success());
        program
    }

    fn path(&self) -> PathBuf {
        self.dir.join("pause")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path());
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `pause wait ready`, once it has said so.
    fn waiting(&self) -> Running {
        Running::start(self.command(&["wait", "ready"]))
    }

    /// The same as PID 1 of a new PID namespace; the process is `unshare`, which passes the exit code on.
    fn waiting_as_pid_1(&self) -> Running {
        let mut unshare = Command::new("unshare");
        Running::start(unshare.args(["--pid", "--fork", "--kill-child"]).arg(self.path()).args(["wait", "ready"]))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A process that has printed `ready`; killed at the end if it is still there.
struct Running {
    child: Child,
}

impl Running {
    fn start(mut command: impl std::borrow::BorrowMut<Command>) -> Self {
        let mut child = command.borrow_mut().stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Running { child }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// How it ended, if it did so at once.
    fn ended_at_once(&mut self) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < AT_ONCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn children_of(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

fn await_true(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < LIMIT, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a process has as many children as that, dead ones that nobody has reaped among them.
fn await_children(pid: i32, count: usize) -> Vec<i32> {
    let mut children = Vec::new();
    await_true(&format!("{pid} has {count} children"), || {
        children = children_of(pid);
        children.len() == count
    });
    children
}

/// The fields of `/proc/<pid>/stat` behind the name, which is in brackets: state, parent, …
fn stat(pid: i32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split_whitespace().map(str::to_owned).collect()
}

/// Waits until a process is stopped (`T`), a zombie (`Z`), asleep (`S`).
fn await_state(pid: i32, state: &str) {
    await_true(&format!("{pid} is in state {state}"), || stat(pid)[0] == state);
}

/// Runs a shell in the PID namespace of a process. How it ends says nothing if it has ended the namespace.
fn shell_beside(pid: i32, script: &str) -> ExitStatus {
    let target = pid.to_string();
    // the orphans must not hold the test's own pipes
    let (out, err) = (Stdio::null(), Stdio::null());
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &target, "--pid", "sh", "-c", script]).stdout(out).stderr(err).status().unwrap()
}

fn assert_ends(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let found =
        (output.status.code(), String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(found, (Some(code), stdout.into(), stderr.into()));
}

#[test]
fn say_prints_its_words_and_ends() {
    let program = Program::new();
    assert_ends(&program.run(&["say", "hello"]), 0, "hello\n", "");
    assert_ends(&program.run(&["say", "a", "", "b  c", "ü\n"]), 0, "a  b  c ü\n\n", "");
    assert_ends(&program.run(&["say"]), 0, "\n", "");
}

#[test]
fn say_prints_all_when_a_write_is_cut_short() {
    let program = Program::new();
    let word = "x".repeat(100_000);
    let say = program.command(&["say", &word, &word]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = i32::try_from(say.id()).unwrap();
    // the pipe is full; a stop makes the kernel answer with what has gone into it
    await_state(pid, "S");
    signal(pid, Signal::STOP);
    await_state(pid, "T");
    signal(pid, Signal::CONT);
    assert_ends(&say.wait_with_output().unwrap(), 0, &format!("{word} {word}\n"), "");
}

#[test]
fn a_write_that_fails_is_told() {
    let program = Program::new();
    let full = || fs::File::create("/dev/full").unwrap();
    for mode in ["say", "wait"] {
        let output = program.command(&[mode, "x"]).stdout(full()).output().unwrap();
        assert_ends(&output, 1, "", "pause: can't write\n");
    }
    assert_eq!(program.command(&["say", "x"]).stdout(full()).stderr(full()).status().unwrap().code(), Some(1));
}

#[test]
fn exit_ends_with_its_number() {
    let program = Program::new();
    for (number, code) in [("0", 0), ("3", 3), ("007", 7), ("255", 255)] {
        assert_ends(&program.run(&["exit", number]), code, "", "");
    }
}

#[test]
fn other_arguments_are_refused_with_the_usage() {
    let program = Program::new();
    let wrong: [&[&str]; 11] = [
        &["exit"],
        &["exit", ""],
        &["exit", "256"],
        &["exit", "99999999999999999999"],
        &["exit", "-1"],
        &["exit", "3x"],
        &["exit", "3", "4"],
        &["--help"],
        &["sayy"],
        &["wai"],
        &[""],
    ];
    for args in wrong {
        assert_ends(&program.run(args), 2, "", "usage: pause [wait [TEXT...] | say [TEXT...] | exit N]\n");
    }
}

#[test]
fn wait_ends_at_once_on_either_signal() {
    let program = Program::new();
    for end in [Signal::TERM, Signal::INT] {
        let mut waiting = program.waiting();
        signal(waiting.pid(), end);
        assert_eq!(waiting.ended_at_once().expect("it still runs").code(), Some(0), "{end:?}");
    }
}

#[test]
fn without_arguments_it_waits_too() {
    let program = Program::new();
    let mut waiting = Running { child: program.command(&[]).stdout(Stdio::piped()).spawn().unwrap() };
    await_state(waiting.pid(), "S");
    signal(waiting.pid(), Signal::TERM);
    assert_eq!(waiting.ended_at_once().expect("it still runs").code(), Some(0));
}

#[test]
fn wait_stays_asleep_and_outlives_a_stop() {
    let program = Program::new();
    let mut waiting = program.waiting();
    signal(waiting.pid(), Signal::STOP);
    signal(waiting.pid(), Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    let stat = stat(waiting.pid());
    assert_eq!(stat[0], "S", "asleep");
    let ticks: u64 = [&stat[11], &stat[12]].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    assert!(ticks <= 2, "{ticks} hundredths of a second of processor time");
    signal(waiting.pid(), Signal::TERM);
    assert_eq!(waiting.ended_at_once().expect("it still runs").code(), Some(0));
}

#[test]
fn pid_1_ends_at_once_on_either_signal() {
    let program = Program::new();
    for end in ["TERM", "INT"] {
        let mut unshare = program.waiting_as_pid_1();
        let pause = await_children(unshare.pid(), 1)[0];
        shell_beside(pause, &format!("kill -{end} 1"));
        assert_eq!(unshare.ended_at_once().expect("it still runs").code(), Some(0), "{end}");
    }
}

#[test]
fn pid_1_reaps_every_orphan() {
    let program = Program::new();
    let mut unshare = program.waiting_as_pid_1();
    let pause = await_children(unshare.pid(), 1)[0];
    for _ in 0..3 {
        assert!(shell_beside(pause, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done").success());
        let orphans = await_children(pause, 12);
        // while it can't act, twelve deaths leave one SIGCHLD and twelve zombies
        signal(pause, Signal::STOP);
        orphans.iter().for_each(|orphan| signal(*orphan, Signal::KILL));
        orphans.iter().for_each(|orphan| await_state(*orphan, "Z"));
        signal(pause, Signal::CONT);
        await_children(pause, 0);
    }
    signal(pause, Signal::TERM);
    assert_eq!(unshare.ended_at_once().expect("it still runs").code(), Some(0));
}

#[test]
fn a_child_that_died_before_the_program_came_is_reaped() {
    let program = Program::new();
    // The shell leaves its child to flock, which reaps nothing and becomes the program when it gets the lock.
    let lock = fs::File::create(program.dir.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let script = "sleep 1000 & echo ready; exec flock --no-fork \"$0/lock\" \"$0/pause\" wait";
    let process = Running::start(Command::new("sh").arg("-c").arg(script).arg(&program.dir));
    await_true("flock runs", || fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap() == "flock\n");
    let child = children_of(process.pid())[0];
    signal(child, Signal::KILL);
    await_state(child, "Z");
    flock(&lock, FlockOperation::Unlock).unwrap();
    await_children(process.pid(), 0);
}

#[test]
fn any_user_can_run_it_without_rights() {
    let program = Program::new();
    for user in [65534, 65535, 1_000_650_000] {
        let mut waiting =
            Running::start(program.command(&["wait", "ready"]).uid(user).gid(user).current_dir("/").env_clear());
        signal(waiting.pid(), Signal::TERM);
        assert_eq!(waiting.ended_at_once().expect("it still runs").code(), Some(0), "{user}");
    }
}

#[test]
fn another_signal_has_its_usual_effect() {
    let program = Program::new();
    let mut waiting = program.waiting();
    signal(waiting.pid(), Signal::HUP);
    assert_eq!(waiting.ended_at_once().expect("it still runs").signal(), Some(Signal::HUP.as_raw()));
}
