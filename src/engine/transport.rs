//! HTTP over the Engine's Unix socket: a pool of kept connections, with the API version put in front of every path.
//! It carries bytes only; what a path or an answer means is for the files beside it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tracing::{Instrument, debug, debug_span};

use super::call;
use super::feature::ApiVersion;
use crate::figures::Timings;

/// A request's body, of any origin.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How long a connection may rest before it is closed.
const IDLE: Duration = Duration::from_secs(60);

/// The pool. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<UnixConnector, Body>,
    socket: Arc<PathBuf>,
    /// Minor part of the pinned API version; 0 while none is agreed.
    minor: Arc<AtomicU16>,
    /// Until each answer's head.
    calls: Timings<&'static str>,
}

impl Transport {
    /// A pool of connections to the socket at `path`; connects when first used.
    pub(super) fn new(path: PathBuf) -> Self {
        let socket = Arc::new(path);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(16)
            .build(UnixConnector { path: socket.clone() });
        Transport { client, socket, minor: Arc::default(), calls: Timings::default() }
    }

    /// Pins the version that all further requests carry.
    pub(super) fn pin(&self, version: ApiVersion) {
        self.minor.store(version.minor, Ordering::Relaxed);
    }

    /// How long calls have taken until their answer began.
    pub(super) fn calls(&self) -> &Timings<&'static str> {
        &self.calls
    }

    /// The pinned version, if one is agreed.
    pub(super) fn pinned(&self) -> Option<ApiVersion> {
        match self.minor.load(Ordering::Relaxed) {
            0 => None,
            minor => Some(ApiVersion { major: 1, minor }),
        }
    }

    /// Sends a request; its path gets the pinned version in front.
    pub(super) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        *request.uri_mut() = self.versioned(request.uri());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        self.told(&method, &uri, self.client.request(request)).await
    }

    /// Sends a request on a connection of its own, which the answer may take over (see `hijack.rs`).
    pub(super) async fn send_alone(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        // nothing but path and query: there is no proxy on the way
        let versioned = self.versioned(request.uri());
        *request.uri_mut() = Uri::from(versioned.path_and_query().cloned().ok_or("a request without a path")?);
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("engine"));
        let (method, uri) = (request.method().clone(), request.uri().clone());
        self.told(&method, &uri, async {
            let stream = UnixStream::connect(self.socket.as_path()).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // its end is seen by whoever reads the answer
            tokio::spawn(connection.with_upgrades());
            Ok(sender.send_request(request).await?)
        })
        .await
    }

    /// Counts a call and tells the log of it once it is answered; its path only, for what stands in query and body may be secret.
    async fn told<E: std::fmt::Display>(
        &self,
        method: &Method,
        uri: &Uri,
        call: impl Future<Output = Result<Response<Incoming>, E>>,
    ) -> Result<Response<Incoming>, E> {
        let span = debug_span!("engine", %method, path = uri.path());
        let name = call::name(method.as_str(), uri.path());
        let mut counted = Counted { calls: &self.calls, name, begun: Instant::now(), failure: Some("given_up") };
        let timed = async {
            let answered = call.await;
            let took = counted.begun.elapsed();
            counted.failure = match &answered {
                Ok(response) if response.status().is_client_error() => Some("4xx"),
                Ok(response) if response.status().is_server_error() => Some("5xx"),
                Ok(_) => None,
                Err(_) => Some("unreachable"),
            };
            match &answered {
                Ok(response) => debug!(status = response.status().as_u16(), ?took, "engine answered"),
                Err(error) => debug!(%error, ?took, "engine did not answer"),
            }
            answered
        };
        timed.instrument(span).await
    }

    /// `/containers/json?all=1` → `http://engine/v1.41/containers/json?all=1`.
    ///
    /// `/version` is always asked without: an engine that came back as another version may not speak the old one.
    fn versioned(&self, uri: &Uri) -> Uri {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let pinned = self.pinned().filter(|_| path != "/version");
        let prefix = pinned.map(|version| format!("/v{version}")).unwrap_or_default();
        Uri::builder()
            .scheme("http")
            .authority("engine")
            .path_and_query(format!("{prefix}{path}"))
            .build()
            .unwrap_or_else(|_| uri.clone())
    }
}

/// A call that is counted when this is dropped: one that nobody waits for any more has been given up.
struct Counted<'a> {
    calls: &'a Timings<&'static str>,
    name: &'static str,
    begun: Instant,
    failure: Option<&'static str>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.calls.note(&self.name, self.begun.elapsed(), self.failure);
    }
}

impl Transport {
    /// Carries one of bollard's requests.
    pub(super) async fn carry(
        self,
        request: bollard::BollardRequest,
    ) -> Result<Response<Incoming>, bollard::errors::Error> {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        self.send(request).await.map_err(|err| bollard::errors::Error::HyperLegacyError { err })
    }
}

/// Connects to one socket, whatever the request's authority says.
#[derive(Clone)]
struct UnixConnector {
    path: Arc<PathBuf>,
}

impl tower_service::Service<Uri> for UnixConnector {
    type Response = UnixConnection;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<UnixConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.path.clone();
        Box::pin(async move { Ok(UnixConnection(TokioIo::new(UnixStream::connect(path.as_path()).await?))) })
    }
}

/// A Unix stream as the pool wants it.
struct UnixConnection(TokioIo<UnixStream>);

impl Connection for UnixConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for UnixConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for UnixConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
