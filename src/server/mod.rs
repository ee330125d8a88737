//! The gRPC side: sockets, the two CRI services on the verbs, errors as status codes, and the daemon's life from start to drain.
//!
//! ```text
//! lock the state directory ─▶ no other adapter? ─▶ bind ─▶ serve ─▶ (shutdown) ─▶ stop accepting ─▶ drain ─▶ remove the sockets
//! ```
//!
//! Sockets that the service manager passes outlive us: it takes connections while nobody serves, and who serves next answers them.
//!
//! **Invariant**: nobody else knows gRPC's codes; nothing is decided here about pods, containers or images.

pub(crate) mod client;
mod connection;
mod image;
mod rival;
mod runtime;
mod scrape;
mod socket;
mod state_dir;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
mod trace;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tonic::service::Routes;

use crate::cni::Cni;
use crate::config::{Config, Endpoint};
use crate::cri::image_service_server::ImageServiceServer;
use crate::cri::runtime_service_server::RuntimeServiceServer;
use crate::engine::{self, Engine, Timeouts};
use crate::etc::{self, Etc};
use crate::index::Index;
use crate::log::Pumps;
use crate::process::running;
use crate::record::{self, Records};
use crate::service::container::keep_limits;
use crate::service::leftovers::Leftovers;
use crate::service::{Daemon, Kept};
use crate::stream::Streams;
use crate::translate::node::Network;

pub(crate) use rival::CRI_DOCKERD;
pub use rival::Rival;
pub(crate) use socket::LONGEST_PATH;
pub(crate) use state_dir::{StateLock, claim};
pub use status::in_one_line;
pub use supervisor::Supervisor;

/// Largest request: what the kubelet takes as a reply, it may also send.
const LARGEST_REQUEST: usize = 16 << 20;

/// The flag that tells where to serve, for errors.
const ENDPOINT: &str = "--container-runtime-endpoint";

/// How long RPCs on their way may still take after the shutdown began.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the daemon can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory can't be used.
    #[error("state directory {}: {source}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the state directory.
    #[error(
        "state directory {} is used by another dockershim (process {holder}); stop that one, or give this one its own --root-directory",
        path.display()
    )]
    StateDirTaken {
        /// The directory.
        path: PathBuf,
        /// Process id of the other one.
        holder: String,
    },
    /// Our records can't be reached.
    #[error("{source}")]
    Records {
        /// Which, and why.
        source: record::Error,
    },
    /// The pods' files can't be reached.
    #[error("{source}")]
    Etc {
        /// Which, and why.
        source: etc::Error,
    },
    /// Another adapter for Docker is there.
    #[error(
        "{rival}; two adapters on one engine take each other's pods for their own: stop it (systemctl disable --now \
         cri-docker.socket cri-docker.service), or, if it serves a different engine, start with --allow-other-adapter"
    )]
    OtherAdapter {
        /// How it was seen.
        rival: Rival,
    },
    /// Something that isn't a socket is where ours should be.
    #[error("{} is not a socket; remove it, or serve elsewhere with {flag}", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What has told it.
        flag: &'static str,
    },
    /// Somebody else listens where we should.
    #[error(
        "another process listens on {}; stop it, or serve elsewhere with {flag} (fd:// if it is systemd)",
        path.display()
    )]
    SocketInUse {
        /// The path.
        path: PathBuf,
        /// What has told it.
        flag: &'static str,
    },
    /// The socket of somebody else is where ours should be.
    #[error(
        "{} is a socket of user {owner}; remove it, or serve elsewhere with {flag}",
        path.display()
    )]
    SocketOfAnother {
        /// The path.
        path: PathBuf,
        /// What has told it.
        flag: &'static str,
        /// Whose it is.
        owner: u32,
    },
    /// No socket can have such a path.
    #[error(
        "{} has {} bytes, and the path of a socket can have {limit}; give a shorter one with {flag}",
        path.display(),
        path.as_os_str().len()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// What has told it.
        flag: &'static str,
        /// The most it can have.
        limit: usize,
    },
    /// The directory of a socket can't be made.
    #[error(
        "make the directory {} for the socket: {source}; make it yourself, or serve elsewhere with {flag}",
        path.display()
    )]
    SocketDir {
        /// The directory.
        path: PathBuf,
        /// What has told it.
        flag: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// There are no passed sockets.
    #[error(
        "fd:// wants sockets that the service manager passes, and none were passed to this process (LISTEN_FDS, LISTEN_PID); \
         start through systemctl start dockershim.socket, or serve on {}",
        crate::config::cli::DEFAULT_ENDPOINT
    )]
    NothingPassed,
    /// A passed descriptor is no listening Unix socket.
    #[error(
        "descriptor {number} ({name}), which the service manager passed: {source}; look at ListenStream= in the socket unit",
        name = if name.is_empty() { "without a name" } else { name }
    )]
    Passed {
        /// Its number.
        number: usize,
        /// Its name in LISTEN_FDNAMES.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// A socket can't be made.
    #[error("listen on {}: {source}; serve elsewhere with {flag}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// What has told it.
        flag: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The address of streams can't be listened on.
    #[error(
        "listen on {address} for exec, attach and port-forward: {source}; choose another with --streaming-bind-addr"
    )]
    BindStreams {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The address of our own figures can't be listened on.
    #[error("listen on {address} for metrics: {source}; choose another with --metrics-address, or leave it empty")]
    BindMetrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The engine's client can't be made.
    #[error("set up the client of the docker engine: {source}")]
    Engine {
        /// Why.
        source: engine::Error,
    },
}

/// The CRI's two services. Cheap to clone.
#[derive(Clone)]
struct Service {
    daemon: Arc<Daemon>,
}

