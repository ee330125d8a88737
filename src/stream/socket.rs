//! The two halves of a WebSocket on an upgraded connection: frames in, frames out. What messages mean is not known here.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::frames::{Decoder, Piece, encode, encode_head};
use crate::engine::Turns;

/// A frame as Go's clients send it while they have more, whole with head and channel: there is room for one, and two are read at once.
const FRAME: usize = 14 + 1 + (32 << 10);
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
    let incoming = Incoming { reader, input: Turns::new(read.into()), decoder: Decoder::default() };
    (incoming, Outgoing { writer, unsent: BytesMut::new(), payload: Bytes::new() })
}

/// What the client sends.
pub(super) struct Incoming {
    reader: OwnedReadHalf,
    /// Come and not given out.
    input: Turns,
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
            match self.decoder.next(&mut self.input.current) {
                Ok(Some(piece)) => return Poll::Ready(Ok(piece)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            self.input.make_room(FRAME, 2 * FRAME);
            if ready!(pin!(self.reader.read_buf(&mut self.input.current)).poll(cx))? == 0 {
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
    /// What comes behind them: it is sent from where it is.
    payload: Bytes,
}

impl Outgoing {
    /// Sends a message; waits while the client doesn't read. Dropped while it waits, it leaves the rest to whoever sends next.
    pub(super) async fn send(&mut self, opcode: OpCode, first: &[u8], payload: Bytes) -> io::Result<()> {
        self.flush().await?;
        encode_head(opcode, first.len() + payload.len(), &mut self.unsent);
        self.unsent.extend_from_slice(first);
        self.payload = payload;
        self.flush().await
    }

    /// Sends what is unsent.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// As [`Self::flush`].
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_flushed() {
            let slices = [IoSlice::new(&self.unsent), IoSlice::new(&self.payload)];
            let written = ready!(Pin::new(&mut self.writer).poll_write_vectored(cx, &slices))?;
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && self.payload.is_empty()
    }

    fn advance(&mut self, written: usize) {
        let framed = written.min(self.unsent.len());
        self.unsent.advance(framed);
        self.payload.advance(written - framed);
    }

    /// Puts a message behind what is unsent.
    pub(super) fn start(&mut self, opcode: OpCode, payload: &[&[u8]]) {
        self.unsent.extend_from_slice(&std::mem::take(&mut self.payload));
        encode(opcode, payload, &mut self.unsent);
    }

    /// Asks whether the client is still there, without waiting: what is still to be sent asks, too.
    pub(super) fn ping(&mut self) -> io::Result<()> {
        if self.is_flushed() {
            self.start(PING, &[]);
        }
        self.try_flush()
    }

    /// Answers a ping as far as that goes without waiting.
    pub(super) fn pong(&mut self, bytes: &[u8]) {
        if self.unsent.len() + self.payload.len() < ROOM {
            self.start(PONG, &[bytes]);
        }
        // that it has gone is seen where it is read
        let _ = self.try_flush();
    }

    /// Sends of what is unsent as much as goes without waiting.
    fn try_flush(&mut self) -> io::Result<()> {
        while !self.is_flushed() {
            let slices = [IoSlice::new(&self.unsent), IoSlice::new(&self.payload)];
            match self.writer.try_write_vectored(&slices) {
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more comes, and why.
    pub(super) fn start_close(&mut self, code: CloseCode, reason: &str) {
        let code = u16::from(code).to_be_bytes();
        self.start(CLOSE, &[&code, reason.as_bytes()]);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::{Duration, timeout};

    use super::*;

    async fn pair() -> (TcpStream, Outgoing) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (client, accept(server, Bytes::new()).1)
    }

    /// Sends until the client, who doesn't read, has to be waited for: how many payloads.
    async fn fill(outgoing: &mut Outgoing, payload: &Bytes) -> usize {
        for number in 1.. {
            let sending = outgoing.send(BINARY, &[1], payload.clone());
            if timeout(Duration::from_millis(100), sending).await.is_err() {
                return number;
            }
        }
        unreachable!()
    }

    #[tokio::test]
    async fn what_was_given_up_is_sent_before_what_comes_next() {
        let (mut client, mut outgoing) = pair().await;
        let payload = Bytes::from(vec![7; 100_000]);
        let sent = fill(&mut outgoing, &payload).await;
        outgoing.ping().unwrap();
        let reading = tokio::spawn(async move {
            let mut come = Vec::new();
            client.read_to_end(&mut come).await.map(|_| come)
        });
        outgoing.send(TEXT, &[], Bytes::from_static(b"end")).await.unwrap();
        outgoing.ping().unwrap();
        drop(outgoing);
        let mut expected = BytesMut::new();
        (0..sent).for_each(|_| encode(BINARY, &[&[1], &payload], &mut expected));
        encode(TEXT, &[b"end"], &mut expected);
        encode(PING, &[], &mut expected);
        assert!(reading.await.unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_noticed_by_asking() {
        let (client, mut outgoing) = pair().await;
        fill(&mut outgoing, &Bytes::from(vec![7; 100_000])).await;
        drop(client);
        let asking = async {
            while outgoing.ping().is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(5), asking).await.unwrap();
    }
}
