//! Sequences of calls, and what the session then has to say.

use bytes::{Buf, BytesMut};
use proptest::prelude::*;

use super::super::frame::Parser;
use super::super::header::testing::Peer;
use super::super::inbox::CAPACITY;
use super::*;

/// A session with its peer's side of header compression.
struct Pair {
    mux: Mux,
    peer: Peer,
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Pair {
    fn new() -> Self {
        Pair { mux: Mux::new(), peer: Peer::new() }
    }

    fn syn(&mut self, id: u32) -> Result<(), Violation> {
        let block = self.peer.block(&[("streamtype", "data")]);
        self.mux.receive(Frame::SynStream { id, fin: false, unidirectional: false, block })
    }

    /// Opens and accepts a stream, and forgets the reply.
    fn open(&mut self, id: u32) {
        self.syn(id).unwrap();
        let Poll::Ready(Ok((announced, _))) = self.mux.poll_accept(&context()) else { panic!("no stream") };
        assert_eq!(announced, id);
        self.mux.reply(id);
        assert!(matches!(self.sent()[..], [Frame::SynReply { .. }]));
    }

    fn data(&mut self, id: u32, fin: bool, payload: &'static [u8]) -> Poll<Result<(), Violation>> {
        self.mux.poll_data(&context(), &(id, fin, Bytes::from_static(payload)))
    }

    fn read(&mut self, id: u32) -> Poll<Result<Option<Bytes>, Error>> {
        self.mux.poll_read(&context(), id)
    }

    fn write(&mut self, id: u32, payload: &'static [u8]) -> Poll<Result<(), Error>> {
        self.mux.poll_write(&context(), id, &mut Bytes::from_static(payload))
    }

    /// Takes what waits to be sent.
    fn sent(&mut self) -> Vec<Frame> {
        let (mut wire, mut frames) = (BytesMut::new(), Vec::new());
        while let Poll::Ready(Some(mut batch)) = self.mux.poll_batch(&context()) {
            wire.extend_from_slice(&batch.copy_to_bytes(batch.remaining()));
        }
        let mut parser = Parser::default();
        while let Some(frame) = parser.next(&mut wire).unwrap() {
            frames.push(frame);
        }
        frames
    }
}

fn reset(id: u32, status: Status) -> Frame {
    Frame::Reset { id, status }
}

const DONE: Poll<Result<(), Violation>> = Poll::Ready(Ok(()));

#[test]
fn a_stream_is_announced_with_its_headers_and_replied_to_before_it_is_written_to() {
    let mut pair = Pair::new();
    pair.syn(1).unwrap();
    let Poll::Ready(Ok((1, headers))) = pair.mux.poll_accept(&context()) else { panic!("no stream") };
    assert_eq!(headers.get("streamtype"), Some("data"));
    pair.mux.reply(1);
    assert!(matches!(pair.write(1, b"hello"), Poll::Ready(Ok(()))));
    pair.mux.finish(1);
    let sent = pair.sent();
    assert!(matches!(sent[0], Frame::SynReply { id: 1, fin: false, .. }));
    let data = |fin, payload| Frame::Data { id: 1, fin, payload: Bytes::from_static(payload) };
    assert_eq!(sent[1..], [data(false, b"hello"), data(true, b"")]);
}

#[test]
fn data_before_the_reply_is_kept_for_the_reader() {
    let mut pair = Pair::new();
    pair.syn(1).unwrap();
    assert_eq!(pair.data(1, true, b"early"), DONE);
    assert!(pair.mux.poll_accept(&context()).is_ready());
    pair.mux.reply(1);
    assert!(matches!(pair.read(1), Poll::Ready(Ok(Some(bytes))) if bytes == "early"));
    assert!(matches!(pair.read(1), Poll::Ready(Ok(None))));
}

#[test]
fn a_full_inbox_waits_until_it_is_read_dropped_or_reset() {
    static PIECE: [u8; CAPACITY] = [7; CAPACITY];
    let relieve: [fn(&mut Pair); 3] = [
        |pair| assert!(pair.read(1).is_ready()),
        |pair| pair.mux.drop_reader(1),
        |pair| pair.mux.receive(reset(1, Status::CANCEL)).unwrap(),
    ];
    for relieve in relieve {
        let mut pair = Pair::new();
        pair.open(1);
        assert_eq!(pair.data(1, false, &PIECE), DONE);
        assert!(pair.data(1, false, b"x").is_pending());
        relieve(&mut pair);
        assert_eq!(pair.data(1, false, b"x"), DONE);
    }
}

#[test]
fn a_writer_waits_while_its_share_of_the_queue_is_full() {
    static BIG: [u8; 4 * MAX_PAYLOAD] = [7; 4 * MAX_PAYLOAD];
    let mut pair = Pair::new();
    pair.open(1);
    pair.open(3);
    let mut left = Bytes::from_static(&BIG);
    assert!(pair.mux.poll_write(&context(), 1, &mut left).is_pending());
    assert_eq!(left.len(), BIG.len() - MAX_PAYLOAD);
    assert!(pair.write(3, b"a sibling has its own share").is_ready());
    pair.sent();
    assert!(pair.mux.poll_write(&context(), 1, &mut left).is_pending());
    assert_eq!(left.len(), BIG.len() - 2 * MAX_PAYLOAD);
}

#[test]
fn small_writes_fill_the_queue_too() {
    let mut pair = Pair::new();
    pair.open(1);
    let written = (0..HIGH).take_while(|_| pair.write(1, b"x").is_ready()).count();
    assert!(written < HIGH / 100, "{written}");
}

#[test]
fn a_stream_that_is_dropped_before_its_end_is_reset() {
    type Drop = fn(&mut Pair);
    let drops: [(Drop, Vec<Frame>); 4] = [
        (|pair| pair.mux.drop_writer(1), vec![reset(1, Status::CANCEL)]),
        (|pair| pair.mux.drop_reader(1), vec![]),
        (
            |pair| {
                pair.mux.drop_reader(1);
                pair.mux.drop_writer(1);
            },
            vec![reset(1, Status::CANCEL)],
        ),
        (
            |pair| {
                assert_eq!(pair.data(1, true, b""), DONE);
                pair.mux.finish(1);
                pair.mux.drop_writer(1);
                pair.mux.drop_reader(1);
            },
            vec![Frame::Data { id: 1, fin: true, payload: Bytes::new() }],
        ),
    ];
    for (drop, expected) in drops {
        let mut pair = Pair::new();
        pair.open(1);
        drop(&mut pair);
        assert_eq!(pair.sent(), expected);
    }
}

#[test]
fn a_half_closed_stream_is_cancelled_when_its_reader_is_dropped_too() {
    let mut pair = Pair::new();
    pair.open(1);
    pair.mux.finish(1);
    pair.mux.drop_writer(1);
    assert_eq!(pair.sent(), [Frame::Data { id: 1, fin: true, payload: Bytes::new() }]);
    assert_eq!(pair.data(1, false, b"still read"), DONE);
    assert!(matches!(pair.read(1), Poll::Ready(Ok(Some(_)))));
    pair.mux.drop_reader(1);
    assert_eq!(pair.sent(), [reset(1, Status::CANCEL)]);
    assert!(pair.mux.streams.is_empty());
}

#[test]
fn a_refused_stream_is_reset_and_what_still_comes_is_dropped() {
    let mut pair = Pair::new();
    pair.syn(1).unwrap();
    pair.mux.refuse(1);
    assert_eq!(pair.sent(), [reset(1, Status::REFUSED_STREAM)]);
    assert_eq!(pair.data(1, false, b"on its way"), DONE);
    assert!(pair.sent().is_empty());
}

#[test]
fn a_reset_stream_is_read_to_its_last_byte_and_its_sibling_lives() {
    let mut pair = Pair::new();
    pair.open(1);
    pair.open(3);
    assert_eq!(pair.data(1, false, b"last"), DONE);
    pair.mux.receive(reset(1, Status::CANCEL)).unwrap();
    assert!(matches!(pair.read(1), Poll::Ready(Ok(Some(_)))));
    assert!(matches!(pair.read(1), Poll::Ready(Err(Error::Reset(Status::CANCEL)))));
    assert!(matches!(pair.write(1, b"x"), Poll::Ready(Err(Error::Reset(_)))));
    assert!(matches!(pair.mux.poll_over(&context(), 1), Poll::Ready(Error::Reset(_))));
    pair.mux.drop_reader(1);
    pair.mux.drop_writer(1);
    assert!(pair.sent().is_empty(), "a reset is not answered");
    assert!(pair.mux.poll_over(&context(), 3).is_pending());
    assert!(pair.write(3, b"x").is_ready());
}

#[test]
fn a_stream_id_that_comes_twice_resets_its_stream() {
    let mut pair = Pair::new();
    pair.open(1);
    pair.open(3);
    pair.syn(1).unwrap();
    assert_eq!(pair.sent(), [reset(1, Status::PROTOCOL_ERROR)]);
    assert!(matches!(pair.read(1), Poll::Ready(Err(_))));
    assert!(pair.read(3).is_pending());
}

#[test]
fn an_id_that_is_even_zero_or_goes_back_ends_the_session() {
    for id in [0, 2, 5] {
        let mut pair = Pair::new();
        pair.open(5);
        pair.mux.refuse(5);
        assert_eq!(pair.syn(id), Err(Violation::StreamId(id)));
    }
    let mut pair = Pair::new();
    pair.open(0x7FFF_FFFF);
    assert_eq!(pair.syn(1), Err(Violation::StreamId(1)));
}

#[test]
fn data_for_a_stream_that_never_was_is_answered_by_a_reset() {
    let mut pair = Pair::new();
    for id in [0, 2, 7] {
        assert_eq!(pair.data(id, false, b"x"), DONE);
        assert_eq!(pair.sent(), [reset(id, Status::INVALID_STREAM)]);
    }
}

#[test]
fn data_after_fin_resets_the_stream() {
    let mut pair = Pair::new();
    pair.open(1);
    assert_eq!(pair.data(1, true, b""), DONE);
    assert_eq!(pair.data(1, false, b"more"), DONE);
    assert_eq!(pair.sent(), [reset(1, Status::STREAM_ALREADY_CLOSED)]);
}

#[test]
fn headers_and_syn_can_carry_fin_and_later_blocks_are_still_read() {
    let mut pair = Pair::new();
    let block = pair.peer.block(&[("a", "b")]);
    pair.mux.receive(Frame::SynStream { id: 1, fin: true, unidirectional: false, block }).unwrap();
    assert!(matches!(pair.read(1), Poll::Ready(Ok(None))));
    pair.mux.arrivals.clear();
    pair.open(3);
    let block = pair.peer.block(&[("c", "d")]);
    pair.mux.receive(Frame::Headers { id: 3, fin: true, block }).unwrap();
    assert!(matches!(pair.read(3), Poll::Ready(Ok(None))));
    pair.open(5);
}

#[test]
fn what_can_t_be_a_stream_is_reset_and_the_session_lives() {
    let mut pair = Pair::new();
    let block = pair.peer.block(&[("Upper", "case")]);
    pair.mux.receive(Frame::SynStream { id: 1, fin: false, unidirectional: false, block }).unwrap();
    let block = pair.peer.block(&[]);
    pair.mux.receive(Frame::SynStream { id: 3, fin: false, unidirectional: true, block }).unwrap();
    let block = pair.peer.block(&[]);
    pair.mux.receive(Frame::SynReply { id: 2, fin: false, block }).unwrap();
    let expected = [(1, Status::PROTOCOL_ERROR), (3, Status::PROTOCOL_ERROR), (2, Status::INVALID_STREAM)];
    assert_eq!(pair.sent(), expected.map(|(id, status)| reset(id, status)));
    assert!(pair.mux.poll_accept(&context()).is_pending());
    pair.open(5);
}

#[test]
fn odd_pings_are_echoed_and_even_ones_are_not() {
    let mut pair = Pair::new();
    pair.mux.receive(Frame::Ping { id: 7 }).unwrap();
    pair.mux.receive(Frame::Ping { id: 2 }).unwrap();
    assert_eq!(pair.sent(), [Frame::Ping { id: 7 }]);
    pair.mux.ping();
    assert_eq!(pair.sent(), [Frame::Ping { id: 2 }]);
}

#[test]
fn we_ask_once_however_long_nothing_can_be_sent() {
    let mut pair = Pair::new();
    pair.open(1);
    // as many seconds as there are in three hours
    (0..3 * 3600).for_each(|_| pair.mux.ping());
    assert_eq!(pair.data(1, false, b"x"), DONE);
    assert_eq!(pair.mux.receive(Frame::Ping { id: 1 }), Ok(()));
    assert_eq!(pair.sent(), [Frame::Ping { id: 2 }, Frame::Ping { id: 1 }]);
}

#[test]
fn pings_whose_echoes_are_not_read_end_the_session() {
    let mut pair = Pair::new();
    let ended = (0..MAX_CONTROL).find_map(|_| pair.mux.receive(Frame::Ping { id: 1 }).err());
    assert_eq!(ended, Some(Violation::Flood));
}

#[test]
fn more_streams_than_there_may_be_are_refused_until_one_is_gone() {
    let mut pair = Pair::new();
    let ids = || (1u32..).step_by(2);
    ids().take(MAX_STREAMS).for_each(|id| pair.syn(id).unwrap());
    let mut more = ids().skip(MAX_STREAMS);
    let refused = more.next().unwrap();
    pair.syn(refused).unwrap();
    assert_eq!(pair.sent(), [reset(refused, Status::REFUSED_STREAM)]);
    pair.mux.refuse(1);
    pair.sent();
    pair.syn(more.next().unwrap()).unwrap();
    assert!(pair.sent().is_empty());
}

#[test]
fn after_goaway_the_session_lives_as_long_as_its_last_stream() {
    let mut pair = Pair::new();
    pair.open(1);
    pair.mux.receive(Frame::GoAway { last: 0, status: 0 }).unwrap();
    assert!(pair.mux.ended().is_none());
    pair.mux.drop_reader(1);
    pair.mux.drop_writer(1);
    assert!(matches!(pair.mux.ended(), Some(Error::Closed)));
    assert_eq!(pair.sent(), [reset(1, Status::CANCEL), Frame::GoAway { last: 1, status: 0 }]);
    assert!(matches!(pair.mux.poll_batch(&context()), Poll::Ready(None)));
}

#[test]
fn the_end_tells_the_peer_and_everyone_who_waits() {
    let cases = [
        (Error::Ended, vec![reset(1, Status::CANCEL), Frame::GoAway { last: 1, status: 0 }]),
        (Error::Violation(Violation::Flood), vec![Frame::GoAway { last: 1, status: 1 }]),
    ];
    for (error, expected) in cases {
        let mut pair = Pair::new();
        pair.open(1);
        pair.mux.end(error);
        pair.mux.end(Error::Closed);
        assert_eq!(pair.sent(), expected);
        assert!(!matches!(pair.mux.ended(), Some(Error::Closed)), "the first reason stays");
        assert!(matches!(pair.mux.poll_accept(&context()), Poll::Ready(Err(_))));
        assert!(matches!(pair.read(1), Poll::Ready(Err(_))));
        assert!(matches!(pair.write(1, b"x"), Poll::Ready(Err(_))));
        assert_eq!(pair.data(1, false, b"x"), DONE);
    }
}

/// What either side can do to one of a few streams.
fn any_step() -> impl Strategy<Value = (u8, u32, usize)> {
    (0u8..14, 0u32..12, prop_oneof![0usize..200, 30_000usize..70_000])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_sequence_stays_within_bounds_and_leaves_nothing_behind(
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let mut pair = Pair::new();
        for (step, id, size) in steps {
            let payload = Bytes::from(vec![7; size]);
            let block = pair.peer.block(&[("n", "v")]);
            let fin = size % 2 == 1;
            let received = match step {
                0..3 => pair.mux.receive(Frame::SynStream { id, fin, unidirectional: size == 4, block }),
                3 => pair.mux.receive(Frame::Headers { id, fin, block }),
                4 => pair.mux.receive(Frame::Reset { id, status: Status(5) }),
                _ => Ok(()),
            };
            match step {
                5..7 => drop(pair.mux.poll_data(&context(), &(id, fin, payload))),
                7..9 => drop(pair.mux.poll_write(&context(), id, &mut payload.clone())),
                9 => drop(pair.mux.poll_read(&context(), id)),
                10 => pair.mux.finish(id),
                11 => pair.mux.drop_reader(id),
                12 => pair.mux.drop_writer(id),
                13 => drop(pair.mux.poll_batch(&context())),
                _ => {}
            }
            if let Err(violation) = received {
                pair.mux.end(Error::Violation(violation));
            }
            let queued = pair.mux.streams.values().map(|entry| entry.queued).max();
            prop_assert!(queued.is_none_or(|queued| queued < HIGH + MAX_PAYLOAD + 512), "{:?}", queued);
        }
        let ids: Vec<u32> = pair.mux.streams.keys().copied().collect();
        for id in ids {
            pair.mux.drop_writer(id);
            pair.mux.drop_reader(id);
        }
        pair.sent();
        prop_assert!(pair.mux.streams.is_empty());
        prop_assert_eq!(pair.mux.outbox.control(), 0);
    }
}
