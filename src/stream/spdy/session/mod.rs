//! A session on a connection: the two tasks that carry its bytes, and the handles that the rest of the house holds.
//!
//! ```text
//!            peer gone, violation, idle,             all is written, or dropped,
//!            close(), drop                           or GRACE after any other end
//!   open ─────────────────────────────▶ ended ──────────────────────────────────▶ no task is left
//!                                        writer task: sends what is queued, then closes its side
//!                                        reader task: reads on and drops, lest a reset overtakes what was sent
//! ```

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Error;
use super::frame::{Frame, Parser, Violation};
use super::header::Headers;
use super::inbox::{BUFFER, LARGE};
use super::mux::Mux;
use crate::engine::Turns;

/// How long the peer has to take what is sent after an end that is not `close`'s.
const GRACE: Duration = Duration::from_secs(2);

/// How often a connection that is not read, as an inbox is full, is asked whether the peer is still there. A socket tells it only to
/// who reads or writes.
const PROBE: Duration = Duration::from_secs(1);

/// Room that there is for a read: little, so that a frame that came in part goes on in its buffer, and isn't copied to the next.
const MIN_READ: usize = 4 << 10;

/// One connection's streams. Dropping it ends them all, and both its tasks within 2 s.
pub struct Session {
    shared: Arc<Shared>,
    sender: JoinHandle<()>,
    idle: Duration,
}

/// What the tasks and the handles share.
struct Shared {
    mux: Mutex<Mux>,
    phase: watch::Sender<Phase>,
    begun: Instant,
    /// When a byte came or went last, in milliseconds after `begun`.
    touched_ms: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// Over, but what is queued is worth waiting for.
    Ended,
    /// Over, and nobody waits for it.
    Left,
}

