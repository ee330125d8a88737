//! A CRI adapter that a bench starts: by a command line with places to fill in.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use dockershim::pause;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::workspace;

/// How this crate's own dockershim is started.
pub(crate) const OWN: &str = concat!(
    env!("CARGO_BIN_EXE_dockershim"),
    " --container-runtime-endpoint=unix://{cri} --docker-endpoint=unix://{docker} --root-directory={dir}/state",
    " --network-plugin=bridge --allow-other-adapter",
);

/// An adapter that was started here; dropping it ends it.
pub(crate) struct Adapter {
    child: Child,
    dir: PathBuf,
}

impl Adapter {
    /// Starts one in front of an engine, with its output in a file. It is ready some time later, or never.
    pub(crate) fn start(command: &str, docker: &Path) -> anyhow::Result<Adapter> {
        use std::os::unix::process::CommandExt;
        let dir = workspace::new_dir("a");
        let log = std::fs::File::create(dir.join("log"))?;
        let cri = socket_in(&dir).display().to_string();
        let filled = command.replace("{cri}", &cri).replace("{docker}", &docker.display().to_string());
        let filled = filled.replace("{dir}", &dir.display().to_string()).replace("{pause}", pause::reference());
        let mut words = filled.split_whitespace();
        let mut command = Command::new(words.next().context("the command is empty")?);
        command.args(words).process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Adapter { child: command.spawn()?, dir })
    }

    /// Its CRI socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.dir)
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("cri.sock")
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
