//! One stream of a client, whatever it travels over, and what a session is given of them.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::over_websocket::Out;
use super::spdy;
use super::status::Form;

/// The client, or this stream of it, was cut off.
#[derive(Debug)]
pub(super) struct Gone;

/// What a client writes.
pub(super) enum Source {
    /// A stream of its own. The half that we don't write to stays open with it: clients take its end for the process's.
    Spdy { reader: spdy::Reader, _unwritten: Option<spdy::Writer> },
    /// What comes on a channel; it ends with the client, or when the client says so.
    WebSocket(mpsc::Receiver<Bytes>),
}

impl Source {
    /// The next piece; None when the client has ended it. Safe to drop while waiting.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Gone> {
        match self {
            Source::Spdy { reader, .. } => reader.read().await.map_err(|_| Gone),
            Source::WebSocket(channel) => Ok(channel.recv().await),
        }
    }
}

/// What a client reads.
pub(super) enum Sink {
    /// A stream of its own, until it is finished. The half that isn't read stays with it: without it, the stream would be reset
    /// as soon as it is finished.
    Spdy { writer: Option<spdy::Writer>, _unread: Option<spdy::Reader> },
    /// A channel, which has no end of its own.
    WebSocket { out: Arc<Out>, channel: u8 },
}

impl Sink {
    /// Sends a piece; waits while the client doesn't read.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        match self {
            Sink::Spdy { writer: Some(writer), .. } => writer.write(bytes).await.map_err(|_| Gone),
            Sink::Spdy { writer: None, .. } => Err(Gone),
            Sink::WebSocket { out, channel } => out.send(*channel, bytes).await,
        }
    }

    /// Until the client wants no more.
    pub(super) async fn gone(&self) {
        match self {
            Sink::Spdy { writer: Some(writer), .. } => drop(writer.closed().await),
            Sink::Spdy { writer: None, .. } => {}
            // all channels go at once, and the session with them
            Sink::WebSocket { .. } => pending().await,
        }
    }

    /// Whether the client sees that there will be no more although not all has come.
    pub(super) fn knows_reset(&self) -> bool {
        matches!(self, Sink::Spdy { .. })
    }

    /// There will be no more.
    pub(super) fn finish(&mut self) {
        match self {
            Sink::Spdy { writer, .. } => {
                if let Some(writer) = writer.take() {
                    writer.finish();
                }
            }
            Sink::WebSocket { .. } => {}
        }
    }
}

/// A client's side of exec or attach.
pub(super) struct Client {
    /// What it types.
    pub(super) stdin: Option<Source>,
    /// What the process prints.
    pub(super) stdout: Option<Sink>,
    /// What it complains of.
    pub(super) stderr: Option<Sink>,
    /// Sizes of the client's terminal.
    pub(super) resize: Option<Source>,
    /// How it ended.
    pub(super) error: Sink,
    /// In which form that is told.
    pub(super) form: Form,
}

/// A client's side of one forwarded connection.
pub(super) struct Pair {
    /// The pod's port.
    pub(super) port: u16,
    /// From the client.
    pub(super) source: Source,
    /// To the client.
    pub(super) sink: Sink,
    /// Why it failed.
    pub(super) error: Sink,
}
