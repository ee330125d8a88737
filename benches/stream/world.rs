//! The engine, the adapters with a pod each, and the server that port-forward reaches. Fields are dropped in their order: adapters go
//! before the engine they serve.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dockershim::cri;
use tokio::runtime::Runtime;

use super::adapter::{Adapter, OWN};
use super::options::Options;
use super::support::client::{Cri, image_spec};
use super::support::engine::{self, Engine};
use super::support::{images, workspace};

/// An adapter that has just been started must be ready by then.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// What the server writes at once.
const BUFFER: usize = 256 << 10;

/// All that a run needs.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    /// This dockershim first.
    pub(crate) sides: Vec<Side>,
    /// Of the server.
    pub(crate) port: u16,
    /// Of what leads to the Engine's socket.
    pub(crate) relay: u16,
    _adapters: Vec<Adapter>,
    pub(crate) engine: Engine,
}

/// An adapter, and the pod in which it is measured.
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) cri: Cri,
    /// Of the process behind its socket.
    pub(crate) pid: u32,
    pub(crate) pod: String,
    pub(crate) container: String,
}

impl World {
    /// Starts what has to be started, and a pod with each adapter.
    pub(crate) fn build(options: &Options) -> anyhow::Result<World> {
        let runtime = Runtime::new()?;
        // other adapters have pause containers of an oom_score_adj that not every machine can give
        let raises_oom_scores = !options.start.is_empty();
        let engine = Engine::start(engine::Options { raises_oom_scores, ..engine::Options::default() });
        images::load_all(&engine.docker);
        let own = ("dockershim".to_owned(), OWN.to_owned());
        let (mut sockets, mut adapters) = (Vec::new(), Vec::new());
        for (name, command) in std::iter::once(&own).chain(&options.start) {
            let adapter = Adapter::start(command, &engine.socket()).with_context(|| format!("start {name}"))?;
            sockets.push((name.clone(), adapter.socket()));
            adapters.push(adapter);
        }
        let mut sides = Vec::new();
        for (name, socket) in sockets.iter().chain(&options.socket) {
            let side = runtime.block_on(Side::prepare(name, socket, options));
            sides.push(side.with_context(|| format!("{name}: prepare"))?);
        }
        let (port, relay) = (serve(fulfil)?, serve_relay(engine.socket())?);
        Ok(World { runtime, sides, port, relay, _adapters: adapters, engine })
    }

    /// Removes the pods: not all engines are our own.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        let removed: Vec<_> = self.sides.iter().map(|side| self.runtime.block_on(side.clear())).collect();
        removed.into_iter().collect()
    }
}

impl Side {
    async fn prepare(name: &str, socket: &Path, options: &Options) -> anyhow::Result<Side> {
        let cri = {
            wait_until_ready(socket).await?;
            Cri::new(socket)
        };
        let peer = rustix::net::sockopt::socket_peercred(UnixStream::connect(socket)?)?;
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get())?;
        let config = pod_config(name);
        let pod = cri.run_pod(&config).await.context("run a pod")?;
        let container = cri.create(&pod, &container_config(&options.image), &config).await.context("create")?;
        cri.start(&container).await.context("start")?;
        Ok(Side { name: name.to_owned(), cri, pid, pod, container })
    }

    async fn clear(&self) -> anyhow::Result<()> {
        self.cri.stop_pod(&self.pod).await?;
        Ok(self.cri.remove_pod(&self.pod).await?)
    }

    /// Where a process is to be had.
    pub(crate) async fn exec_url(&self, script: &str, stdin: bool) -> anyhow::Result<String> {
        let request = cri::ExecRequest {
            container_id: self.container.clone(),
            cmd: command(script),
            tty: false,
            stdin,
            stdout: true,
            stderr: false,
        };
        Ok(self.cri.runtime().exec(request).await?.into_inner().url)
    }

    /// Where ports are.
    pub(crate) async fn forward_url(&self, ports: Vec<u16>) -> anyhow::Result<String> {
        let port = ports.into_iter().map(i32::from).collect();
        let request = cri::PortForwardRequest { pod_sandbox_id: self.pod.clone(), port };
        Ok(self.cri.runtime().port_forward(request).await?.into_inner().url)
    }
}