/// The whole daemon: returns when it can't start, or when `shutdown` has come and RPCs on their way have ended.
pub async fn run(config: Config, supervisor: Supervisor, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let _lock = claim(&config.state_dir)?;
    let passed = if config.endpoints.contains(&Endpoint::Passed) { socket::passed()? } else { Vec::new() };
    if !config.allow_other_adapter {
        let (own, running) = (own_sockets(&config.endpoints, &passed), running(Path::new("/proc")));
        let looked = rival::look(Path::new(CRI_DOCKERD), &own, &running).await;
        looked.map_err(|rival| Error::OtherAdapter { rival })?;
    }
    let (mut files, mut listeners) = (Vec::new(), Vec::new());
    for endpoint in &config.endpoints {
        let Endpoint::Path(path) = endpoint else { continue };
        let (file, listener) = socket::bind(path, ENDPOINT).await?;
        files.push(file);
        listeners.push(listener);
    }
    listeners.extend(passed);
    let (address, stream_listener) = bind_streams(config.streaming).await?;
    let scrape = match &config.metrics {
        Some(address) => Some(scrape::Scrape::bind(address).await?),
        None => None,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        endpoints = ?listeners.iter().filter_map(socket::path).collect::<Vec<_>>(),
        docker = ?config.docker_socket,
        state = ?config.state_dir,
        streams = %address,
        "serving"
    );
    let daemon = wire(config, address)?;
    if daemon.config.network == Network::Cni {
        tokio::spawn(daemon.cni.clone().run());
    }
    tokio::spawn(Leftovers::note(&daemon).clear());
    let feed = tokio::spawn(daemon.index.clone().run());
    let keeper = tokio::spawn(keep_limits(daemon.clone()));
    let scraped = scrape.map(|scrape| tokio::spawn(scrape.serve(daemon.clone())));
    let (stop_streams, streams_stopped) = oneshot::channel::<()>();
    // an error is a dropped sender, which means the same
    let stopping = async { drop(streams_stopped.await) };
    supervisor.ready();
    let telling = tokio::spawn(supervisor.clone().keep_telling(daemon.clone()));
    let streams = tokio::spawn(daemon.streams.clone().serve(stream_listener, stopping));
    let index = daemon.index.clone();
    serve(Service { daemon }, listeners, async {
        shutdown.await;
        supervisor.stopping();
        drop(stop_streams);
        index.end_events();
    })
    .await;
    // it has been told to stop and gives streams less time than RPCs have had
    let _ = streams.await;
    feed.abort();
    telling.abort();
    keeper.abort();
    if let Some(scraped) = scraped {
        scraped.abort();
        // its socket's file goes with it
        let _ = scraped.await;
    }
    Ok(())
}

/// Where we serve, so that we are not taken for somebody else.
fn own_sockets(endpoints: &[Endpoint], passed: &[UnixListener]) -> Vec<PathBuf> {
    let made = endpoints.iter().filter_map(|endpoint| match endpoint {
        Endpoint::Path(path) => Some(path.clone()),
        Endpoint::Passed => None,
    });
    made.chain(passed.iter().filter_map(socket::path)).collect()
}

/// Where streams are served, with the port that was found free.
async fn bind_streams(address: SocketAddr) -> Result<(SocketAddr, TcpListener), Error> {
    let failed = |source| Error::BindStreams { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

/// Puts the daemon together; nothing is sent to the engine yet.
fn wire(config: Config, streaming: SocketAddr) -> Result<Arc<Daemon>, Error> {
    let timeouts = Timeouts { write: config.request_timeout, ..Timeouts::default() };
    let engine = Engine::new(config.docker_socket.clone(), timeouts).map_err(|source| Error::Engine { source })?;
    let pumps = Pumps::new(records(&config.state_dir, "logs")?, config.log_format);
    let cni = Cni::new(config.cni.clone(), records(&config.state_dir, "network")?);
    let etc = Etc::open(&config.state_dir.join("etc")).map_err(|source| Error::Etc { source })?;
    cni.set_pod_cidrs(config.pod_cidrs.clone());
    let assigned = cni.clone();
    let limits = records(&config.state_dir, "limits")?;
    let index = Index::new(engine.clone(), pumps.clone(), Arc::new(move |id| assigned.addresses(id)), limits);
    let streams = Streams::new(streaming, config.stream_limits, engine.clone(), index.clone());
    let kept = Kept { etc, pod_resources: records(&config.state_dir, "resources")? };
    Ok(Daemon::new(config, engine, index, pumps, cni, streams, kept))
}

fn records(state_dir: &Path, name: &str) -> Result<Records, Error> {
    Records::open(state_dir.join(name)).map_err(|source| Error::Records { source })
}

/// Serves until the shutdown, and then at most [`DRAIN`] longer. Nothing is accepted meanwhile: who connects to a socket that outlives
/// us waits for our successor.
async fn serve(service: Service, listeners: Vec<UnixListener>, shutdown: impl Future<Output = ()>) {
    let runtime = RuntimeServiceServer::new(service.clone()).max_decoding_message_size(LARGEST_REQUEST);
    let image = ImageServiceServer::new(service).max_decoding_message_size(LARGEST_REQUEST);
    let routes = Routes::new(runtime).add_service(image).prepare();
    let mut incoming = select_all(listeners.into_iter().map(|listener| Box::pin(socket::connections(listener))));
    let (stop, stopping) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(stream) = incoming.next() => {
                tokio::spawn(connection::serve(stream, routes.clone(), stopping.clone()));
            }
        }
    }
    drop((incoming, stopping));
    tracing::info!("shutting down");
    stop.send_replace(());
    if tokio::time::timeout(DRAIN, stop.closed()).await.is_err() {
        tracing::warn!("RPCs are still on their way after {DRAIN:?}; the next start finds what they leave");
    }
}
