//! A SPDY client that is only bytes, and a server's session that reads them: what the SPDY targets share.

use std::time::Duration;

use dockershim::stream::spdy::Session;
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, spawn, yield_now};
use tokio::time::timeout;

/// Nothing that a client says may keep a session longer than that once the client has gone.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A runtime of one input's own.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A connection to a session.
pub struct Client {
    to: tokio::io::WriteHalf<DuplexStream>,
    /// What the server sends.
    from: JoinHandle<Vec<u8>>,
    zlib: Compress,
}

impl Client {
    /// Both ends.
    pub fn connect() -> (Client, Session) {
        let (ours, theirs) = duplex(1 << 20);
        let (mut from, to) = split(ours);
        let from = spawn(async move {
            let mut all = Vec::new();
            from.read_to_end(&mut all).await.unwrap();
            all
        });
        let (reader, writer) = split(theirs);
        let session = Session::serve(reader, writer, LIMIT);
        (Client { to, from, zlib: Compress::new(Compression::fast(), true) }, session)
    }

    /// Sends bytes, and lets the session take them in. A session that has ended takes none.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.to.write_all(bytes).await;
        settle().await;
    }

    /// A header block of this plain text, as the next one of the session.
    pub fn block(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() + 1024);
        self.zlib.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    /// Goes; everything that the server has sent.
    pub async fn leave(mut self) -> Vec<u8> {
        let _ = self.to.shutdown().await;
        timeout(LIMIT, self.from).await.expect("the session outlives its client").unwrap()
    }
}

/// Lets all others go on.
pub async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

/// A control frame.
pub fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x80, 3][..], &kind.to_be_bytes(), &[flags], &length[1..], body].concat()
}

/// SYN_STREAM.
pub fn open(id: u32, block: &[u8]) -> Vec<u8> {
    control(1, 0, &[&id.to_be_bytes()[..], &[0; 6], block].concat())
}

/// A data frame.
pub fn data(id: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&id.to_be_bytes()[..], &[flags], &length[1..], payload].concat()
}

/// Headers before compression.
pub fn plain(headers: &[(&str, &str)]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    let mut plain = number(headers.len()).to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        plain.extend(number(text.len()));
        plain.extend(text.as_bytes());
    }
    plain
}

/// Frames that the server has sent, the last of which may be cut off: control frames as (type, flags, body), data frames as
/// (None, flags, stream and payload).
pub fn frames(mut bytes: &[u8]) -> Vec<(Option<u16>, u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let length = usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]])).unwrap();
        let Some((body, rest)) = rest.split_at_checked(length) else { break };
        bytes = rest;
        if head[0] & 0x80 == 0 {
            frames.push((None, head[4], [&head[..4], body].concat()));
        } else {
            assert_eq!(head[..2], [0x80, 3]);
            frames.push((Some(u16::from_be_bytes([head[2], head[3]])), head[4], body.to_vec()));
        }
    }
    frames
}
