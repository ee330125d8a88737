//! A private Docker Engine: its own containerd, socket, data, exec root, pid file and bridge.
//! It never speaks to the user's dockerd, and leaves forwarding and the firewall alone, but for a rule of its own bridge.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::docker::Docker;
use super::{netns, runc, tail, wait_for, workspace};

/// What a private engine is started with beyond the defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Containers outlive dockerd.
    pub(crate) live_restore: bool,
    /// Its daemon.json, where `@` stands for the engine's own directory.
    pub(crate) daemon_json: &'static str,
    /// An oom_score_adj that this machine can't give is raised to one that it can.
    pub(crate) raises_oom_scores: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { live_restore: false, daemon_json: "{}", raises_oom_scores: false }
    }
}

/// A seccomp profile for a daemon.json that names `@/forbidding.json`.
const FORBIDDING: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]
}"#;

/// Bridges' names, but for their number.
const BRIDGE: &str = "dsh";

/// A running engine; dropping it ends it and removes all that it made.
pub(crate) struct Engine {
    dir: PathBuf,
    bridge: String,
    options: Options,
    containerd: Child,
    dockerd: Mutex<Option<Child>>,
    /// Calls to it.
    pub(crate) docker: Docker,
}

impl Engine {
    /// Starts an engine and waits until it answers.
    pub(crate) fn start(options: Options) -> Engine {
        let dir = workspace::new_dir("e");
        put_runc_wrapper(&dir);
        let bridge = make_bridge(&dir);
        let containerd = start_containerd(&dir, options);
        let docker = Docker::new(dir.join(workspace::ENGINE_SOCKET));
        let engine = Engine { dir, bridge, options, containerd, dockerd: Mutex::new(None), docker };
        engine.start_dockerd();
        engine
    }

    /// The engine's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join(workspace::ENGINE_SOCKET)
    }

    /// The bridge of its pods.
    pub(crate) fn bridge(&self) -> &str {
        &self.bridge
    }

    /// The bridge's subnet, `198.18.N.0/24`.
    pub(crate) fn subnet(&self) -> String {
        format!("198.18.{}.0/24", self.bridge.trim_start_matches(BRIDGE))
    }

    /// Starts dockerd again after `stop_dockerd`.
    pub(crate) fn start_dockerd(&self) {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let own_dir = self.dir.display().to_string();
        std::fs::write(path("daemon.json"), self.options.daemon_json.replace('@', &own_dir)).unwrap();
        std::fs::write(path("forbidding.json"), FORBIDDING).unwrap();
        let mut command = daemon(&self.dir, "dockerd");
        command.args([
            "--config-file",
            &path("daemon.json"),
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("exec"),
        ]);
        command.args(["--pidfile", &path("docker.pid"), "--containerd", &path("containerd/containerd.sock")]);
        command.args(["--host", &format!("unix://{}", self.socket().display()), "--group", "root"]);
        command.args(["--bridge", &self.bridge, "--iptables=false", "--ip6tables=false"]);
        command.args(["--ip-masq=false", "--ip-forward=false"]);
        command.args(self.options.live_restore.then_some("--live-restore"));
        let spawned = netns::outside(|| command.spawn());
        let mut child = spawned.expect("dockerd (package docker.io) can't be started");
        wait_for("dockerd answers", Duration::from_secs(60), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("dockerd ended with {status}:\n{}", tail(&self.dir.join("dockerd.log"), 20));
            }
            self.docker.answers().then_some(())
        });
        *self.dockerd.lock().unwrap() = Some(child);
    }

    /// Ends dockerd, and with it its containers unless it restores them live.
    pub(crate) fn stop_dockerd(&self) {
        self.end_dockerd(Signal::TERM);
    }

    /// Kills dockerd; containerd and the containers go on.
    pub(crate) fn kill_dockerd(&self) {
        self.end_dockerd(Signal::KILL);
    }

    fn end_dockerd(&self, signal: Signal) {
        if let Some(mut child) = self.dockerd.lock().unwrap().take() {
            kill_process(Pid::from_child(&child), signal).unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.docker.remove_all_containers();
        self.stop_dockerd();
        let _ = kill_process(Pid::from_child(&self.containerd), Signal::TERM);
        let _ = self.containerd.wait();
        workspace::clear(&self.dir);
    }
}

/// A daemon of the engine, with its output in a log file and the runc wrapper first in its PATH.
fn daemon(dir: &Path, program: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join(format!("{program}.log"))).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}:/usr/sbin:/sbin", dir.join("bin").display());
    let found = path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.exists());
    let mut command = Command::new(found.unwrap_or_else(|| PathBuf::from(program)));
    command.env("PATH", path).env_remove("DOCKER_HOST").process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

/// Its own containerd: dockerd would otherwise take the one that listens at the default place.
fn start_containerd(dir: &Path, options: Options) -> Child {
    let home = dir.join("containerd");
    std::fs::create_dir_all(&home).unwrap();
    let home = home.display();
    let config = format!(
        "version = 2\nroot = \"{home}/root\"\nstate = \"{home}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{home}/containerd.sock\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{home}/opt\"\n"
    );
    std::fs::write(format!("{home}/config.toml"), config).unwrap();
    let mut command = daemon(dir, "containerd");
    command.envs(options.raises_oom_scores.then_some((runc::RAISES_OOM_SCORES, "1")));
    let child =
        command.args(["--config", &format!("{home}/config.toml")]).spawn().expect("containerd can't be started");
    let socket = dir.join("containerd/containerd.sock");
    wait_for("containerd's socket is there", Duration::from_secs(30), || socket.exists().then_some(()));
    child
}

fn put_runc_wrapper(dir: &Path) {
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    if !runc::machine_has_capability() {
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), dir.join("bin/runc")).unwrap();
    }
}

/// A bridge of the engine's own, in the range that is set aside for benchmarks (198.18.0.0/15): the first free of 250.
fn make_bridge(dir: &Path) -> String {
    let ip = |arguments: &[&str]| {
        let done = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
        done.expect("ip (package iproute2) can't be started").success()
    };
    let number = (0..250).find(|number| ip(&["link", "add", "name", &format!("{BRIDGE}{number}"), "type", "bridge"]));
    let number = number.expect("a bridge can't be made: is this root, with CAP_NET_ADMIN?");
    let name = format!("{BRIDGE}{number}");
    std::fs::write(dir.join(workspace::BRIDGE_FILE), &name).unwrap();
    assert!(ip(&["addr", "add", &format!("198.18.{number}.1/24"), "dev", &name]), "no address for {name}");
    assert!(ip(&["link", "set", &name, "up"]), "{name} is not up");
    workspace::firewall("-I", &name);
    name
}
