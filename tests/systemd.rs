//! The program under a service manager that is none: this test plays systemd's part of the protocols. It takes notifications, passes
//! listening sockets, counts signs of life, and starts a successor on the same sockets while clients call. No root, no engine.
#![expect(clippy::unwrap_used, reason = "what a test can't go on without fails it")]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dockershim::cri;
use dockershim::cri::runtime_service_client::RuntimeServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

const PROGRAM: &str = env!("CARGO_BIN_EXE_dockershim");

/// A service in a folder of its own.
struct Service {
    dir: PathBuf,
    manager: UnixDatagram,
}

/// One process of it.
struct Process(Child);

impl Service {
    fn new(name: &str) -> Service {
        let dir = std::env::temp_dir().join(format!("dockershim-systemd-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let manager = UnixDatagram::bind(dir.join("notify.sock")).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let service = Service { dir, manager };
        service.configure("");
        service
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn configure(&self, more: &str) {
        let place = |key: &str, file: &str| format!("{key} = \"{}\"\n", self.path(file).display());
        let text = place("docker-endpoint", "docker.sock") + &place("root-directory", "state");
        let text = text + "network-plugin = \"bridge\"\nallow-other-adapter = true\n" + more;
        fs::write(self.path("config.toml"), text).unwrap();
    }

    fn start(&self, endpoint: &str, passed: &[&dyn Passed]) -> Process {
        self.start_with(endpoint, passed, &[])
    }

    /// Starts a process as systemd does, with up to two descriptors passed, and more flags. A shell moves descriptors to their numbers.
    fn start_with(&self, endpoint: &str, passed: &[&dyn Passed], flags: &[&str]) -> Process {
        let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$; [ -z \"$LISTEN_FDS\" ] || export LISTEN_PID; \
                      exec \"$0\" \"$@\"";
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, PROGRAM, "--container-runtime-endpoint", endpoint]);
        command.arg(format!("--config={}", self.path("config.toml").display())).args(flags).stderr(log);
        command.env("NOTIFY_SOCKET", self.path("notify.sock")).env("WATCHDOG_USEC", "400000");
        let mut passed_on = passed.iter().map(|passed| Stdio::from(passed.duplicate()));
        if !passed.is_empty() {
            command.env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", "cri:second");
        }
        command.stdin(passed_on.next().unwrap_or_else(Stdio::null));
        command.stdout(passed_on.next().unwrap_or_else(Stdio::null));
        Process(command.spawn().unwrap())
    }

    /// The next notification that is no sign of life, and how many signs of life came before it.
    fn told(&self) -> (String, usize) {
        let (mut words, mut alive) = ([0; 4096], 0);
        loop {
            let length = self.manager.recv(&mut words).expect("a notification");
            match std::str::from_utf8(&words[..length]).unwrap() {
                "WATCHDOG=1" => alive += 1,
                other => return (other.to_owned(), alive),
            }
        }
    }

    /// Passes over notifications until one begins so; with it, how many signs of life came before it.
    fn until_told(&self, beginning: &str) -> (String, usize) {
        let end = Instant::now() + Duration::from_secs(20);
        let mut alive = 0;
        loop {
            let (words, more) = self.told();
            alive += more;
            if words.starts_with(beginning) {
                return (words, alive);
            }
            assert!(Instant::now() < end, "{beginning} is not told");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits until the log has these words so many times.
    fn until_logged(&self, words: &str, times: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.log().matches(words).count() < times {
            assert!(Instant::now() < end, "{words:?} is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What can be passed.
trait Passed {
    fn duplicate(&self) -> OwnedFd;
}

impl Passed for UnixListener {
    fn duplicate(&self) -> OwnedFd {
        self.try_clone().unwrap().into()
    }
}

impl Passed for File {
    fn duplicate(&self) -> OwnedFd {
        self.try_clone().unwrap().into()
    }
}

/// A client with a connection of its own.
async fn client(socket: &Path) -> Result<RuntimeServiceClient<Channel>, String> {
    let endpoint =
        Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().timeout(Duration::from_secs(20));
    endpoint.connect().await.map(RuntimeServiceClient::new).map_err(|error| format!("{error:?}"))
}

/// A call that waits 2 s for an engine.
async fn version(socket: &Path) -> Result<String, String> {
    let version = client(socket).await?.version(cri::VersionRequest::default()).await;
    version.map(|version| version.into_inner().runtime_name).map_err(|status| format!("{status:?}"))
}

/// A call that is answered at once.
async fn status(socket: &Path) -> Result<(), String> {
    let status = client(socket).await?.status(cri::StatusRequest::default()).await;
    status.map(drop).map_err(|status| format!("{status:?}"))
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_service_manager_is_told_of_each_turn() {
    let service = Service::new("told");
    let process = service.start(&format!("unix://{}", service.path("cri.sock").display()), &[]);
    assert_eq!(service.told().0, "READY=1\nSTATUS=serving");
    let (status, _) = service.until_told("STATUS=");
    assert!(status.contains("not ready: the engine has not been listed yet"), "{status}");
    // an engine that is down is no reason to be restarted: life goes on until somebody ends it
    std::thread::sleep(Duration::from_secs(2));
    process.signal(Signal::HUP);
    let (reloading, alive) = service.until_told("RELOADING=1");
    assert!(alive >= 5, "{alive} signs of life in 2 s");
    let monotonic = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    let uptime: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((monotonic.parse::<f64>().unwrap() / 1e6 - uptime).abs() < 60.0, "{monotonic} at {uptime}");
    assert_eq!(service.until_told("READY=1").0, "READY=1");
    process.signal(Signal::TERM);
    service.until_told("STOPPING=1");
    process.stop();
}

#[test]
fn a_reload_changes_the_level_and_a_bad_one_nothing() {
    let service = Service::new("reload");
    let process = service.start(&format!("unix://{}", service.path("cri.sock").display()), &[]);
    service.until_told("READY=1");
    assert!(!service.log().contains("DEBUG"), "{}", service.log());
    service.configure("log-level = \"debug\"\nlog-spool-files = 9\n");
    process.signal(Signal::HUP);
    service.until_told("RELOADING=1");
    service.until_told("READY=1");
    service.until_logged("configuration read again now=[\"log-level\"] at_restart=[\"log-spool-files\"]", 1);
    service.until_logged("DEBUG", 1);
    service.configure("log-level = \"info\"\nlog-levle = \"info\"\n");
    process.signal(Signal::HUP);
    service.until_told("RELOADING=1");
    service.until_told("READY=1");
    let place =
        format!("{}:6: unknown key \"log-levle\"; did you mean \"log-level\"?", service.path("config.toml").display());
    service.until_logged(&format!("the configuration stays as it was: {place}"), 1);
    let debug = service.log().matches("DEBUG").count();
    service.until_logged("DEBUG", debug + 1);
    service.configure("log-level = \"warn\"\n");
    process.signal(Signal::HUP);
    service.until_told("RELOADING=1");
    service.until_told("READY=1");
    process.stop();
    assert!(!service.log().contains("shutting down"), "told at info, and the level is warn:\n{}", service.log());
}

#[tokio::test]
async fn passed_sockets_are_served_and_left_where_they_are() {
    let service = Service::new("passed");
    let paths = [service.path("a.sock"), service.path("b.sock")];
    let [first, second] = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
    let process = service.start("fd://", &[&first, &second]);
    for path in &paths {
        assert_eq!(version(path).await, Ok("docker".to_owned()));
    }
    process.stop();
    assert!(paths.iter().all(|path| path.exists()));
    // nobody serves, and the connection waits for who comes next
    let waiting = tokio::spawn({
        let path = paths[0].clone();
        async move { version(&path).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let process = service.start("fd://", &[&first]);
    assert_eq!(waiting.await.unwrap(), Ok("docker".to_owned()));
    process.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_new_call_fails_while_a_successor_takes_over() {
    let service = Service::new("restart");
    let path = service.path("cri.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut process = service.start("fd://", &[&listener]);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (path, done, answered) = (path.clone(), done.clone(), answered.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    status(&path).await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for _ in 0..10 {
        let before = answered.load(Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs(20);
        while answered.load(Ordering::Relaxed) < before + 50 {
            assert!(Instant::now() < end, "nobody is answered:\n{}", service.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (old, listener) = (process, listener.try_clone().unwrap());
        tokio::task::spawn_blocking(move || old.stop()).await.unwrap();
        process = service.start("fd://", &[&listener]);
    }
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(()));
    }
    process.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_rests_holds_up_no_shutdown() {
    let service = Service::new("rests");
    let path = service.path("cri.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let process = service.start("fd://", &[&listener]);
    let mut client = client(&path).await.unwrap();
    client.status(cri::StatusRequest::default()).await.unwrap();
    // one that has called, and one that never says a word
    let _silent = UnixStream::connect(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    tokio::task::spawn_blocking(|| process.stop()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?} for nothing", began.elapsed());
    // the client comes back by itself
    let process = service.start("fd://", &[&listener]);
    client.status(cri::StatusRequest::default()).await.unwrap();
    drop(client);
    process.stop();
}

#[test]
fn passed_sockets_that_are_none_are_told() {
    let service = Service::new("none");
    let end = |mut process: Process, told: &str| {
        assert!(!process.0.wait().unwrap().success());
        assert!(service.log().contains(told), "{}", service.log());
    };
    end(service.start("fd://", &[]), "none were passed to this process (LISTEN_FDS, LISTEN_PID)");
    end(service.start("fd://", &[&File::open("/dev/null").unwrap()]), "descriptor 3 (cri)");
    let listener = UnixListener::bind(service.path("a.sock")).unwrap();
    end(service.start("fd://", &[&listener, &File::open("/dev/null").unwrap()]), "descriptor 4 (second)");
}

#[tokio::test]
async fn as_json_each_line_of_the_log_is_an_object_with_what_its_request_is_about() {
    let service = Service::new("json");
    service.configure("logging-format = \"json\"\nlog-level = \"debug\"\n");
    let path = service.path("cri.sock");
    let flags = ["--hairpin-mode=hairpin-veth", "--ipv6-dual-stack", "--hairpin-mode=none"];
    let process = service.start_with(&format!("unix://{}", path.display()), &[], &flags);
    service.until_told("READY=1");
    let mut client = client(&path).await.unwrap();
    // without an engine all fail, and each failure is told
    let metadata = cri::PodSandboxMetadata {
        name: "web".to_owned(),
        uid: "u1".to_owned(),
        namespace: "shop".to_owned(),
        attempt: 0,
    };
    let config = cri::PodSandboxConfig { metadata: Some(metadata), ..Default::default() };
    client.run_pod_sandbox(cri::RunPodSandboxRequest { config: Some(config), ..Default::default() }).await.unwrap_err();
    let stop = cri::StopContainerRequest { container_id: "c0ffee".to_owned(), timeout: 0 };
    client.stop_container(stop).await.unwrap_err();
    drop(client);
    // the client's end of its connection is closed by this thread
    tokio::task::spawn_blocking(|| process.stop()).await.unwrap();
    let log = service.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .inspect(|line: &Value| {
            assert!(["timestamp", "level", "message", "target"].iter().all(|field| line[field].is_string()), "{line}");
        })
        .collect();
    let told = |rpc: &str| {
        let told = lines.iter().find(|line| line["rpc"] == rpc).unwrap_or_else(|| panic!("{rpc} is not told:\n{log}"));
        (told["code"].as_str().unwrap().to_owned(), told["spans"][0].clone())
    };
    let (pod, container) = (told("RunPodSandbox"), told("StopContainer"));
    assert_eq!((pod.0.as_str(), &pod.1["pod"]), ("Unavailable", &Value::from("shop/web")));
    assert_eq!((container.0.as_str(), &container.1["container"]), ("Unavailable", &Value::from("c0ffee")));
    assert!(pod.1["request"].as_u64().unwrap() < container.1["request"].as_u64().unwrap(), "{pod:?} {container:?}");
    // what is accepted and means nothing is told once, with the reason
    for flag in ["hairpin-mode", "ipv6-dual-stack"] {
        let words = format!("--{flag} means nothing here: ");
        let told: Vec<_> =
            lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with(&words))).collect();
        assert!(told.len() == 1 && told[0]["level"] == "WARN", "{flag}: {told:?}");
    }
}

#[test]
fn status_asks_where_the_daemon_is_told_to_serve() {
    let service = Service::new("status");
    let (socket, file) =
        (service.path("cri.sock").display().to_string(), service.path("config.toml").display().to_string());
    service.configure(&format!("container-runtime-endpoint = [\"unix://{socket}\"]\n"));
    let process = service.start(&format!("unix://{socket}"), &[]);
    service.until_told("READY=1");
    let told = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut status = Command::new(PROGRAM);
        status.args(["status", "--json"]).args(flags).envs(variables.iter().copied()).stdin(Stdio::null());
        let output = status.output().unwrap();
        // it isn't ready without an engine, or isn't there
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (told["socket"].as_str().unwrap().to_owned(), told["daemon"]["pid"] == process.0.id())
    };
    let by_file = ["--config", &file];
    assert_eq!(told(&by_file, &[]), (socket.clone(), true));
    assert_eq!(told(&[], &[("DOCKERSHIM_CONFIG", &file)]), (socket, true));
    let nobody = service.path("nobody.sock").display().to_string();
    assert_eq!(told(&by_file, &[("DOCKERSHIM_CONTAINER_RUNTIME_ENDPOINT", &nobody)]), (nobody.clone(), false));
    let flag = format!("--container-runtime-endpoint=unix://{nobody}");
    assert_eq!(told(&[&by_file[..], &[&flag]].concat(), &[]), (nobody, false));
    process.stop();
}

#[test]
fn the_program_tells_its_configuration() {
    let service = Service::new("config");
    let file = service.path("config.toml").display().to_string();
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let checked = run(&["config", "check", &file]);
    assert!(checked.status.success() && text(&checked).contains("can be used"), "{checked:?}");
    let dumped = run(&["config", "dump", "--config", &file, "--log-level=debug"]);
    assert!(text(&dumped).contains(&format!("# {file}:3\n")) && text(&dumped).contains("# flag\n"), "{dumped:?}");
    assert!(text(&run(&["config", "default"])).contains("\n#log-level = \"info\"\n"));
    for flag in ["--version", "--buildinfo"] {
        assert!(text(&run(&[flag])).starts_with("dockershim "));
    }
    service.configure("log-level = 5\n");
    let refused = run(&["config", "check", &file]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.starts_with(&format!("dockershim: {file}:5: log-level: text")), "{told}");
    let unknown = String::from_utf8(run(&["--log-levle=info"]).stderr).unwrap();
    assert!(unknown.contains("--log-level"), "{unknown}");
}
