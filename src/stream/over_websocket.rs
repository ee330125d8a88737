//! Clients that speak WebSocket: channels of `channel.k8s.io` for exec, attach and port-forward, and the tunnel that carries SPDY.
//!
//! ```text
//!   exec, attach   0 stdin   1 stdout   2 stderr   3 error   4 resize
//!   port-forward   2i data   2i+1 error of the i-th port, each opened by the port in two bytes, little end first
//! ```
//!
//! All channels share one connection: a full one holds up the others, and the client with them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::channel::{Client, Gone, Pair, Sink, Source};
use super::websocket::{Payload, Said, Subprotocol};
use super::{Grant, PortForward, Streams, Wants};

/// Largest message that is taken: clients send what they have read at once, rarely more than 32 KiB.
const LARGEST: usize = 256 << 10;
/// Buffers of a connection.
const BUFFER: usize = 32 << 10;
/// How long a client may take to read the rest and hang up once it has been told how it ended.
const FAREWELL: Duration = Duration::from_secs(30);
/// How often a client that isn't read, as a channel is full, is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(1);

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;

/// The WebSocket on an upgraded connection.
pub(super) async fn accept(connection: TcpStream, read: Bytes) -> WebSocketStream<TcpStream> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST));
    WebSocketStream::from_partially_read(connection, read.into(), Role::Server, Some(config)).await
}

/// Serves a grant until the client or the process has ended.
pub(super) async fn serve(
    streams: &Streams,
    grant: Grant,
    protocol: Subprotocol,
    connection: WebSocketStream<TcpStream>,
) {
    let (sink, stream) = connection.split();
    let out = Arc::new(Out { protocol, sink: tokio::sync::Mutex::new(sink), touched: Mutex::new(Instant::now()) });
    let mut inlets = Inlets { stream, out: out.clone(), idle: streams.inner.limits.idle, channels: Vec::new() };
    match grant {
        Grant::Exec(exec) => {
            let client = inlets.client(exec.wants).await;
            inlets.talk(streams.exec(&exec, client)).await;
        }
        Grant::Attach(attach) => {
            let client = inlets.client(attach.wants).await;
            inlets.talk(streams.attach(&attach, client)).await;
        }
        Grant::PortForward(PortForward { sandbox, ports }) => {
            let mut pairs = Vec::with_capacity(ports.len());
            for (port, channel) in ports.iter().zip((0..u8::MAX).step_by(2)) {
                pairs.push(inlets.pair(*port, channel).await);
            }
            inlets.talk(join_all(pairs.into_iter().map(|pair| streams.forward(&sandbox, pair)))).await;
        }
    }
}

/// What is sent to the client: one message after the other, whoever sends it.
pub(super) struct Out {
    protocol: Subprotocol,
    sink: tokio::sync::Mutex<SplitSink<WebSocketStream<TcpStream>, Message>>,
    /// When something came or went last.
    touched: Mutex<Instant>,
}

impl Out {
    /// Sends bytes on a channel; waits while the client doesn't read.
    pub(super) async fn send(&self, channel: u8, bytes: &[u8]) -> Result<(), Gone> {
        let message = match self.protocol.write(channel, bytes) {
            Payload::Binary(payload) => Message::Binary(payload.into()),
            Payload::Text(text) => Message::Text(text.into()),
        };
        self.send_message(message).await
    }

    async fn send_message(&self, message: Message) -> Result<(), Gone> {
        let sent = self.sink.lock().await.send(message).await;
        self.touch();
        sent.map_err(|_| Gone)
    }

