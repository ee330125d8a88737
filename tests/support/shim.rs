//! The real `dockershim` binary with its own socket, state directory and log: started, killed, started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::client::Cri;
use super::{tail, wait_for, workspace};

/// The binary under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dockershim");

/// A dockershim; dropping it ends it.
pub(crate) struct Shim {
    dir: PathBuf,
    arguments: Vec<String>,
    child: Mutex<Option<Child>>,
}

impl Shim {
    /// Starts one in front of an engine's socket, with flags of the test's choice, and waits until its socket answers.
    pub(crate) fn start_with(engine: &Path, flags: &[&str]) -> Shim {
        let dir = workspace::new_dir("s");
        let mut arguments = vec![
            format!("--container-runtime-endpoint=unix://{}", dir.join("cri.sock").display()),
            format!("--docker-endpoint=unix://{}", engine.display()),
            format!("--root-directory={}", dir.join("state").display()),
            "--log-level=debug".to_owned(),
            // one on the user's own engine is none on this one
            "--allow-other-adapter".to_owned(),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let shim = Shim { dir, arguments, child: Mutex::new(None) };
        shim.start_again();
        shim
    }

    /// Starts it with the same socket and state, after `kill` or `stop`.
    pub(crate) fn start_again(&self) {
        self.spawn();
        wait_for("dockershim takes connections", Duration::from_secs(20), || {
            if let Some(status) = self.child.lock().unwrap().as_mut().unwrap().try_wait().unwrap() {
                panic!("dockershim ended with {status}:\n{}", self.log(20));
            }
            std::os::unix::net::UnixStream::connect(self.socket()).ok()
        });
    }

    /// The same, and doesn't wait for anything.
    pub(crate) fn spawn(&self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
    }

    /// SIGKILL: it can't do anything about it.
    pub(crate) fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(&self) -> Option<ExitStatus> {
        self.end(Signal::TERM)
    }

    fn end(&self, signal: Signal) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap().take()?;
        kill_process(Pid::from_child(&child), signal).unwrap();
        Some(child.wait().unwrap())
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("cri.sock")
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Its pid, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap().as_ref().map(Child::id)
    }

    /// The flags it was started with.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Puts a flag in another one's place, from the next start on.
    pub(crate) fn exchange_flag(&mut self, flag: &str, other: &str) {
        for argument in self.arguments.iter_mut().filter(|argument| *argument == flag) {
            other.clone_into(argument);
        }
    }

    /// A client of its socket; it reconnects by itself.
    pub(crate) fn cri(&self) -> Cri {
        Cri::new(&self.socket())
    }

    /// The end of its log.
    pub(crate) fn log(&self, lines: usize) -> String {
        tail(&self.log_path(), lines)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("dockershim.log")
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        if let Some(child) = child {
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let _ = child.wait();
        }
    }
}

/// Runs the program to its end, as an operator would.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}
