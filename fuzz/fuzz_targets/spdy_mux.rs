//! Streams under any sequence of what either side does to them. The model is what was sent: all of it comes, in order, unless
//! somebody broke the stream off; then a part comes, and still in order.
//!
//! Each byte is an act, so a corpus is small and easily read.
#![no_main]

#[path = "../spdy/mod.rs"]
mod spdy;

use dockershim::stream::spdy::{Reader, Session, Writer};
use libfuzzer_sys::fuzz_target;
use spdy::{Client, control, data, frames, open, plain, runtime, settle};
use tokio::time::timeout;

/// More would fill an inbox, and stall as it should.
const MOST_ACTS: usize = 200;
const STREAMS: usize = 4;

fuzz_target!(|acts: &[u8]| {
    runtime().block_on(play(&acts[..acts.len().min(MOST_ACTS)]));
});

/// A stream as both sides know it.
struct Stream {
    id: u32,
    reader: Option<Reader>,
    writer: Option<Writer>,
    /// The client's bytes, and whether it has ended them.
    up: Vec<u8>,
    up_ended: bool,
    read: Vec<u8>,
    down: Vec<u8>,
    down_ended: bool,
    /// Broken off by somebody.
    broken: bool,
    /// The server has dropped its reader: what comes is dropped.
    deaf: bool,
}

struct World {
    client: Client,
    session: Session,
    streams: Vec<Stream>,
    block: Vec<u8>,
    /// The client broke the protocol.
    over: bool,
}

async fn play(acts: &[u8]) {
    let (client, session) = Client::connect();
    let block = plain(&[("streamtype", "data")]);
    let mut world = World { client, session, streams: Vec::new(), block, over: false };
    for act in acts {
        let at = usize::from(act / 16) % STREAMS;
        if world.over {
            break;
        }
        match world.streams.len() > at {
            true => world.act(act % 16, at).await,
            false => world.open().await,
        }
    }
    world.end().await;
}

impl World {
    async fn open(&mut self) {
        let id = u32::try_from(self.streams.len() * 2 + 1).unwrap();
        let block = self.client.block(&self.block);
        self.client.send(&open(id, &block)).await;
        let incoming = self.session.accept().await.unwrap();
        assert_eq!((incoming.id(), incoming.headers().get("streamtype")), (id, Some("data")));
        let (reader, writer) = incoming.reply();
        self.streams.push(Stream {
            id,
            reader: Some(reader),
            writer: Some(writer),
            up: Vec::new(),
            up_ended: false,
            read: Vec::new(),
            down: Vec::new(),
            down_ended: false,
            broken: false,
            deaf: false,
        });
    }

    async fn act(&mut self, act: u8, at: usize) {
        let stream = &mut self.streams[at];
        let (id, payload) = (stream.id, vec![u8::try_from(stream.up.len() % 251).unwrap(); 37 * usize::from(act)]);
        match act {
            0..=3 => {
                self.client.send(&data(id, 0, &payload)).await;
                match stream.up_ended {
                    // after its end it breaks the stream
                    true => stream.broken = true,
                    false => stream.up.extend(payload),
                }
            }
            4 => {
                self.client.send(&data(id, 1, b"")).await;
                stream.broken |= stream.up_ended;
                stream.up_ended = true;
            }
            5 => {
                self.client.send(&control(3, 0, &[id.to_be_bytes(), 5u32.to_be_bytes()].concat())).await;
                stream.broken = true;
            }
            6 => self.client.send(&control(6, 0, &1u32.to_be_bytes())).await,
            7 => self.client.send(&control(4, 0, &[0; 4])).await,
            8 | 9 => stream.read_some().await,
            10 | 11 => {
                if let Some(writer) = &mut stream.writer
                    && writer.write(payload.clone().into()).await.is_ok()
                {
                    stream.down.extend(payload);
                }
            }
            12 => {
                if let Some(writer) = stream.writer.take() {
                    writer.finish();
                    stream.down_ended = true;
                }
            }
            13 => {
                stream.broken |= stream.writer.take().is_some();
            }
            14 => {
                stream.reader = None;
                stream.deaf = true;
            }
            // a stream with the number of one that is known
            _ => {
                let block = self.client.block(&self.block);
                self.client.send(&open(id, &block)).await;
                stream.broken = true;
                if stream.reader.is_none() && stream.writer.is_none() {
                    // the server knows it no more: its number is used up, which ends the session
                    self.streams.iter_mut().for_each(|stream| stream.broken = true);
                    self.over = true;
                }
            }
        }
        settle().await;
    }

    async fn end(self) {
        let World { client, session, mut streams, .. } = self;
        let sent = frames(&client.leave().await);
        for stream in &mut streams {
            stream.read_some().await;
            assert!(stream.up.starts_with(&stream.read), "stream {}: other bytes than were sent", stream.id);
            assert!(
                stream.broken || stream.deaf || stream.read == stream.up,
                "stream {}: bytes are missing",
                stream.id
            );
            let payloads = sent.iter().filter(|(kind, _, body)| kind.is_none() && body[..4] == stream.id.to_be_bytes());
            let down: Vec<u8> = payloads.clone().flat_map(|(_, _, body)| body[4..].to_vec()).collect();
            assert!(stream.down.starts_with(&down), "stream {}: other bytes than were written", stream.id);
            assert!(stream.broken || down == stream.down, "stream {}: written bytes are missing", stream.id);
            let ended = payloads.last().is_some_and(|(_, flags, _)| flags & 1 == 1);
            assert!(stream.broken || stream.deaf || ended == stream.down_ended, "stream {}: its end", stream.id);
        }
        drop(session);
    }
}

impl Stream {
    /// Reads what is there.
    async fn read_some(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        while let Ok(Ok(Some(bytes))) = timeout(std::time::Duration::ZERO, reader.read()).await {
            self.read.extend(bytes);
        }
    }
}
