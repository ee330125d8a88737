//! Hijacked connections: exec and attach answer `101 UPGRADED`, and the connection is the process's own streams from then on.
//!
//! ```text
//!   POST …, Connection: Upgrade, Upgrade: tcp ─▶ 101 ─▶ input ──▶ the process's stdin; its end ends stdin
//!                                                      output ◀── multiplexed, or raw when there is a terminal
//! ```
//!
//! Dropping both ends closes the connection: the Engine then ends the process's stdin and drops its output.

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;

use super::feature::Feature;
use super::output::{Framing, Output};
use super::transport::Body;
use super::{Engine, Error, collect, message_of};

/// The streams of a process.
pub struct Hijacked {
    /// To its standard input.
    pub input: Input,
    /// From its outputs.
    pub output: Output,
}

/// A process's standard input. Dropping it ends that input; the output goes on.
pub struct Input {
    stream: OwnedWriteHalf,
}

impl Input {
    /// Writes it all; waits while the process doesn't read.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).await.map_err(|error| Error::Unreachable { source: Box::new(error) })
    }
}

impl Engine {
    /// `POST path` with an upgrade; `tty` tells the framing to engines that don't tell it themselves (before API 1.42).
    pub(super) async fn hijack(
        &self,
        call: &'static str,
        path: &str,
        body: Vec<u8>,
        tty: bool,
    ) -> Result<Hijacked, Error> {
        let lost = |source| Error::Unreachable { source };
        let body: Body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp")
            .body(body)
            .map_err(|error| lost(error.into()))?;
        let mut response = self.transport.send_alone(request).await.map_err(lost)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let message = message_of(&collect(response).await?);
            if status.is_success() {
                return Err(Error::Unreadable { call, reason: format!("{status} without an upgrade: {message}") });
            }
            return Err(Error::of_status(status.as_u16(), message));
        }
        let told = self.api().is_some_and(|api| api.has(Feature::StreamContentType));
        let content_type = response.headers().get(header::CONTENT_TYPE).filter(|_| told);
        let framing = framing(content_type.map(|value| value.as_bytes()), tty);
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| lost(error.into()))?;
        let unlike = |_| Error::Unreadable { call, reason: "the connection can't be taken over".to_owned() };
        let parts = upgraded.downcast::<TokioIo<UnixStream>>().map_err(unlike)?;
        let (read, write) = parts.io.into_inner().into_split();
        let output = Output::new(read, BytesMut::from(&parts.read_buf[..]), framing);
        Ok(Hijacked { input: Input { stream: write }, output })
    }
}

/// The content type decides where there is a telling one, else whether there is a terminal; the bytes never do.
fn framing(content_type: Option<&[u8]>, tty: bool) -> Framing {
    match content_type {
        Some(b"application/vnd.docker.multiplexed-stream") => Framing::Multiplexed,
        Some(b"application/vnd.docker.raw-stream") => Framing::Raw,
        _ if tty => Framing::Raw,
        _ => Framing::Multiplexed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_decides_and_the_terminal_where_there_is_none() {
        let multiplexed = b"application/vnd.docker.multiplexed-stream".as_slice();
        let raw = b"application/vnd.docker.raw-stream".as_slice();
        assert_eq!(framing(Some(multiplexed), true), Framing::Multiplexed);
        assert_eq!(framing(Some(raw), false), Framing::Raw);
        assert_eq!(framing(None, true), Framing::Raw);
        assert_eq!(framing(Some(b"text/plain"), false), Framing::Multiplexed);
    }
}
