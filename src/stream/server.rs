//! The HTTP side: takes connections, redeems tokens, upgrades, and hands over to what is spoken then.
//!
//! ```text
//!   GET or POST /exec|attach|portforward/TOKEN ─▶ token known? ─▶ upgrade in order? ─▶ 101 ─▶ session
//!               anything else: not found           not found       400 or 403
//! ```
//!
//! A session runs in the task of its connection, so that the two end together.

use std::convert::Infallible;
use std::future::ready;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::tunnel::Tunnel;
use super::upgrade::{SPDY_PORT_FORWARD, Speech, negotiate};
use super::{Grant, OfEachKind, Streams, over_spdy, over_websocket, socket};

/// How long a request may take to come.
const REQUEST: Duration = Duration::from_secs(30);
/// How long sessions may still take once we are to stop.
const DRAIN: Duration = Duration::from_secs(2);
/// And how long it may take to tell their clients that they were cut off.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after a failed accept: file descriptors may be free again by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request that was granted its upgrade.
struct Granted {
    upgrade: OnUpgrade,
    grant: Grant,
    speech: Speech,
}

impl Streams {
    /// Serves streams until the shutdown, and those that are open then for a moment longer.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().connection(stream))),
                    Err(error) => {
                        tracing::warn!(%error, "a connection for a stream could not be taken");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = &mut shutdown => break,
            }
        }
        drop(listener);
        let mut ended = async |limit| timeout(limit, async { while connections.join_next().await.is_some() {} }).await;
        if ended(DRAIN).await.is_err() {
            tracing::info!("streams that are still open are closed");
            self.inner.stopping.send_replace(true);
            // the rest is dropped
            let _ = ended(FAREWELL).await;
        }
    }

    async fn connection(self, stream: TcpStream) {
        // what is typed must not wait for more
        let _ = stream.set_nodelay(true);
        let granted = Arc::new(Mutex::new(None));
        let service = service_fn(|request| {
            let (response, grant) = self.answer(request);
            *granted.lock().unwrap_or_else(PoisonError::into_inner) = grant;
            ready(Ok::<_, Infallible>(response))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(REQUEST);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
            tracing::debug!(%error, "a connection for a stream broke");
        }
        let granted = granted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Granted { upgrade, grant, speech }) = granted else { return };
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a connection for a stream broke at its upgrade"),
        };
        // it is the one that was given to hyper above
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        self.speak(grant, speech, parts.io.into_inner(), parts.read_buf).await;
    }

    fn answer(&self, mut request: Request<Incoming>) -> (Response<String>, Option<Granted>) {
        let refuse = |status: StatusCode| {
            let mut response = Response::new(format!("{status}\n"));
            *response.status_mut() = status;
            (response, None)
        };
        let mut parts = request.uri().path().strip_prefix('/').unwrap_or_default().splitn(2, '/');
        let (Some(kind @ ("exec" | "attach" | "portforward")), Some(token)) = (parts.next(), parts.next()) else {
            return refuse(StatusCode::NOT_FOUND);
        };
        if ![Method::GET, Method::POST].contains(request.method()) {
            return refuse(StatusCode::METHOD_NOT_ALLOWED);
        }
        let Some(grant) = self.inner.tokens.redeem(kind, token) else {
            return refuse(StatusCode::NOT_FOUND);
        };
        match negotiate(request.headers(), &grant) {
            Ok(speech) => {
                let upgrade = hyper::upgrade::on(&mut request);
                (speech.answer(), Some(Granted { upgrade, grant, speech }))
            }
            Err(refusal) => {
                tracing::debug!(kind, ?refusal, "a client could not be upgraded");
                (refusal.answer(), None)
            }
        }
    }

    /// `read` is what the client has sent behind its request.
    async fn speak(&self, grant: Grant, speech: Speech, connection: TcpStream, read: Bytes) {
        let OfEachKind { exec, attach, port_forward } = &self.inner.sessions;
        let _session = match grant {
            Grant::Exec(_) => exec.open(),
            Grant::Attach(_) => attach.open(),
            Grant::PortForward(_) => port_forward.open(),
        };
        match speech {
            Speech::Spdy(protocol) => {
                let (reader, writer) = connection.into_split();
                over_spdy::serve(self, grant, protocol, Cursor::new(read).chain(reader), writer).await;
            }
            Speech::WebSocket { protocol, .. } => {
                over_websocket::serve(self, grant, protocol, socket::accept(connection, read)).await;
            }
            Speech::Tunnel { .. } => {
                let (reader, writer) = split(Tunnel::through(socket::accept(connection, read)));
                over_spdy::serve(self, grant, SPDY_PORT_FORWARD, reader, writer).await;
            }
        }
    }
}
