//! What the frames of a session mean: which streams there are, what waits in them and who waits for them; pure. It reads and
//! writes no connection, so a sequence of calls is all that a test needs; `session` carries the bytes.
//!
//! Each `poll_…` has one caller at a time, whose waker is kept until there is news for it.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::Error;
use super::frame::{Frame, Status, Violation};
use super::header::{Deflater, Headers, Inflater};
use super::inbox::Inbox;
use super::outbox::{Batch, MAX_PAYLOAD, Outbox};

/// Streams at once; more are refused.
const MAX_STREAMS: usize = 4096;

/// When this much of a stream waits to be sent, its writer waits: what it may hold is less than this and one frame.
const HIGH: usize = 64 << 10;

/// What may wait in control frames when the peer asks for another.
const MAX_CONTROL: usize = 512 << 10;

/// The state of a session.
pub(super) struct Mux {
    streams: HashMap<u32, Entry>,
    arrivals: VecDeque<(u32, Headers)>,
    outbox: Outbox,
    inflater: Inflater,
    deflater: Deflater,
    /// The last stream that the peer opened.
    last: u32,
    /// The last ping that we sent.
    pinged: u32,
    /// The peer said GOAWAY: the session ends with its last stream.
    leaving: bool,
    /// Why the session is over, once it is.
    end: Option<Error>,
    accepting: Option<Waker>,
    delivering: Option<Waker>,
    sending: Option<Waker>,
}

/// A stream, from its SYN_STREAM until our side has dropped both halves.
#[derive(Default)]
struct Entry {
    inbox: Inbox,
    /// What waits to be sent.
    queued: usize,
    /// The peer's FIN came.
    received: bool,
    /// Our FIN is sent or queued.
    finished: bool,
    /// Why the stream is over before both FINs, if it is.
    over: Option<Error>,
    reader_gone: bool,
    writer_gone: bool,
    reading: Option<Waker>,
    writing: Option<Waker>,
    watching: Option<Waker>,
}