async fn wait_until_ready(socket: &Path) -> anyhow::Result<()> {
    let end = Instant::now() + READY_LIMIT;
    loop {
        let conditions = Cri::new(socket).conditions().await;
        match &conditions {
            Ok(conditions) if conditions.get("RuntimeReady").is_some_and(|(met, _)| *met) => return Ok(()),
            _ if Instant::now() > end => bail!("not ready within {READY_LIMIT:?}: {conditions:?}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// As words.
pub(crate) fn command(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

/// On the host's network: its ports are this process's, and no adapter needs CNI.
fn pod_config(name: &str) -> cri::PodSandboxConfig {
    let namespaces = cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() };
    let context = cri::LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: format!("stream-{name}"),
            uid: format!("bench-stream-{}", std::process::id()),
            namespace: "bench".to_owned(),
            attempt: 0,
        }),
        log_directory: workspace::new_dir("l").display().to_string(),
        linux: Some(cri::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() }),
        ..Default::default()
    }
}

fn container_config(image: &str) -> cri::ContainerConfig {
    let namespaces = cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() };
    let context = cri::LinuxContainerSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(cri::ImageSpec { user_specified_image: image.to_owned(), ..image_spec(image) }),
        command: command("trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"),
        labels: BTreeMap::from([("io.kubernetes.container.name".to_owned(), "main".to_owned())]),
        log_path: "main.log".to_owned(),
        linux: Some(cri::LinuxContainerConfig { security_context: Some(context), ..Default::default() }),
        ..Default::default()
    }
}

/// What a connection to the server begins with: how many bytes it is to send, and before that to take.
pub(crate) fn order(down: usize, up: usize) -> [u8; 16] {
    let mut order = [0; 16];
    order[..8].copy_from_slice(&down.to_be_bytes());
    order[8..].copy_from_slice(&up.to_be_bytes());
    order
}

/// Serves each connection to a port of loopback in a thread of its own: the port.
fn serve(each: impl Fn(TcpStream) -> std::io::Result<()> + Clone + Send + 'static) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            // a client that goes away has its reasons
            thread::spawn(move || each(stream).ok());
        }
    });
    Ok(port)
}

/// Leads to a Unix socket: a thread for each direction, which ends by itself.
fn serve_relay(socket: PathBuf) -> anyhow::Result<u16> {
    serve(move |client| {
        client.set_nodelay(true)?;
        let engine = UnixStream::connect(&socket)?;
        let (mut from, mut to) = (client.try_clone()?, engine.try_clone()?);
        thread::spawn(move || {
            // the other direction tells
            let _ = copy(&mut from, &mut to);
            to.shutdown(Shutdown::Write)
        });
        copy(&mut &engine, &mut &client)?;
        client.shutdown(Shutdown::Both)
    })
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.write_all(&buffer[..read])?,
        }
    }
}

fn fulfil(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut number, mut buffer) = ([0; 8], vec![0; BUFFER]);
    let mut next = |stream: &mut TcpStream| {
        stream.read_exact(&mut number)?;
        Ok::<_, std::io::Error>(usize::from_be_bytes(number))
    };
    let (mut down, mut up) = (next(&mut stream)?, next(&mut stream)?);
    while up > 0 {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => up -= read,
        }
    }
    while down > 0 {
        down -= stream.write(&buffer[..down.min(BUFFER)])?;
    }
    Ok(())
}

/// What a process has: resident KiB, threads, open files, and CPU time so far.
pub(crate) struct Holdings {
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) files: usize,
    pub(crate) cpu: Duration,
}

impl Holdings {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Holdings> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let status = std::fs::read_to_string(proc.join("status"))?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).context("a field of status")?;
            Ok(value.split_whitespace().next().context("a number")?.parse()?)
        };
        let schedule = std::fs::read_dir(proc.join("task"))?.flatten().map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
        });
        Ok(Holdings {
            resident_kib: field("VmRSS:")?,
            threads: field("Threads:")?,
            cpu: Duration::from_nanos(schedule.sum()),
            files: std::fs::read_dir(proc.join("fd"))?.count(),
        })
    }
}

/// CPU time that the machine has spent, in steps of 10 ms: `/proc/stat`, see proc(5).
pub(crate) fn machine_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq
    let ticks: u64 = line
        .split_whitespace()
        .skip(1)
        .take(7)
        .enumerate()
        .filter(|(at, _)| ![3, 4].contains(at))
        .filter_map(|(_, number)| number.parse::<u64>().ok())
        .sum();
    Duration::from_millis(10 * ticks)
}
