//! Clients that speak WebSocket: channels of `channel.k8s.io` for exec, attach and port-forward, and the tunnel that carries SPDY.
//!
//! ```text
//!   exec, attach   0 stdin   1 stdout   2 stderr   3 error   4 resize
//!   port-forward   2i data   2i+1 error of the i-th port, each opened by the port in two bytes, little end first
//! ```
//!
//! All channels share one connection: a full one holds up the others, and the client with them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tungstenite::protocol::frame::coding::CloseCode;

use super::channel::{Client, Gone, Pair, Sink, Source};
use super::frames::Piece;
use super::socket::{BINARY, Incoming, Outgoing, TEXT};
use super::websocket::{Payload, Said, Subprotocol};
use super::{Grant, PortForward, Streams, Wants};

/// Largest message that is held, as those of the base64 variants are; all others may be of any length.
const LARGEST: usize = 256 << 10;
/// How long a client may take to read the rest and hang up once it has been told how it ended.
const FAREWELL: Duration = Duration::from_secs(30);
/// How often a client that isn't read, as a channel is full, is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(1);

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;

/// Serves a grant until the client or the process has ended.
pub(super) async fn serve(
    streams: &Streams,
    grant: Grant,
    protocol: Subprotocol,
    (incoming, outgoing): (Incoming, Outgoing),
) {
    let out = Arc::new(Out {
        protocol,
        outgoing: tokio::sync::Mutex::new(outgoing),
        asked: Mutex::default(),
        touched: Mutex::new(Instant::now()),
    });
    let idle = streams.inner.limits.idle;
    let mut inlets = Inlets { incoming, out: out.clone(), idle, channels: Vec::new(), coming: Coming::Nothing };
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
    outgoing: tokio::sync::Mutex<Outgoing>,
    /// The latest ping that came while somebody was sending.
    asked: Mutex<Option<Bytes>>,
    /// When something came or went last.
    touched: Mutex<Instant>,
}

impl Out {
    /// Sends bytes on a channel; waits while the client doesn't read.
    pub(super) async fn send(&self, channel: u8, bytes: Bytes) -> Result<(), Gone> {
        let mut outgoing = self.outgoing.lock().await;
        let sent = match self.protocol.write(channel, bytes) {
            Payload::Binary(channel, bytes) => outgoing.send(BINARY, &channel, bytes).await,
            Payload::Text(text) => outgoing.send(TEXT, &[], text.into()).await,
        };
        self.answer(&mut outgoing);
        self.touch();
        sent.map_err(|_| Gone)
    }

    /// Asks whether the client is still there, without waiting; whoever is sending learns it, too.
    fn ping(&self) -> Result<(), Gone> {
        self.outgoing.try_lock().map_or(Ok(()), |mut outgoing| outgoing.ping().map_err(|_| Gone))
    }

    /// Answers a ping, after what is being sent if need be.
    fn pong(&self, bytes: Bytes) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
        if let Ok(mut outgoing) = self.outgoing.try_lock() {
            self.answer(&mut outgoing);
        }
    }

    fn answer(&self, outgoing: &mut Outgoing) {
        if let Some(bytes) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take() {
            outgoing.pong(&bytes);
        }
    }

    async fn close(&self, code: CloseCode, reason: &str) {
        let mut outgoing = self.outgoing.lock().await;
        outgoing.start_close(code, reason);
        // a client that has gone needs no farewell
        let _ = outgoing.flush().await;
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

/// The message that comes.
enum Coming {
    /// Not a byte of it yet.
    Nothing,
    /// All of it is for one channel, and goes there as it comes.
    Channel(u8),
    /// It has to be whole to be understood.
    Whole(BytesMut),
}

/// What comes from the client, and where it goes.
struct Inlets {
    incoming: Incoming,
    out: Arc<Out>,
    idle: Duration,
    /// By number.
    channels: Vec<Channel>,
    coming: Coming,
}

impl Inlets {
    /// Opens the channels of exec and attach.
    async fn client(&mut self, wants: Wants) -> Client {
        // nothing on the first channel that the client reads tells it that it is connected
        let first = [(wants.stdout, STDOUT), (wants.stderr, STDERR)].into_iter().find(|(open, _)| *open);
        // a client that has gone is seen where it is read
        let _ = self.out.send(first.map_or(ERROR, |(_, channel)| channel), Bytes::new()).await;
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
            let _ = self.out.send(channel, Bytes::copy_from_slice(&port.to_le_bytes())).await;
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

    /// Hands on what comes, until no more does or nothing has moved for too long.
    async fn receive(&mut self) -> Ended {
        let (out, idle) = (self.out.clone(), self.idle);
        tokio::select! {
            ended = self.take_all() => ended,
            () = out.rested(idle) => Ended::Idle,
        }
    }

    async fn take_all(&mut self) -> Ended {
        loop {
            let piece = self.incoming.next().await;
            self.out.touch();
            let taken = match piece {
                Ok(Piece::Data { bytes, first, last }) => self.take(bytes, first, last).await,
                Ok(Piece::Ping(bytes)) => {
                    self.out.pong(bytes);
                    Ok(())
                }
                Ok(Piece::Pong) => Ok(()),
                Ok(Piece::Close) => Err(Ended::Gone),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Ended::Broken),
                Err(_) => Err(Ended::Gone),
            };
            if let Err(ended) = taken {
                return ended;
            }
        }
    }

    /// Takes a part of a message.
    async fn take(&mut self, mut bytes: Bytes, first: bool, last: bool) -> Result<(), Ended> {
        if first {
            self.coming = Coming::Nothing;
        }
        if let Coming::Nothing = self.coming {
            self.coming = match bytes.first() {
                Some(channel) if self.out.protocol.is_all_for(*channel) => Coming::Channel(bytes.get_u8()),
                Some(_) => Coming::Whole(BytesMut::new()),
                None if last => return Err(Ended::Broken),
                None => return Ok(()),
            };
        }
        let message = match &mut self.coming {
            Coming::Nothing => return Ok(()),
            Coming::Channel(number) => {
                let number = *number;
                return self.hand_on(number, Some(bytes)).await;
            }
            Coming::Whole(message) if message.len() + bytes.len() > LARGEST => return Err(Ended::TooLarge),
            Coming::Whole(message) => message,
        };
        message.extend_from_slice(&bytes);
        if !last {
            return Ok(());
        }
        match self.out.protocol.read(&message.split().freeze()) {
            Some(Said::Data(number, bytes)) => self.hand_on(number, Some(bytes)).await,
            Some(Said::End(number)) => self.hand_on(number, None).await,
            None => Err(Ended::Broken),
        }
    }

    /// Gives a channel what is for it, or its end.
    async fn hand_on(&mut self, number: u8, bytes: Option<Bytes>) -> Result<(), Ended> {
        let channel = self.channels.get_mut(usize::from(number)).ok_or(Ended::Broken)?;
        let (Channel::Open(inlet), Some(bytes)) = (&*channel, bytes) else {
            *channel = Channel::Ignored;
            return Ok(());
        };
        loop {
            match timeout(PROBE, inlet.reserve()).await {
                Ok(Ok(room)) => {
                    room.send(bytes);
                    // however long it had to wait: now it has moved
                    self.out.touch();
                    return Ok(());
                }
                // whoever read it does so no more
                Ok(Err(_)) => return Ok(()),
                Err(_) => self.out.ping().map_err(|_| Ended::Gone)?,
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
