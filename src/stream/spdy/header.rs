//! Header blocks: names and values under zlib, with one context for each direction of a session; pure. What a header means
//! is for those who opened the stream.
//!
//! ```text
//! block = zlib with the dictionary, flushed after each block ─▶ count(32), then each: length(32) name · length(32) value
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress};

use super::dictionary::DICTIONARY;
use super::frame::Violation;

/// What a block may inflate to, which bounds every field in it.
const MAX_BLOCK: usize = 1 << 20;

/// Names in one block.
const MAX_HEADERS: u32 = 1000;

/// How much room is made for inflated bytes at a time, and kept between blocks.
const STEP: usize = 4096;

/// Headers of a stream: lower-case names, each with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(
    /// Several values of a name are joined by NUL.
    BTreeMap<String, String>,
);

impl Headers {
    /// The value of a header, the first if it has several; `name` is lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.split('\0').next()
    }

    /// Reads an inflated block; None if it is not one, or one that the specification forbids.
    fn from_plain(mut plain: &[u8]) -> Option<Headers> {
        let count = plain.try_get_u32().ok()?;
        if count > MAX_HEADERS {
            return None;
        }
        let mut headers = BTreeMap::new();
        for _ in 0..count {
            let (name, value) = (field(&mut plain)?, field(&mut plain)?);
            let forbidden = name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase());
            if forbidden || headers.insert(name, value).is_some() {
                return None;
            }
        }
        plain.is_empty().then_some(Headers(headers))
    }
}

/// A string with its length in front.
fn field(plain: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(plain.try_get_u32().ok()?).ok()?;
    let (text, rest) = plain.split_at_checked(length)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// Reads the blocks of one direction, each in its turn: skipping one would garble those after it.
pub(super) struct Inflater {
    zlib: Decompress,
    plain: Vec<u8>,
}

impl Inflater {
    /// At the beginning of a session.
    pub(super) fn new() -> Self {
        Inflater { zlib: Decompress::new(true), plain: Vec::new() }
    }

    /// The headers in `block`; None if only this stream is in error, a violation if no later block can be read.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Option<Headers>, Violation> {
        let inflated = self.inflate(block);
        let headers = inflated.map(|()| Headers::from_plain(&self.plain));
        self.plain.clear();
        self.plain.shrink_to(STEP);
        headers
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<(), Violation> {
        loop {
            if self.plain.len() == self.plain.capacity() {
                self.plain.reserve_exact(STEP);
            }
            let (read, written) = (self.zlib.total_in(), self.plain.len());
            let outcome = self.zlib.decompress_vec(block, &mut self.plain, FlushDecompress::Sync);
            let read = usize::try_from(self.zlib.total_in() - read).unwrap_or(usize::MAX);
            block = block.get(read..).ok_or(Violation::Compression)?;
            if self.plain.len() > MAX_BLOCK {
                return Err(Violation::Bomb(MAX_BLOCK));
            }
            match outcome {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&DICTIONARY).map_err(|_| Violation::Compression)?;
                }
                // The context lives as long as the session: an end of its stream is an error, too.
                Err(_) | Ok(flate2::Status::StreamEnd) => return Err(Violation::Compression),
                Ok(_) if self.plain.len() == self.plain.capacity() => {}
                Ok(_) if block.is_empty() => return Ok(()),
                Ok(_) if read == 0 && self.plain.len() == written => return Err(Violation::Compression),
                Ok(_) => {}
            }
        }
    }
}

/// Writes the blocks of our direction. Replies carry no headers, so the context never has anything to compress: its blocks
/// are stored ones, which spares each session a compressor's quarter of a mebibyte.
#[derive(Debug, Default)]
pub(super) struct Deflater {
    begun: bool,
}

/// The head of a zlib stream: deflate with a 32 KiB window and a dictionary, whose Adler-32 follows.
const ZLIB_HEAD: [u8; 6] = [0x78, 0x20, 0xE3, 0xC6, 0xA7, 0xC2];

/// A stored block with a count of no headers, then the empty stored block by which zlib marks a flush.
const NO_HEADERS: [u8; 14] = [0, 4, 0, 0xFB, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];

