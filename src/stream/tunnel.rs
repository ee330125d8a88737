//! The tunnel of `SPDY/3.1+portforward.k8s.io`: a byte stream in binary WebSocket messages, cut anywhere.
//! It doesn't know what the bytes mean.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::coding::CloseCode;

use super::frames::Piece;
use super::socket::{BINARY, Incoming, Outgoing};

/// Largest message that is sent.
const LARGEST: usize = 64 << 10;

/// The byte stream.
pub(super) struct Tunnel {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Of what has come.
    rest: Bytes,
    /// The client has been told that nothing more comes.
    is_closed: bool,
}

impl Tunnel {
    /// Through an open WebSocket.
    pub(super) fn through((incoming, outgoing): (Incoming, Outgoing)) -> Self {
        Tunnel { incoming, outgoing, rest: Bytes::new(), is_closed: false }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.incoming.poll_next(cx)) {
                Ok(Piece::Data { bytes, .. }) => self.rest = bytes,
                Ok(Piece::Ping(bytes)) => self.outgoing.pong(&bytes),
                Ok(Piece::Pong) => {}
                Ok(Piece::Close) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.outgoing.poll_flush(cx))?;
        let (mut message, mut length) = (Vec::with_capacity(slices.len()), 0);
        for slice in slices {
            let part = &slice[..slice.len().min(LARGEST - length)];
            length += part.len();
            message.push(part);
        }
        self.outgoing.start(BINARY, &message);
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.outgoing.start_close(CloseCode::Normal, "");
        }
        self.outgoing.poll_flush(cx)
    }
}
