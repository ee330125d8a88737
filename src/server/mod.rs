//! The gRPC side: sockets, the two CRI services on the verbs, errors as status codes, and the daemon's life from start to drain.
//!
//! ```text
//! lock the state directory ─▶ no other adapter? ─▶ bind ─▶ serve ─▶ (shutdown) ─▶ stop accepting ─▶ drain ─▶ remove the sockets
//! ```
//!
//! **Invariant**: nobody else knows gRPC's codes; nothing is decided here about pods, containers or images.

pub(crate) mod client;
mod image;
mod rival;
mod runtime;
mod socket;
mod state_dir;
mod status;
#[cfg(test)]
mod tests;
mod trace;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::select_all;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tonic::transport::Server;

use crate::cni::Cni;
use crate::config::Config;
use crate::cri::image_service_server::ImageServiceServer;
use crate::cri::runtime_service_server::RuntimeServiceServer;
use crate::engine::{self, Engine, Timeouts};
use crate::index::Index;
use crate::log::Pumps;
use crate::record::{self, Records};
use crate::service::Daemon;
use crate::service::leftovers::Leftovers;
use crate::stream::Streams;

pub use status::in_one_line;

/// Largest request: what the kubelet takes as a reply, it may also send.
const LARGEST_REQUEST: usize = 16 << 20;

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
    /// Another adapter for Docker answers.
    #[error(
        "another CRI adapter for docker {version} answers on {}, and two adapters on one engine take each other's pods for \
         their own; stop it (systemctl disable --now cri-docker.socket cri-docker.service), or, if it serves a different \
         engine, start with --allow-other-adapter",
        socket.display()
    )]
    OtherAdapter {
        /// Where it answers.
        socket: PathBuf,
        /// The engine's version as it tells it.
        version: String,
    },
    /// Something that isn't a socket is where ours should be.
    #[error("{} is not a socket; remove it, or serve elsewhere with --container-runtime-endpoint", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else listens where we should.
    #[error("another process listens on {}; stop it, or serve elsewhere with --container-runtime-endpoint", path.display())]
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
    /// A socket can't be made.
    #[error("listen on {}: {source}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
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
    /// The engine's client can't be made.
    #[error("set up the client of the docker engine: {source}")]
    Engine {
        /// Why.
        source: engine::Error,
    },
    /// The server broke down.
    #[error("serve the CRI: {source}")]
    Serve {
        /// Why.
        source: tonic::transport::Error,
    },
}

/// The CRI's two services. Cheap to clone.
#[derive(Clone)]
struct Service {
    daemon: Arc<Daemon>,
}

/// The whole daemon: returns when it can't start, or when `shutdown` has come and RPCs on their way have ended.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let _lock = state_dir::claim(&config.state_dir)?;
    if !config.allow_other_adapter {
        rival::refuse(Path::new(rival::CRI_DOCKERD), &config.endpoints).await?;
    }
    let (mut files, mut listeners) = (Vec::new(), Vec::new());
    for endpoint in &config.endpoints {
        let (file, listener) = socket::bind(endpoint).await?;
        files.push(file);
        listeners.push(listener);
    }
    let (address, stream_listener) = bind_streams(config.streaming).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        endpoints = ?config.endpoints,
        docker = ?config.docker_socket,
        state = ?config.state_dir,
        streams = %address,
        "serving"
    );
    let daemon = wire(config, address)?;
    tokio::spawn(Leftovers::note(&daemon).clear());
    let feed = tokio::spawn(daemon.index.clone().run());
    let (stop_streams, streams_stopped) = oneshot::channel::<()>();
    // an error is a dropped sender, which means the same
    let stopping = async { drop(streams_stopped.await) };
    let streams = tokio::spawn(daemon.streams.clone().serve(stream_listener, stopping));
    let index = daemon.index.clone();
    let served = serve(Service { daemon }, listeners, async {
        shutdown.await;
        drop(stop_streams);
        index.end_events();
    })
    .await;
    // it has been told to stop and gives streams less time than RPCs have had
    let _ = streams.await;
    feed.abort();
    served
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
    let assigned = cni.clone();
    let index = Index::new(engine.clone(), pumps.clone(), Arc::new(move |id| assigned.addresses(id)));
    let streams = Streams::new(streaming, config.stream_limits, engine.clone(), index.clone());
    let pod_resources = records(&config.state_dir, "resources")?;
    Ok(Daemon::new(config, engine, index, pumps, cni, streams, pod_resources))
}

fn records(state_dir: &Path, name: &str) -> Result<Records, Error> {
    Records::open(state_dir.join(name)).map_err(|source| Error::Records { source })
}

/// Serves until the shutdown, and then at most [`DRAIN`] longer.
async fn serve(
    service: Service,
    listeners: Vec<UnixListener>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let runtime = RuntimeServiceServer::new(service.clone()).max_decoding_message_size(LARGEST_REQUEST);
    let image = ImageServiceServer::new(service).max_decoding_message_size(LARGEST_REQUEST);
    let incoming = select_all(listeners.into_iter().map(|listener| Box::pin(socket::connections(listener))));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        Server::builder().add_service(runtime).add_service(image).serve_with_incoming_shutdown(incoming, async {
            // an error is a dropped sender, which means the same
            let _ = stopped.await;
        });
    tokio::pin!(serving);
    let failed = |source| Error::Serve { source };
    tokio::select! {
        ended = &mut serving => return ended.map_err(failed),
        () = shutdown => {}
    }
    tracing::info!("shutting down");
    drop(stop);
    match tokio::time::timeout(DRAIN, serving).await {
        Ok(ended) => ended.map_err(failed),
        Err(_) => {
            tracing::warn!("RPCs are still on their way after {DRAIN:?}; the next start finds what they leave");
            Ok(())
        }
    }
}