impl Entry {
    /// Ends the stream in both directions; what came before is still read.
    fn abort(&mut self, error: Error) {
        self.over.get_or_insert(error);
        for waker in [&mut self.reading, &mut self.writing, &mut self.watching] {
            wake(waker);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Remembers who waits.
fn wait<T>(waker: &mut Option<Waker>, cx: &Context<'_>) -> Poll<T> {
    *waker = Some(cx.waker().clone());
    Poll::Pending
}

impl Mux {
    pub(super) fn new() -> Self {
        Mux {
            streams: HashMap::new(),
            arrivals: VecDeque::new(),
            outbox: Outbox::default(),
            inflater: Inflater::new(),
            deflater: Deflater::default(),
            last: 0,
            pinged: 0,
            leaving: false,
            end: None,
            accepting: None,
            delivering: None,
            sending: None,
        }
    }

    /// Ends the session; the first reason stays. The peer is told what it can still be told.
    pub(super) fn end(&mut self, error: Error) {
        if self.end.is_some() {
            return;
        }
        let open = |entry: &Entry| entry.over.is_none() && !(entry.received && entry.finished);
        let open: Vec<u32> = self.streams.iter().filter(|(_, entry)| open(entry)).map(|(id, _)| *id).collect();
        if matches!(error, Error::Ended | Error::Idle(_)) {
            open.into_iter().for_each(|id| self.send_reset(id, Status::CANCEL));
        }
        let status = u32::from(matches!(error, Error::Violation(_)));
        self.send(&Frame::GoAway { last: self.last, status });
        self.streams.values_mut().for_each(|entry| entry.abort(error.clone()));
        self.arrivals.clear();
        self.end = Some(error);
        for waker in [&mut self.accepting, &mut self.delivering, &mut self.sending] {
            wake(waker);
        }
    }

    /// Why the session is over, if it is.
    pub(super) fn ended(&self) -> Option<&Error> {
        self.end.as_ref()
    }

    /// How many streams there are.
    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    fn send(&mut self, frame: &Frame) {
        self.outbox.push_control(frame);
        wake(&mut self.sending);
    }

    fn send_reset(&mut self, id: u32, status: Status) {
        self.send(&Frame::Reset { id, status });
    }

    // --- what comes from the peer ---

    /// Takes a frame up; data frames go to `poll_data`.
    pub(super) fn receive(&mut self, frame: Frame) -> Result<(), Violation> {
        match frame {
            Frame::SynStream { id, fin, unidirectional, block } => {
                let headers = self.inflater.read(&block)?;
                self.open(id, fin, headers.filter(|_| !unidirectional))?;
            }
            Frame::SynReply { id, block, .. } => {
                // We open no streams, but what the block does to the context must be done.
                self.inflater.read(&block)?;
                self.send_reset(id, Status::INVALID_STREAM);
            }
            Frame::Headers { id, fin, block } => {
                self.inflater.read(&block)?;
                if let Some(entry) = self.streams.get_mut(&id).filter(|_| fin) {
                    entry.received = true;
                    wake(&mut entry.reading);
                }
            }
            Frame::Reset { id, status } => {
                if let Some(entry) = self.streams.get_mut(&id) {
                    entry.abort(Error::Reset(status));
                }
            }
            // The client's pings are odd; an even one answers ours.
            Frame::Ping { id } if id % 2 == 1 => self.send(&Frame::Ping { id }),
            Frame::Ping { .. } | Frame::Data { .. } => {}
            Frame::GoAway { .. } => {
                self.leaving = true;
                self.end_if_left();
            }
        }
        self.refuse_flood()
    }

    fn refuse_flood(&self) -> Result<(), Violation> {
        if self.outbox.control() > MAX_CONTROL { Err(Violation::Flood) } else { Ok(()) }
    }

    /// A new stream; without headers it has none that can be accepted.
    fn open(&mut self, id: u32, fin: bool, headers: Option<Headers>) -> Result<(), Violation> {
        if let Some(entry) = self.streams.get_mut(&id) {
            entry.abort(Error::Ended);
            self.send_reset(id, Status::PROTOCOL_ERROR);
            return Ok(());
        }
        if id.is_multiple_of(2) || id <= self.last {
            return Err(Violation::StreamId(id));
        }
        self.last = id;
        let Some(headers) = headers else {
            self.send_reset(id, Status::PROTOCOL_ERROR);
            return Ok(());
        };
        if self.streams.len() >= MAX_STREAMS || self.end.is_some() {
            self.send_reset(id, Status::REFUSED_STREAM);
            return Ok(());
        }
        self.streams.insert(id, Entry { received: fin, ..Entry::default() });
        self.arrivals.push_back((id, headers));
        wake(&mut self.accepting);
        Ok(())
    }

    /// Puts a piece of data into its stream's inbox, or drops it if nobody will read it; waits while the inbox is full.
    pub(super) fn poll_data(
        &mut self,
        cx: &Context<'_>,
        (id, fin, payload): &(u32, bool, Bytes),
    ) -> Poll<Result<(), Violation>> {
        let Some(entry) = self.streams.get_mut(id) else {
            // Data of a stream that is gone was sent before the peer knew.
            if id.is_multiple_of(2) || *id > self.last {
                self.send_reset(*id, Status::INVALID_STREAM);
            }
            return Poll::Ready(self.refuse_flood());
        };
        if entry.over.is_some() {
            return Poll::Ready(Ok(()));
        }
        if entry.received {
            entry.abort(Error::Ended);
            self.send_reset(*id, Status::STREAM_ALREADY_CLOSED);
            return Poll::Ready(self.refuse_flood());
        }
        if !entry.reader_gone {
            if !entry.inbox.has_room(payload.len()) {
                return wait(&mut self.delivering, cx);
            }
            entry.inbox.push(payload.clone());
        }
        entry.received = *fin;
        wake(&mut entry.reading);
        Poll::Ready(Ok(()))
    }

    /// Sends a ping, unless something waits to be sent. Its answer says nothing: what tells is whether it can be sent.
    pub(super) fn ping(&mut self) {
        if !self.outbox.is_empty() {
            return;
        }
        self.pinged = self.pinged.wrapping_add(2);
        self.send(&Frame::Ping { id: self.pinged });
    }

    // --- what our side does ---

    /// The next stream that the peer opened.
    pub(super) fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<Result<(u32, Headers), Error>> {
        match (&self.end, self.arrivals.pop_front()) {
            (Some(end), _) => Poll::Ready(Err(end.clone())),
            (None, Some(arrival)) => Poll::Ready(Ok(arrival)),
            (None, None) => wait(&mut self.accepting, cx),
        }
    }

    /// Accepts a stream.
    pub(super) fn reply(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|entry| entry.over.is_none()) {
            let block = self.deflater.empty_block();
            self.send(&Frame::SynReply { id, fin: false, block });
        }
    }

    /// Turns a stream down.
    pub(super) fn refuse(&mut self, id: u32) {
        if let Some(entry) = self.streams.remove(&id) {
            self.take_leave(id, &entry, Status::REFUSED_STREAM);
        }
    }

    /// The next bytes of a stream; None at the peer's FIN.
    pub(super) fn poll_read(&mut self, cx: &Context<'_>, id: u32) -> Poll<Result<Option<Bytes>, Error>> {
        let Some(entry) = self.streams.get_mut(&id) else { return Poll::Ready(Err(Error::Ended)) };
        if let Some(bytes) = entry.inbox.pop() {
            wake(&mut self.delivering);
            return Poll::Ready(Ok(Some(bytes)));
        }
        match &entry.over {
            _ if entry.received => Poll::Ready(Ok(None)),
            Some(error) => Poll::Ready(Err(error.clone())),
            None => wait(&mut entry.reading, cx),
        }
    }

    /// Queues what there is room for, and waits while any of `data` is left.
    pub(super) fn poll_write(&mut self, cx: &Context<'_>, id: u32, data: &mut Bytes) -> Poll<Result<(), Error>> {
        let Some(entry) = self.streams.get_mut(&id) else { return Poll::Ready(Err(Error::Ended)) };
        if let Some(error) = &entry.over {
            return Poll::Ready(Err(error.clone()));
        }
        while !data.is_empty() {
            if entry.queued >= HIGH {
                return wait(&mut entry.writing, cx);
            }
            let payload = data.split_to(data.len().min(MAX_PAYLOAD));
            entry.queued += self.outbox.push_data(id, false, payload);
            wake(&mut self.sending);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the stream is over otherwise than by both FINs.
    pub(super) fn poll_over(&mut self, cx: &Context<'_>, id: u32) -> Poll<Error> {
        let Some(entry) = self.streams.get_mut(&id) else { return Poll::Ready(Error::Ended) };
        match &entry.over {
            Some(error) => Poll::Ready(error.clone()),
            None => wait(&mut entry.watching, cx),
        }
    }

    /// Ends our direction, behind what was written.
    pub(super) fn finish(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id).filter(|entry| entry.over.is_none()) else { return };
        entry.finished = true;
        entry.queued += self.outbox.push_data(id, true, Bytes::new());
        wake(&mut self.sending);
    }

    /// Nobody reads the stream any more.
    pub(super) fn drop_reader(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.reader_gone = true;
        entry.inbox = Inbox::default();
        wake(&mut self.delivering);
        self.remove_if_dropped(id);
    }

    /// Nobody writes to the stream any more; without a FIN it is torn, and the peer must not take it for whole.
    pub(super) fn drop_writer(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.writer_gone = true;
        if !entry.finished && entry.over.is_none() {
            entry.abort(Error::Ended);
            self.send_reset(id, Status::CANCEL);
        }
        self.remove_if_dropped(id);
    }

    fn remove_if_dropped(&mut self, id: u32) {
        let dropped = |entry: &Entry| entry.reader_gone && entry.writer_gone;
        if self.streams.get(&id).is_some_and(dropped)
            && let Some(entry) = self.streams.remove(&id)
        {
            self.take_leave(id, &entry, Status::CANCEL);
        }
    }

    /// After a stream was removed: says so to a peer that doesn't know.
    fn take_leave(&mut self, id: u32, entry: &Entry, status: Status) {
        if entry.over.is_none() && !(entry.received && entry.finished) {
            self.send_reset(id, status);
        }
        wake(&mut self.delivering);
        self.end_if_left();
    }

    fn end_if_left(&mut self) {
        if self.leaving && self.streams.is_empty() {
            self.end(Error::Closed);
        }
    }

    // --- what goes to the peer ---

    /// What is next to be written to the connection; None when the session is over and all was taken.
    pub(super) fn poll_batch(&mut self, cx: &Context<'_>) -> Poll<Option<Batch>> {
        if self.outbox.is_empty() {
            return if self.end.is_some() { Poll::Ready(None) } else { wait(&mut self.sending, cx) };
        }
        let streams = &mut self.streams;
        Poll::Ready(Some(self.outbox.take(|id, cost| {
            let Some(entry) = streams.get_mut(&id) else { return };
            entry.queued -= cost;
            if entry.queued < HIGH {
                wake(&mut entry.writing);
            }
        })))
    }
}

#[cfg(test)]
mod tests;