impl Shared {
    fn mux(&self) -> MutexGuard<'_, Mux> {
        self.mux.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, error: Error) {
        let mut mux = self.mux();
        mux.end(error);
        self.note_end(&mux);
    }

    /// Tells the tasks if the session is over.
    fn note_end(&self, mux: &Mux) {
        let phase = match mux.ended() {
            None => return,
            Some(Error::Ended) => Phase::Ended,
            Some(_) => Phase::Left,
        };
        self.enter(phase);
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }

    async fn reached(&self, phase: Phase) {
        // The sender is ours: the wait can't fail.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }

    /// Until the session is over and its last moment has passed.
    async fn expired(&self) {
        self.reached(Phase::Left).await;
        sleep(GRACE).await;
    }

    fn touch(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched_ms.store(now, Ordering::Relaxed);
    }

    /// Until no byte came or went for this long.
    async fn rested(&self, idle: Duration) {
        loop {
            let touched = Duration::from_millis(self.touched_ms.load(Ordering::Relaxed));
            let left = (touched + idle).saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

impl Session {
    /// Begins to speak on an upgraded connection, in two tasks; `idle` is how long it may rest.
    ///
    /// The speed is that of `reader` and of `writer`'s vectored writes: give a socket's own halves where there is one.
    pub fn serve(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        idle: Duration,
    ) -> Session {
        let shared = Arc::new(Shared {
            mux: Mutex::new(Mux::new()),
            phase: watch::Sender::new(Phase::Open),
            begun: Instant::now(),
            touched_ms: AtomicU64::new(0),
        });
        tokio::spawn(receive(reader, Arc::clone(&shared), idle));
        let sender = tokio::spawn(send(writer, Arc::clone(&shared)));
        Session { shared, sender, idle }
    }

    /// The next stream that the peer opens; an error once the session is over. Safe to drop while waiting.
    pub async fn accept(&mut self) -> Result<Incoming, Error> {
        let (id, headers) = poll_fn(|cx| self.shared.mux().poll_accept(cx)).await?;
        Ok(Incoming { handle: Handle { shared: Arc::clone(&self.shared), id }, headers, answered: false })
    }

    /// Resets what is open, says GOAWAY, and waits until the peer has taken all that was written, for the idle time at most.
    /// Dropped while waiting, it waits no longer than `drop` does.
    pub async fn close(mut self) {
        self.shared.end(Error::Ended);
        let _ = timeout(self.idle, &mut self.sender).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.end(Error::Ended);
        self.shared.enter(Phase::Left);
    }
}

/// The reader task.
async fn receive(mut reader: impl AsyncRead + Unpin, shared: Arc<Shared>, idle: Duration) {
    let error = tokio::select! {
        error = read_frames(&mut reader, &shared) => error,
        () = shared.rested(idle) => Error::Idle(idle),
        () = shared.reached(Phase::Ended) => Error::Ended,
    };
    shared.end(error);
    tokio::select! {
        () = read_on(&mut reader) => {}
        () = shared.expired() => {}
    }
}

async fn read_frames(reader: &mut (impl AsyncRead + Unpin), shared: &Shared) -> Error {
    let (mut parser, mut input) = (Parser::default(), Turns::default());
    loop {
        input.make_room(MIN_READ, BUFFER);
        match reader.read_buf(&mut input.current).await {
            Ok(0) => return Error::Closed,
            Ok(_) => shared.touch(),
            Err(error) => return Error::Connection(Arc::new(error)),
        }
        loop {
            let outcome = match parser.next(&mut input.current) {
                Ok(None) => break,
                Ok(Some(Frame::Data { id, fin, payload })) => deliver(shared, &(id, fin, payload)).await,
                Ok(Some(frame)) => {
                    let mut mux = shared.mux();
                    let outcome = mux.receive(frame);
                    shared.note_end(&mux);
                    outcome
                }
                Err(violation) => Err(violation),
            };
            if let Err(violation) = outcome {
                return Error::Violation(violation);
            }
        }
    }
}

/// Hands a piece of data to its stream, and waits while that is full.
async fn deliver(shared: &Shared, piece: &(u32, bool, Bytes)) -> Result<(), Violation> {
    loop {
        match timeout(PROBE, poll_fn(|cx| shared.mux().poll_data(cx, piece))).await {
            Ok(outcome) => return outcome,
            Err(_) => shared.mux().ping(),
        }
    }
}

/// Reads and drops until there is no more.
async fn read_on(reader: &mut (impl AsyncRead + Unpin)) {
    let mut input = BytesMut::with_capacity(LARGE);
    while reader.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
        input.clear();
    }
}

/// The writer task.
async fn send(mut writer: impl AsyncWrite + Unpin, shared: Arc<Shared>) {
    tokio::select! {
        outcome = write_batches(&mut writer, &shared) => {
            if let Err(error) = outcome {
                shared.end(Error::Connection(Arc::new(error)));
            }
        }
        () = shared.expired() => {}
    }
}

async fn write_batches(writer: &mut (impl AsyncWrite + Unpin), shared: &Shared) -> io::Result<()> {
    while let Some(mut batch) = poll_fn(|cx| shared.mux().poll_batch(cx)).await {
        writer.write_all_buf(&mut batch).await?;
        writer.flush().await?;
        // Control frames answer what was read, or are our own probes.
        if batch.carries_data() {
            shared.touch();
        }
    }
    writer.shutdown().await
}

/// A stream of a session.
struct Handle {
    shared: Arc<Shared>,
    id: u32,
}

impl Handle {
    /// Does something to the stream that may have been the session's last.
    fn act(&self, act: impl FnOnce(&mut Mux, u32)) {
        let mut mux = self.shared.mux();
        act(&mut mux, self.id);
        self.shared.note_end(&mux);
    }
}

/// A stream that the peer opened and that was not answered yet. Dropping it refuses it.
pub struct Incoming {
    handle: Handle,
    headers: Headers,
    answered: bool,
}

impl Incoming {
    /// The stream's number: odd, and larger than those before.
    pub fn id(&self) -> u32 {
        self.handle.id
    }

    /// What the peer says about the stream.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Accepts the stream: the peer learns it before anything that is written to it.
    pub fn reply(mut self) -> (Reader, Writer) {
        self.answered = true;
        self.handle.act(Mux::reply);
        let handle = || Handle { shared: Arc::clone(&self.handle.shared), id: self.handle.id };
        (Reader { handle: handle() }, Writer { handle: handle() })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.answered {
            self.handle.act(Mux::refuse);
        }
    }
}

/// What the peer sends on a stream. Once it is dropped, what comes is dropped too, and blocks nobody.
pub struct Reader {
    handle: Handle,
}

impl Reader {
    /// The next bytes; None at the peer's FIN. What came before an error is read before it. Safe to drop while waiting.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.handle.shared.mux().poll_read(cx, self.handle.id)).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.handle.act(Mux::drop_reader);
    }
}

/// What is sent to the peer on a stream. Dropped without `finish` it resets the stream; so it does when the `Reader` is dropped,
/// too, and the peer has not said FIN.
pub struct Writer {
    handle: Handle,
}

impl Writer {
    /// Sends bytes, as soon as there is room for them; the larger, the faster. What is not queued yet when the call is dropped
    /// is not sent.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), Error> {
        poll_fn(|cx| self.handle.shared.mux().poll_write(cx, self.handle.id, &mut data)).await
    }

    /// Ends this direction with FIN, behind what was written.
    pub fn finish(self) {
        self.handle.act(Mux::finish);
    }

    /// Waits until the stream is reset or the session is over, and says why.
    pub async fn closed(&self) -> Error {
        poll_fn(|cx| self.handle.shared.mux().poll_over(cx, self.handle.id)).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.handle.act(Mux::drop_writer);
    }
}

#[cfg(test)]
mod tests;