    async fn close(&self, code: CloseCode, reason: &'static str) {
        let reason = Utf8Bytes::from_static(reason);
        let _ = self.send_message(Message::Close(Some(CloseFrame { code, reason }))).await;
    }

    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Until nothing came or went for so long.
    async fn rested(&self, idle: Duration) {
        loop {
            let since = self.touched.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            let left = idle.saturating_sub(since);
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// What a client may write to.
enum Channel {
    /// Somebody reads it.
    Open(mpsc::Sender<Bytes>),
    /// It may be written to, and nobody reads that.
    Ignored,
}

/// What comes from the client, and where it goes.
struct Inlets {
    stream: SplitStream<WebSocketStream<TcpStream>>,
    out: Arc<Out>,
    idle: Duration,
    /// By number.
    channels: Vec<Channel>,
}

impl Inlets {
    /// Opens the channels of exec and attach.
    async fn client(&mut self, wants: Wants) -> Client {
        // nothing on the first channel that the client reads tells it that it is connected
        let first = [(wants.stdout, STDOUT), (wants.stderr, STDERR)].into_iter().find(|(open, _)| *open);
        // a client that has gone is seen where it is read
        let _ = self.out.send(first.map_or(ERROR, |(_, channel)| channel), b"").await;
        let mut source = |open: bool| {
            let (inlet, source) = mpsc::channel(1);
            self.channels.push(if open { Channel::Open(inlet) } else { Channel::Ignored });
            open.then_some(Source::WebSocket(source))
        };
        // in the order of their numbers; the three in between are ours to write
        let (stdin, _, resize) = (source(wants.stdin), [(); 3].map(|()| source(false)), source(wants.tty));
        let sink = |channel| Sink::WebSocket { out: self.out.clone(), channel };
        Client {
            stdin,
            stdout: wants.stdout.then(|| sink(STDOUT)),
            stderr: wants.stderr.then(|| sink(STDERR)),
            resize,
            error: sink(ERROR),
            form: self.out.protocol.form,
        }
    }

    /// Opens the two channels of a port.
    async fn pair(&mut self, port: u16, channel: u8) -> Pair {
        let (inlet, source) = mpsc::channel(1);
        self.channels.extend([Channel::Open(inlet), Channel::Ignored]);
        let error = channel.saturating_add(1);
        for channel in [channel, error] {
            // a client that has gone is seen where it is read
            let _ = self.out.send(channel, &port.to_le_bytes()).await;
        }
        let sink = |channel| Sink::WebSocket { out: self.out.clone(), channel };
        Pair { port, source: Source::WebSocket(source), sink: sink(channel), error: sink(error) }
    }

    /// Stays with a conversation until it or its client ends. The client hangs up first, or it might lose what is on its way.
    async fn talk<T>(&mut self, conversation: impl Future<Output = T>) {
        let out = self.out.clone();
        tokio::select! {
            _ = conversation => {}
            ended = self.receive() => {
                let (code, reason) = ended.told();
                tracing::debug!(?ended, "a client's WebSocket ended");
                let _ = timeout(FAREWELL, out.close(code, reason)).await;
                return;
            }
        }
        let farewell = async {
            out.close(CloseCode::Normal, "").await;
            self.receive().await
        };
        // a slow one is not waited for
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Hands on what comes, until no more does.
    async fn receive(&mut self) -> Ended {
        loop {
            let message = tokio::select! {
                message = self.stream.next() => message,
                () = self.out.rested(self.idle) => return Ended::Idle,
            };
            self.out.touch();
            let payload = match message {
                Some(Ok(Message::Binary(payload))) => payload,
                Some(Ok(Message::Text(text))) => text.into(),
                Some(Ok(Message::Close(_))) | None => return Ended::Gone,
                // tungstenite answers pings
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => return Ended::of(&error),
            };
            if let Err(ended) = self.hand_on(&payload).await {
                return ended;
            }
        }
    }

    async fn hand_on(&mut self, payload: &Bytes) -> Result<(), Ended> {
        let (number, bytes) = match self.out.protocol.read(payload) {
            Some(Said::Data(number, bytes)) => (number, Some(bytes)),
            Some(Said::End(number)) => (number, None),
            None => return Err(Ended::Broken),
        };
        let channel = self.channels.get_mut(usize::from(number)).ok_or(Ended::Broken)?;
        let (Channel::Open(inlet), Some(bytes)) = (&*channel, bytes) else {
            *channel = Channel::Ignored;
            return Ok(());
        };
        loop {
            match timeout(PROBE, inlet.reserve()).await {
                Ok(Ok(room)) => {
                    room.send(bytes);
                    return Ok(());
                }
                // whoever read it does so no more
                Ok(Err(_)) => return Ok(()),
                Err(_) => self.out.send_message(Message::Ping(Bytes::new())).await.map_err(|_| Ended::Gone)?,
            }
        }
    }
}

/// Why no more comes from a client.
#[derive(Debug)]
enum Ended {
    /// It closed the connection, or lost it.
    Gone,
    /// Nothing moved for too long.
    Idle,
    /// It broke the protocol.
    Broken,
    /// It sent a larger message than is taken.
    TooLarge,
}

impl Ended {
    fn of(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Ended::TooLarge,
            Error::Protocol(_) | Error::Utf8(_) | Error::AttackAttempt => Ended::Broken,
            _ => Ended::Gone,
        }
    }

    /// What the client is told.
    fn told(&self) -> (CloseCode, &'static str) {
        match self {
            Ended::Gone => (CloseCode::Normal, ""),
            Ended::Idle => (CloseCode::Away, "nothing moved for too long"),
            Ended::Broken => (CloseCode::Protocol, "not a message of this protocol"),
            Ended::TooLarge => (CloseCode::Size, "a message larger than is taken"),
        }
    }
}
