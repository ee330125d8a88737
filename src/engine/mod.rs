//! The only room that talks to dockerd: one method per Docker endpoint, in Docker's words.
//!
//! Plain JSON calls with large bodies go through bollard, those read often through slim shapes of our own (`model.rs`); both
//! share one pool of connections (`transport.rs`). **Invariant**: nobody else knows Docker's status codes, paths or JSON.

mod archive;
mod call;
mod container;
mod error;
mod event;
mod exec;
pub mod feature;
mod hijack;
mod image;
pub mod model;
mod output;
mod system;
mod transport;
mod turns;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

pub use error::Error;
pub use event::Events;
pub use exec::ExecOptions;
pub use hijack::{Hijacked, Input};
pub use image::{Credentials, PullDetail, PullProgress};
pub use output::{Output, Stream};
pub(crate) use turns::Turns;

use crate::figures::Timings;
use feature::ApiVersion;
use transport::{Body, Transport};

/// How long each kind of call may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Calls that only read.
    pub read: Duration,
    /// Calls that change something (`--runtime-request-timeout`).
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { read: Duration::from_secs(20), write: Duration::from_secs(119) }
    }
}

/// A handle on the Docker Engine. Cheap to clone; connects when used.
#[derive(Clone)]
pub struct Engine {
    docker: bollard::Docker,
    transport: Transport,
    timeouts: Timeouts,
}

impl Engine {
    /// A handle on the engine at a Unix socket; nothing is sent yet.
    pub fn new(socket: PathBuf, timeouts: Timeouts) -> Result<Self, Error> {
        let transport = Transport::new(socket);
        // bollard's own timeout is put out of the way: each call below has one that fits it
        let a_day_s = 24 * 60 * 60;
        let carrier = transport.clone();
        let docker = bollard::Docker::connect_with_custom_transport(
            move |request| carrier.clone().carry(request),
            Some("http://engine"),
            a_day_s,
            bollard::API_DEFAULT_VERSION,
        )?;
        Ok(Engine { docker, transport, timeouts })
    }

    /// The API version agreed on, if the engine has been reached.
    pub fn api(&self) -> Option<ApiVersion> {
        self.transport.pinned()
    }

    /// How long calls have taken until their answer began, by method and path without ids.
    pub fn calls(&self) -> &Timings<&'static str> {
        self.transport.calls()
    }

    /// `GET path`, decoded.
    async fn get<T: DeserializeOwned>(&self, call: &'static str, path: &str, limit: Duration) -> Result<T, Error> {
        within(call, limit, async {
            let response = self.send(Method::GET, path, Vec::new()).await?;
            let body = collect(response).await?;
            serde_json::from_slice(&body).map_err(|error| Error::Unreadable { call, reason: error.to_string() })
        })
        .await
    }

    /// Sends a request and gives the answer once its head is there; a failing status is an error.
    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Incoming>, Error> {
        self.send_with(method, path, body, &[]).await
    }

    /// As [`Engine::send`], with headers of its own.
    async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder().method(method).uri(path);
        if headers.is_empty() {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let request = request.body(body).map_err(|error| Error::Unreachable { source: Box::new(error) })?;
        let response =
            self.transport.send(request).await.map_err(|error| Error::Unreachable { source: Box::new(error) })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = collect(response).await?;
        Err(Error::of_status(status.as_u16(), message_of(&body)))
    }
}

/// Bounds a call in time. (No `async fn`, which would have room for the call twice.)
fn within<T>(
    call: &'static str,
    limit: Duration,
    future: impl Future<Output = Result<T, Error>>,
) -> impl Future<Output = Result<T, Error>> {
    tokio::time::timeout(limit, future).map(move |ended| ended.unwrap_or(Err(Error::Timeout { call, after: limit })))
}

/// The whole body of an answer: a listing may have tens of megabytes, which are not to be there twice.
async fn collect(response: Response<Incoming>) -> Result<Vec<u8>, Error> {
    let (mut body, mut whole) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Unreachable { source: Box::new(error) })?;
        if let Some(data) = frame.data_ref() {
            whole.extend_from_slice(data);
        }
    }
    Ok(whole)
}

/// Docker's `{"message": "…"}`, or the text as it is.
fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Failure {
        message: String,
    }
    serde_json::from_slice::<Failure>(body)
        .map(|failure| failure.message)
        .unwrap_or_else(|_| String::from_utf8_lossy(body).trim().to_owned())
}

/// Percent-encodes what stands in a query value.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bounded_call_is_held_once() {
        let state = [0_u8; 8 << 10];
        let call = async move {
            std::future::ready(()).await;
            Ok(state.len())
        };
        let alone = size_of_val(&call);
        let bounded = within("any", Duration::from_secs(1), call);
        assert!(size_of_val(&bounded) < alone + 512, "{} bytes for {alone}", size_of_val(&bounded));
    }

    #[test]
    fn a_failure_is_told_in_the_engines_words() {
        assert_eq!(message_of(br#"{"message":"No such container: x"}"#), "No such container: x");
        assert_eq!(message_of(b"page not found\n"), "page not found");
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(encode(r#"{"a":["^/b c"]}"#), "%7B%22a%22%3A%5B%22%5E%2Fb%20c%22%5D%7D");
    }
}
