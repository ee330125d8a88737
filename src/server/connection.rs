//! One accepted connection: HTTP/2, from its first byte until its client goes, or we do.
//!
//! ```text
//!                    shutdown, has called ──▶ GOAWAY ──▶ calls on their way end ──▶ closed
//!   accepted ──▶ …   shutdown, has not yet ──▶ its first call ──▶ GOAWAY …
//!                                          └─▶ none within FIRST_CALL ──▶ closed
//! ```
//!
//! Whoever has just connected is about to call, and would take a GOAWAY that comes first for the failure of that call: clients don't
//! repeat it. So it is served once; for all after that there is a successor.

use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::service::Routes;
use tower_service::Service;

/// How long a client that has connected may take for its first call, once the shutdown has begun.
const FIRST_CALL: Duration = Duration::from_secs(1);

/// Serves a connection to its end; `stopping` changes once when we are to go.
pub(super) async fn serve(stream: UnixStream, routes: Routes, mut stopping: watch::Receiver<()>) {
    let (called, mut calls) = watch::channel(false);
    let call = service_fn(move |request: Request<Incoming>| {
        called.send_replace(true);
        // ready at any time
        routes.clone().call(request)
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    // a kubelet has one connection, and its Status must not wait for two hundred slow stops
    http.timer(TokioTimer::new()).max_concurrent_streams(None);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), call));
    let shutdown = async {
        // an error is a dropped sender, which means the same
        let _ = stopping.changed().await;
        tokio::time::timeout(FIRST_CALL, calls.wait_for(|called| *called)).await.is_ok()
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        has_called = shutdown => {
            if !has_called {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection has broken");
    }
}
