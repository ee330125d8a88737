//! Sessions against a peer in this process, over a pipe or a socket.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::net::{TcpListener, TcpStream};

use super::super::frame::{Frame, Parser, Status, Violation};
use super::super::header::testing::Peer;
use super::*;

const IDLE: Duration = Duration::from_secs(3600);

/// What the client reads.
struct FromServer<R> {
    io: R,
    parser: Parser,
    input: BytesMut,
}

impl<R: AsyncRead + Unpin> FromServer<R> {
    fn new(io: R) -> Self {
        FromServer { io, parser: Parser::default(), input: BytesMut::new() }
    }

    /// The next frame or piece; None when the connection is closed.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parser.next(&mut self.input).unwrap() {
                return Some(frame);
            }
            self.input.reserve(BUFFER);
            if self.io.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// What the client writes.
struct ToServer<W> {
    io: W,
    peer: Peer,
}

impl<W: AsyncWrite + Unpin> ToServer<W> {
    fn new(io: W) -> Self {
        ToServer { io, peer: Peer::new() }
    }

    async fn send(&mut self, frame: Frame) {
        let mut wire = BytesMut::new();
        frame.write(&mut wire);
        self.io.write_all(&wire).await.unwrap();
    }

    async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let block = self.peer.block(headers);
        self.send(Frame::SynStream { id, fin: false, unidirectional: false, block }).await;
    }

    async fn data(&mut self, id: u32, fin: bool, payload: impl Into<Bytes>) {
        self.send(Frame::Data { id, fin, payload: payload.into() }).await;
    }
}

type Client = (FromServer<ReadHalf<DuplexStream>>, ToServer<WriteHalf<DuplexStream>>);

fn session(idle: Duration) -> (Session, Client) {
    let (ours, theirs) = duplex(64 << 10);
    let (reader, writer) = split(ours);
    let (read, write) = split(theirs);
    (Session::serve(reader, writer, idle), (FromServer::new(read), ToServer::new(write)))
}

/// A session with one stream, number 1, accepted on both sides.
async fn open() -> (Session, (Reader, Writer), Client) {
    let (mut session, (mut incoming, mut outgoing)) = session(IDLE);
    outgoing.open(1, &[("streamtype", "data")]).await;
    let stream = session.accept().await.unwrap().reply();
    assert!(matches!(incoming.next().await, Some(Frame::SynReply { id: 1, .. })));
    (session, stream, (incoming, outgoing))
}

/// Reads until FIN.
async fn read_all(reader: &mut Reader) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.read().await? {
        all.extend(bytes);
    }
    Ok(all)
}

/// Sends a stream's bytes back to it.
async fn echo((mut reader, mut writer): (Reader, Writer)) -> Result<(), Error> {
    while let Some(bytes) = reader.read().await? {
        writer.write(bytes).await?;
    }
    writer.finish();
    Ok(())
}

