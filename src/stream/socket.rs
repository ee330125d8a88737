//! The two halves of a WebSocket on an upgraded connection: frames in, frames out. What messages mean is not known here.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::frames::{Decoder, Piece, encode};

/// How much is read at once: two of the frames that Go's clients send while they have more, whole with heads and channels.
const CHUNK: usize = 2 * (14 + 1 + (32 << 10));
/// Unsent bytes that leave no room for one more pong: a client that pings and doesn't read gets none.
const ROOM: usize = 64 << 10;

/// A binary message.
pub(super) const BINARY: OpCode = OpCode::Data(Data::Binary);
/// A text message.
pub(super) const TEXT: OpCode = OpCode::Data(Data::Text);
const PING: OpCode = OpCode::Control(Control::Ping);
const PONG: OpCode = OpCode::Control(Control::Pong);
const CLOSE: OpCode = OpCode::Control(Control::Close);

/// The WebSocket on a connection; `read` is what came behind the request for it.
pub(super) fn accept(connection: TcpStream, read: Bytes) -> (Incoming, Outgoing) {
    let (reader, writer) = connection.into_split();
    let incoming = Incoming { reader, input: read.into(), decoder: Decoder::default() };
    (incoming, Outgoing { writer, unsent: BytesMut::new() })
}

/// What the client sends.
pub(super) struct Incoming {
    reader: OwnedReadHalf,
    /// Come and not given out.
    input: BytesMut,
    decoder: Decoder,
}

impl Incoming {
    /// The next piece. `InvalidData`: the client breaks the protocol; `UnexpectedEof`: it has gone. Safe to drop while waiting.
    pub(super) async fn next(&mut self) -> io::Result<Piece> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`].
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        loop {
            match self.decoder.next(&mut self.input) {
                Ok(Some(piece)) => return Poll::Ready(Ok(piece)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            self.input.reserve(CHUNK);
            if ready!(pin!(self.reader.read_buf(&mut self.input)).poll(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// What the client is sent.
pub(super) struct Outgoing {
    writer: OwnedWriteHalf,
    /// Frames that are on their way; whoever sends next sends them first.
    unsent: BytesMut,
}

impl Outgoing {
    /// Sends a message; waits while the client doesn't read. Dropped while it waits, it leaves the rest to whoever sends next.
    pub(super) async fn send(&mut self, opcode: OpCode, payload: &[&[u8]]) -> io::Result<()> {
        self.flush().await?;
        self.start(opcode, payload);
        self.flush().await
    }

    /// Sends what is unsent.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// As [`Self::flush`].
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.writer).poll_write(cx, &self.unsent))?;
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Puts a message behind what is unsent.
    pub(super) fn start(&mut self, opcode: OpCode, payload: &[&[u8]]) {
        encode(opcode, payload, &mut self.unsent);
    }

    /// Asks whether the client is still there.
    pub(super) async fn ping(&mut self) -> io::Result<()> {
        self.send(PING, &[]).await
    }

    /// Answers a ping as far as that goes without waiting.
    pub(super) fn pong(&mut self, bytes: &[u8]) {
        if self.unsent.len() < ROOM {
            self.start(PONG, &[bytes]);
        }
        while !self.unsent.is_empty()
            && let Ok(written @ 1..) = self.writer.try_write(&self.unsent)
        {
            self.unsent.advance(written);
        }
    }

    /// Says that nothing more comes, and why.
    pub(super) fn start_close(&mut self, code: CloseCode, reason: &str) {
        let code = u16::from(code).to_be_bytes();
        self.start(CLOSE, &[&code, reason.as_bytes()]);
    }
}