impl Deflater {
    /// The next block; it has no headers.
    pub(super) fn empty_block(&mut self) -> Bytes {
        if std::mem::replace(&mut self.begun, true) {
            return Bytes::from_static(&NO_HEADERS);
        }
        Bytes::from([ZLIB_HEAD.as_slice(), &NO_HEADERS].concat())
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! The peer's side of header compression.

    use bytes::{BufMut, BytesMut};
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// Writes blocks as the peers do.
    pub(in crate::stream::spdy) struct Peer {
        zlib: Compress,
    }

    impl Peer {
        pub(in crate::stream::spdy) fn new() -> Self {
            let mut zlib = Compress::new(Compression::best(), true);
            zlib.set_dictionary(&DICTIONARY).unwrap();
            Peer { zlib }
        }

        pub(in crate::stream::spdy) fn block(&mut self, headers: &[(&str, &str)]) -> Bytes {
            self.compressed(&plain(headers))
        }

        pub(in crate::stream::spdy) fn compressed(&mut self, mut plain: &[u8]) -> Bytes {
            let mut out = Vec::new();
            loop {
                out.reserve(STEP);
                let before = self.zlib.total_in();
                self.zlib.compress_vec(plain, &mut out, FlushCompress::Sync).unwrap();
                plain = &plain[usize::try_from(self.zlib.total_in() - before).unwrap()..];
                if plain.is_empty() && out.len() < out.capacity() {
                    return out.into();
                }
            }
        }
    }

    /// A block before compression.
    pub(in crate::stream::spdy) fn plain(headers: &[(&str, &str)]) -> Bytes {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).unwrap());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(u32::try_from(text.len()).unwrap());
            plain.put_slice(text.as_bytes());
        }
        plain.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{Peer, plain};
    use super::*;

    // Made by Python's zlib.compressobj(9, zdict=…), with Z_SYNC_FLUSH after each block.
    const FIRST: &str = "78f9e3c6a7c202a62346703a2b294a4dcc851625c0149b925f5a02000000ffff";
    const SECOND: &str = "02254848d95c04ce0616061606409ab308129799a034ce6880a19b3515144d00000000ffff";

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn blocks_that_zlib_made_elsewhere_are_read_in_their_turn() {
        let mut inflater = Inflater::new();
        let read = inflater.read(&hex(FIRST)).unwrap().unwrap();
        assert_eq!(read, headers(&[("streamtype", "stdout")]));
        let read = inflater.read(&hex(SECOND)).unwrap().unwrap();
        assert_eq!(read, headers(&[("port", "8080"), ("requestid", "0"), ("streamtype", "error")]));
        assert_eq!(read.get("requestid"), Some("0"));
        assert_eq!(read.get("missing"), None);
    }

    #[test]
    fn our_blocks_are_empty_ones_for_any_reader() {
        let mut deflater = Deflater::default();
        let mut inflater = Inflater::new();
        for _ in 0..3 {
            assert_eq!(inflater.read(&deflater.empty_block()), Ok(Some(Headers::default())));
        }
    }

    #[test]
    fn of_several_values_the_first_is_got() {
        let read = Inflater::new().read(&Peer::new().block(&[("accept", "a\0b")])).unwrap().unwrap();
        assert_eq!(read.get("accept"), Some("a"));
    }

    #[test]
    fn a_forbidden_block_is_the_stream_s_error_and_later_blocks_are_read() {
        let names: Vec<String> = (0..=MAX_HEADERS).map(|number| format!("name-{number}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let good = plain(&[("name", "value")]);
        let cases: Vec<Bytes> = vec![
            plain(&[("streamType", "stdin")]),
            plain(&[("", "value")]),
            plain(&[("twice", "a"), ("twice", "b")]),
            plain(&many),
            good.slice(..good.len() - 1),
            [&good[..], b"x"].concat().into(),
            Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFF]),
            Bytes::from_static(b"\x00\x00\x00\x01\xff\xff\xff\xffname"),
            Bytes::from_static(b"\x00\x00\x00\x01\x00\x00\x00\x01\xff\x00\x00\x00\x00"),
            Bytes::new(),
        ];
        let (mut peer, mut inflater) = (Peer::new(), Inflater::new());
        for case in cases {
            assert_eq!(inflater.read(&peer.compressed(&case)), Ok(None), "{:?}", &case[..case.len().min(40)]);
            assert_eq!(inflater.read(&peer.block(&[("a", "b")])), Ok(Some(headers(&[("a", "b")]))));
        }
        assert!(inflater.read(&peer.compressed(&plain(&many[..1000]))).unwrap().is_some());
    }

    #[test]
    fn a_header_bomb_is_refused_before_it_is_inflated() {
        let bomb = Peer::new().compressed(&vec![0; 8 << 20]);
        assert!(bomb.len() < 1 << 14, "the bomb is small on the wire");
        let mut inflater = Inflater::new();
        assert_eq!(inflater.read(&bomb), Err(Violation::Bomb(MAX_BLOCK)));
        assert!(inflater.plain.capacity() <= STEP);
        assert!(inflater.zlib.total_out() < 2 * u64::try_from(MAX_BLOCK).unwrap());
    }

    #[test]
    fn a_block_at_the_limit_is_read() {
        let value = "v".repeat(MAX_BLOCK - 4 - 4 - 4 - 4);
        let read = Inflater::new().read(&Peer::new().block(&[("name", &value)])).unwrap().unwrap();
        assert_eq!(read.get("name").map(str::len), Some(value.len()));
    }

    #[test]
    fn what_is_not_zlib_or_has_another_dictionary_ends_the_session() {
        for block in [&b"not zlib"[..], &[0x78, 0x20, 1, 2, 3, 4, 0], &[0x78, 0x9C, 0x03, 0x00, 0, 0, 0, 1]] {
            assert_eq!(Inflater::new().read(block), Err(Violation::Compression), "{block:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn headers_survive_the_wire(
            blocks in prop::collection::vec(prop::collection::btree_map("[a-z0-9-]{1,20}", ".{0,300}", 0..12), 0..6),
        ) {
            let (mut peer, mut inflater) = (Peer::new(), Inflater::new());
            for block in blocks {
                let pairs: Vec<(&str, &str)> = block.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                prop_assert_eq!(inflater.read(&peer.block(&pairs)), Ok(Some(headers(&pairs))));
            }
        }

        #[test]
        fn garbage_is_read_or_refused(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
        ) {
            let (mut raw, mut within, mut peer) = (Inflater::new(), Inflater::new(), Peer::new());
            for block in blocks {
                let _ = raw.read(&block);
                let _ = within.read(&peer.compressed(&block));
            }
        }
    }
}