#[tokio::test]
async fn a_stream_is_closed_one_half_at_a_time() {
    let (_session, (mut reader, mut writer), (mut incoming, mut outgoing)) = open().await;
    outgoing.data(1, true, "all of the input").await;
    assert_eq!(read_all(&mut reader).await.unwrap(), b"all of the input");
    writer.write("output after the input's end".into()).await.unwrap();
    writer.finish();
    let data = |fin, payload| Some(Frame::Data { id: 1, fin, payload: Bytes::from_static(payload) });
    assert_eq!(incoming.next().await, data(false, b"output after the input's end"));
    assert_eq!(incoming.next().await, data(true, b""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_echo_at_once() {
    const STREAMS: u32 = 50;
    const EACH: usize = 300_000;
    let (mut session, (mut incoming, mut outgoing)) = session(IDLE);
    let serving = tokio::spawn(async move {
        while let Ok(incoming) = session.accept().await {
            tokio::spawn(echo(incoming.reply()));
        }
    });
    let ids: Vec<u32> = (0..STREAMS).map(|number| 2 * number + 1).collect();
    let byte = |id: u32| u8::try_from(id).unwrap();
    let sending = ids.clone();
    tokio::spawn(async move {
        for id in &sending {
            outgoing.open(*id, &[]).await;
        }
        for part in 0..10 {
            for id in &sending {
                outgoing.data(*id, part == 9, vec![byte(*id); EACH / 10]).await;
            }
        }
        outgoing
    });
    let (mut got, mut ended) = (vec![0usize; 100], 0);
    while ended < STREAMS {
        match incoming.next().await.expect("the session lives") {
            Frame::Data { id, fin, payload } => {
                assert!(payload.iter().all(|got| *got == byte(id)), "streams don't mix");
                got[usize::try_from(id).unwrap()] += payload.len();
                ended += u32::from(fin);
            }
            Frame::SynReply { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(ids.iter().all(|id| got[usize::try_from(*id).unwrap()] == EACH));
    drop(incoming);
    serving.abort();
}

#[tokio::test]
async fn the_reset_of_one_stream_leaves_its_sibling_alone() {
    let (mut session, (mut reader, writer), (mut incoming, mut outgoing)) = open().await;
    outgoing.open(3, &[]).await;
    let (mut sibling, mut answer) = session.accept().await.unwrap().reply();
    outgoing.send(Frame::Reset { id: 1, status: Status::CANCEL }).await;
    assert!(matches!(reader.read().await, Err(Error::Reset(Status::CANCEL))));
    assert!(matches!(writer.closed().await, Error::Reset(Status::CANCEL)));
    outgoing.data(1, false, "too late").await;
    outgoing.data(3, true, "hello").await;
    assert_eq!(read_all(&mut sibling).await.unwrap(), b"hello");
    answer.write("hi".into()).await.unwrap();
    assert!(matches!(incoming.next().await, Some(Frame::SynReply { id: 3, .. })));
    assert!(matches!(incoming.next().await, Some(Frame::Data { id: 3, .. })));
}

#[tokio::test]
async fn a_stalled_reader_stops_the_peer_and_its_drop_lets_the_siblings_go_on() {
    let (mut session, (reader, _writer), (_incoming, mut outgoing)) = open().await;
    outgoing.open(3, &[]).await;
    let (mut sibling, _answer) = session.accept().await.unwrap().reply();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        for _ in 0..2000 {
            outgoing.data(1, false, vec![7; 1000]).await;
            counted.fetch_add(1000, Ordering::Relaxed);
        }
        outgoing.data(3, true, "through").await;
        outgoing
    });
    assert!(timeout(Duration::from_millis(300), sibling.read()).await.is_err());
    let taken = sent.load(Ordering::Relaxed);
    // The inbox, the buffer of a read, the pipe.
    assert!(taken <= 3 * (64 << 10), "{taken} bytes were taken from the peer");
    drop(reader);
    assert_eq!(read_all(&mut sibling).await.unwrap(), b"through");
}

#[tokio::test]
async fn a_writer_waits_for_a_peer_that_does_not_read() {
    let (_session, (_reader, mut writer), (mut incoming, _outgoing)) = open().await;
    let mut sent = 0;
    while let Ok(outcome) = timeout(Duration::from_millis(200), writer.write(vec![7; 10_000].into())).await {
        outcome.unwrap();
        sent += 10_000;
    }
    assert!(sent < (128 << 10) + (128 << 10) + (64 << 10) + (64 << 10), "{sent} bytes were queued");
    assert!(incoming.next().await.is_some());
    sleep(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn dropping_the_session_ends_everything() {
    let (session, (mut reader, mut writer), (mut incoming, outgoing)) = open().await;
    let shared = Arc::downgrade(&session.shared);
    drop(session);
    assert!(matches!(reader.read().await, Err(Error::Ended)));
    assert!(matches!(writer.write("x".into()).await, Err(Error::Ended)));
    assert_eq!(incoming.next().await, Some(Frame::Reset { id: 1, status: Status::CANCEL }));
    assert_eq!(incoming.next().await, Some(Frame::GoAway { last: 1, status: 0 }));
    assert_eq!(incoming.next().await, None);
    drop((reader, writer, incoming, outgoing));
    while shared.strong_count() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_peer_that_neither_reads_nor_leaves_does_not_keep_a_dropped_session() {
    let (session, (reader, mut writer), client) = open().await;
    let shared = Arc::downgrade(&session.shared);
    while timeout(Duration::from_millis(200), writer.write(vec![7; 10_000].into())).await.is_ok() {}
    drop((session, reader, writer));
    sleep(GRACE + Duration::from_millis(500)).await;
    assert_eq!(shared.strong_count(), 0);
    drop(client);
}

#[tokio::test]
async fn close_waits_for_a_slow_peer_to_take_what_was_written() {
    let (session, (_reader, mut writer), (mut incoming, _outgoing)) = open().await;
    writer.write(vec![7; 120_000].into()).await.unwrap();
    writer.finish();
    let closing = tokio::spawn(session.close());
    sleep(GRACE + Duration::from_millis(500)).await;
    assert!(!closing.is_finished());
    let (mut got, mut ended) = (0, false);
    while let Some(frame) = incoming.next().await {
        match frame {
            Frame::Data { payload, fin, .. } => {
                got += payload.len();
                ended |= fin;
            }
            Frame::Reset { id: 1, .. } | Frame::GoAway { .. } => assert!(ended),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, 120_000);
    closing.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_leaves_ends_the_streams_after_what_it_sent() {
    let (mut session, (mut reader, writer), (incoming, mut outgoing)) = open().await;
    outgoing.data(1, false, "last words").await;
    drop((incoming, outgoing));
    assert!(matches!(session.accept().await, Err(Error::Closed)));
    assert_eq!(reader.read().await.unwrap().unwrap(), "last words");
    assert!(matches!(reader.read().await, Err(Error::Closed)));
    assert!(matches!(writer.closed().await, Error::Closed));
}

#[tokio::test]
async fn a_violation_is_told_by_goaway_and_closes_the_connection() {
    let (mut session, (_reader, _writer), (mut incoming, mut outgoing)) = open().await;
    outgoing.io.write_all(b"\x80\x02\x00\x01\x00\x00\x00\x0c").await.unwrap();
    assert!(matches!(session.accept().await, Err(Error::Violation(Violation::Version(2)))));
    assert_eq!(incoming.next().await, Some(Frame::GoAway { last: 1, status: 1 }));
    assert_eq!(incoming.next().await, None);
}

#[tokio::test]
async fn an_idle_session_ends_and_any_frame_keeps_it() {
    let (mut session, (mut incoming, mut outgoing)) = session(Duration::from_millis(600));
    for _ in 0..5 {
        sleep(Duration::from_millis(300)).await;
        outgoing.send(Frame::Ping { id: 1 }).await;
        assert_eq!(incoming.next().await, Some(Frame::Ping { id: 1 }));
    }
    let begun = Instant::now();
    assert!(matches!(session.accept().await, Err(Error::Idle(_))));
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(incoming.next().await, Some(Frame::GoAway { last: 0, status: 0 }));
}

#[tokio::test]
async fn a_peer_that_goes_away_is_noticed_while_an_inbox_is_full() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (reader, writer) = listener.accept().await.unwrap().0.into_split();
    let mut session = Session::serve(reader, writer, IDLE);
    let (read, write) = client.into_split();
    let mut outgoing = ToServer::new(write);
    outgoing.open(1, &[]).await;
    let _stream = session.accept().await.unwrap().reply();
    while timeout(Duration::from_millis(100), outgoing.data(1, false, vec![7; 60_000])).await.is_ok() {}
    drop((read, outgoing));
    let ended = timeout(Duration::from_secs(10), session.accept()).await;
    assert!(matches!(ended, Ok(Err(Error::Connection(_)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_leave_nothing_behind() {
    let (mut session, (mut incoming, mut outgoing)) = session(IDLE);
    let shared = Arc::clone(&session.shared);
    tokio::spawn(async move {
        while let Ok(incoming) = session.accept().await {
            tokio::spawn(echo(incoming.reply()));
        }
    });
    tokio::spawn(async move {
        for number in 0..10_000 {
            outgoing.open(2 * number + 1, &[("requestid", &number.to_string())]).await;
            outgoing.data(2 * number + 1, true, "ping").await;
        }
        outgoing
    });
    let (mut ended, mut refused) = (0, 0);
    while ended + refused < 10_000 {
        match incoming.next().await.unwrap() {
            Frame::Data { fin: true, .. } => ended += 1,
            Frame::Reset { status: Status::REFUSED_STREAM, .. } => refused += 1,
            _ => {}
        }
    }
    assert_eq!(refused, 0);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(shared.mux().streams(), 0);
}

/// Frames that were recorded, or are to be compared with them.
async fn frames(wire: impl AsyncRead + Unpin) -> Vec<Frame> {
    let (mut from, mut frames) = (FromServer::new(wire), Vec::new());
    while let Some(frame) = from.next().await {
        frames.push(frame);
    }
    frames
}

/// What each stream was sent, and whether it was ended.
fn data_by_stream(frames: &[Frame]) -> BTreeMap<u32, (Vec<u8>, bool)> {
    let mut streams: BTreeMap<u32, (Vec<u8>, bool)> = BTreeMap::new();
    for frame in frames {
        if let Frame::Data { id, fin, payload } = frame {
            let (data, ended) = streams.entry(*id).or_default();
            data.extend(payload);
            *ended |= fin;
        }
    }
    streams
}

/// A server that treats a stream as its type says.
async fn serve_by_type(mut session: Session) {
    let mut running = tokio::task::JoinSet::new();
    while let Ok(incoming) = session.accept().await {
        match incoming.headers().get("streamtype").unwrap().to_owned().as_str() {
            "quit" => break,
            "refused" => {}
            "stdout" => {
                let (_reader, mut writer) = incoming.reply();
                writer.write("output\n".into()).await.unwrap();
                writer.finish();
            }
            _ => drop(running.spawn(echo(incoming.reply()))),
        }
    }
    while running.join_next().await.is_some() {}
    session.close().await;
}

#[tokio::test]
async fn the_recorded_client_gets_the_recorded_answers() {
    // spdy-transport 3.0.0 of npm, up to its last stream: settings, a ping, echoes, an output, a refusal, a cancellation.
    let client = include_bytes!("../../../../tests/fixtures/spdy/npm-client.bin");
    let server = include_bytes!("../../../../tests/fixtures/spdy/npm-server.bin");
    for cut in [1, 7, 100, client.len()] {
        let (session, (incoming, mut outgoing)) = session(IDLE);
        tokio::spawn(serve_by_type(session));
        let sending = tokio::spawn(async move {
            for piece in client.chunks(cut) {
                outgoing.io.write_all(piece).await.unwrap();
            }
            outgoing
        });
        let (answered, recorded) = (frames(incoming.io).await, frames(&server[..]).await);
        assert!(data_by_stream(&answered) == data_by_stream(&recorded), "pieces of {cut} bytes");
        assert_eq!(data_by_stream(&answered).len(), 6);
        assert!(answered.contains(&Frame::Ping { id: 1 }));
        assert!(matches!(answered.last(), Some(Frame::GoAway { status: 0, .. })));
        drop(sending.await.unwrap());
    }
}
