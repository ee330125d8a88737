//! Where Prometheus reads our figures: `GET /metrics` on an address of the loopback interface or on a Unix socket. There is no
//! password, so there is nothing in it that other users of the machine may not know, and nothing can be changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Error, socket};
use crate::config::MetricsAddress;
use crate::figures::Form;
use crate::service::Daemon;

/// How long a request may take to come.
const REQUEST: Duration = Duration::from_secs(30);
/// Connections at once; what comes beyond is closed.
const MOST: usize = 32;
/// Pause after a failed accept: file descriptors may be free again by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The flag, for errors.
const FLAG: &str = "--metrics-address";

/// A connection of either kind.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The endpoint, made and not served yet.
pub(super) struct Scrape {
    incoming: BoxStream<'static, Box<dyn Connection>>,
    _file: Option<socket::SocketFile>,
}

impl Scrape {
    /// Listens.
    pub(super) async fn bind(address: &MetricsAddress) -> Result<Scrape, Error> {
        match address {
            MetricsAddress::Loopback(address) => {
                let failed = |source| Error::BindMetrics { address: *address, source };
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                Ok(Scrape { incoming: connections(listener).boxed(), _file: None })
            }
            MetricsAddress::Socket(path) => {
                let (file, listener) = socket::bind(path, FLAG).await?;
                let incoming = socket::connections(listener);
                let incoming = incoming.map(|connection| Box::new(connection) as Box<dyn Connection>);
                Ok(Scrape { incoming: incoming.boxed(), _file: Some(file) })
            }
        }
    }

    /// Answers scrapes until it is dropped.
    pub(super) async fn serve(mut self, daemon: Arc<Daemon>) {
        let mut open = JoinSet::new();
        while let Some(connection) = self.incoming.next().await {
            while open.try_join_next().is_some() {}
            if open.len() < MOST {
                open.spawn(serve(daemon.clone(), connection));
            }
        }
    }
}

/// Accepted connections, without end.
fn connections(listener: TcpListener) -> impl futures_util::Stream<Item = Box<dyn Connection>> {
    unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => return Some((Box::new(connection) as Box<dyn Connection>, listener)),
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

async fn serve(daemon: Arc<Daemon>, connection: Box<dyn Connection>) {
    let service = service_fn(|request| {
        let answered = answer(&daemon, &request);
        async { Ok::<_, Infallible>(answered) }
    });
    let mut http = http1::Builder::new();
    // one reply each: who doesn't read it is not waited for
    http.timer(TokioTimer::new()).keep_alive(false);
    match timeout(REQUEST, http.serve_connection(TokioIo::new(connection), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics broke"),
        Err(_) => tracing::debug!("a connection for metrics took too long"),
    }
}

fn answer(daemon: &Daemon, request: &Request<Incoming>) -> Response<String> {
    let refuse = |status: StatusCode, words: &str| {
        let mut response = Response::new(format!("{status}: {words}\n"));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return refuse(StatusCode::NOT_FOUND, "the figures are at /metrics");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "figures can only be read");
    }
    let form = wanted(request.headers());
    match daemon.exposition().write(form) {
        Ok(text) => {
            let mut response = Response::new(text);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
            response
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// OpenMetrics for those who ask for it, as Prometheus does.
fn wanted(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let asks =
        accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("application/openmetrics-text"));
    if asks { Form::OpenMetrics } else { Form::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_is_asked_for() {
        let form = |accept: &[&'static str]| {
            let mut headers = HeaderMap::new();
            accept.iter().for_each(|value| _ = headers.append(header::ACCEPT, HeaderValue::from_static(value)));
            wanted(&headers)
        };
        let prometheus = "text/plain;version=0.0.4;q=0.5, application/openmetrics-text;version=1.0.0;q=0.7,*/*;q=0.1";
        assert_eq!(form(&[prometheus]), Form::OpenMetrics);
        assert_eq!(form(&["text/html", "application/openmetrics-text"]), Form::OpenMetrics);
        assert_eq!(form(&["*/*"]), Form::Plain);
        assert_eq!(form(&[]), Form::Plain);
    }
}
