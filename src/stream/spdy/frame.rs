//! SPDY/3.1 frames, read from and written to buffers; pure. What a frame does to a stream is `mux`'s matter, what is in a
//! header block `header`'s.
//!
//! ```text
//! control: 1 version(15) | type(16)         data: 0 stream(31)
//!          flags(8) | length(24)                  flags(8) | length(24)
//!          body                                   payload
//! ```
//!
//! A control frame is read when it is whole (at most 1 MiB is waited for); so is a data frame, and a large one in large pieces.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::inbox::LARGE;

/// Bytes before each frame's body.
pub(super) const HEAD: usize = 8;

/// The largest body of a control frame that is read; the format's own limit is 2^24 - 1.
pub(super) const MAX_CONTROL: usize = 1 << 20;

const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a stream was reset, as RST_STREAM carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(
    /// The number on the wire.
    pub u32,
);

impl Status {
    /// The peer did on this stream what it must not.
    pub const PROTOCOL_ERROR: Status = Status(1);
    /// There is no such stream.
    pub const INVALID_STREAM: Status = Status(2);
    /// The stream was not taken up.
    pub const REFUSED_STREAM: Status = Status(3);
    /// The stream is no longer wanted.
    pub const CANCEL: Status = Status(5);
    /// Data came after the stream's end.
    pub const STREAM_ALREADY_CLOSED: Status = Status(9);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "protocol error",
            2 => "invalid stream",
            3 => "refused stream",
            4 => "unsupported version",
            5 => "cancel",
            6 => "internal error",
            7 => "flow control error",
            8 => "stream in use",
            9 => "stream already closed",
            11 => "frame too large",
            other => return write!(f, "status {other}"),
        };
        f.write_str(name)
    }
}

/// What the peer did that ends the whole session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Another version of SPDY.
    #[error("a control frame of version {0}")]
    Version(u16),
    /// A control frame that is larger than what is kept for one.
    #[error("a control frame of {0} bytes")]
    TooLarge(usize),
    /// A control frame whose body can't be of its type.
    #[error("a control frame of type {kind} with {length} bytes")]
    Length {
        /// The frame's type.
        kind: u16,
        /// Bytes in its body.
        length: usize,
    },
    /// A header block that zlib can't read.
    #[error("a header block that can't be inflated")]
    Compression,
    /// A header block that would inflate to more than what is kept for one.
    #[error("a header block of more than {0} bytes")]
    Bomb(usize),
    /// A stream id that is even, zero or lower than one before.
    #[error("a new stream with id {0}")]
    StreamId(u32),
    /// Frames that ask for answers, while the answers are not read.
    #[error("too many frames whose answers were not read")]
    Flood,
}

/// One frame, or a piece of a data frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The peer opens a stream.
    SynStream { id: u32, fin: bool, unidirectional: bool, block: Bytes },
    /// A stream of ours was accepted.
    SynReply { id: u32, fin: bool, block: Bytes },
    /// The end of a stream, both ways.
    Reset { id: u32, status: Status },
    /// To be echoed by the side that didn't send it first.
    Ping { id: u32 },
    /// No stream after `last` was or will be taken up.
    GoAway { last: u32, status: u32 },
    /// More headers on an open stream.
    Headers { id: u32, fin: bool, block: Bytes },
    /// A data frame, or a large piece of one; `fin` comes with the last.
    Data { id: u32, fin: bool, payload: Bytes },
}

/// Cuts frames from a stream of bytes. Between calls less than a head is left in the input, or less than a piece of data.
#[derive(Debug, Default)]
pub(super) struct Parser {
    within: Within,
}

/// Where the next byte of input is.
#[derive(Debug, Default)]
enum Within {
    #[default]
    Head,
    Control {
        kind: u16,
        flags: u8,
        length: usize,
        body: BytesMut,
    },
    Data {
        id: u32,
        fin: bool,
        left: usize,
    },
    Skipped {
        left: usize,
    },
}

impl Parser {
    /// The next frame or piece; None when more input is needed. What was read is gone from `input`.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Violation> {
        loop {
            match &mut self.within {
                Within::Head if input.len() < HEAD => return Ok(None),
                Within::Head => self.within = head(input)?,
                Within::Control { kind, flags, length, body } => {
                    // Gathered beside the input, which so holds less than a head when it is empty of data.
                    body.extend_from_slice(&input.split_to(input.len().min(*length - body.len())));
                    if body.len() < *length {
                        return Ok(None);
                    }
                    let (kind, flags, body) = (*kind, *flags, std::mem::take(body));
                    self.within = Within::Head;
                    return control(kind, flags, body.freeze()).map(Some);
                }
                Within::Data { left, .. } if input.len() < (*left).min(LARGE) => return Ok(None),
                Within::Skipped { left } if *left > 0 && input.is_empty() => return Ok(None),
                Within::Data { id, fin, left } => {
                    let payload = input.split_to(input.len().min(*left)).freeze();
                    *left -= payload.len();
                    let (id, fin) = (*id, *fin && *left == 0);
                    if *left == 0 {
                        self.within = Within::Head;
                    }
                    return Ok(Some(Frame::Data { id, fin, payload }));
                }
                Within::Skipped { left: 0 } => self.within = Within::Head,
                Within::Skipped { left } => {
                    let skipped = input.len().min(*left);
                    input.advance(skipped);
                    *left -= skipped;
                }
            }
        }
    }
}

/// Reads a head that is there.
fn head(input: &mut BytesMut) -> Result<Within, Violation> {
    let (first, second) = (input.get_u32(), input.get_u32());
    let [flags, a, b, c] = second.to_be_bytes();
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    if first & CONTROL == 0 {
        return Ok(Within::Data { id: first, fin: flags & FIN != 0, left: length });
    }
    let [high, low, kind_high, kind_low] = (first & !CONTROL).to_be_bytes();
    let (version, kind) = (u16::from_be_bytes([high, low]), u16::from_be_bytes([kind_high, kind_low]));
    if version != 3 {
        return Err(Violation::Version(version));
    }
    // SETTINGS, WINDOW_UPDATE and whatever else there may be: a receiver skips what it doesn't know.
    if ![SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY, HEADERS].contains(&kind) {
        return Ok(Within::Skipped { left: length });
    }
    if length > MAX_CONTROL {
        return Err(Violation::TooLarge(length));
    }
    Ok(Within::Control { kind, flags, length, body: BytesMut::new() })
}

/// The bit that tells control frames from data frames.
const CONTROL: u32 = 1 << 31;

/// A stream id without the bit that is reserved before it.
fn stream_id(body: &mut Bytes) -> u32 {
    body.get_u32() & !CONTROL
}

/// Reads the body of a control frame that is whole.
fn control(kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, Violation> {
    let (length, fin) = (body.len(), flags & FIN != 0);
    let right = match kind {
        SYN_STREAM => length >= 10,
        SYN_REPLY | HEADERS => length >= 4,
        PING => length == 4,
        _ => length == 8,
    };
    if !right {
        return Err(Violation::Length { kind, length });
    }
    let id = if kind == PING { body.get_u32() } else { stream_id(&mut body) };
    Ok(match kind {
        SYN_STREAM => {
            // The associated stream, the priority and the credential slot mean nothing here.
            body.advance(6);
            Frame::SynStream { id, fin, unidirectional: flags & UNIDIRECTIONAL != 0, block: body }
        }
        SYN_REPLY => Frame::SynReply { id, fin, block: body },
        RST_STREAM => Frame::Reset { id, status: Status(body.get_u32()) },
        PING => Frame::Ping { id },
        GOAWAY => Frame::GoAway { last: id, status: body.get_u32() },
        _ => Frame::Headers { id, fin, block: body },
    })
}

impl Frame {
    /// Writes the frame; its block or payload is shorter than 2^24 - 16 bytes.
    pub(super) fn write(&self, out: &mut BytesMut) {
        match self {
            Frame::SynStream { id, fin, unidirectional, block } => {
                let flags = (u8::from(*fin) * FIN) | (u8::from(*unidirectional) * UNIDIRECTIONAL);
                control_head(out, SYN_STREAM, flags, 10 + block.len());
                out.put_u32(*id);
                out.put_bytes(0, 6);
                out.put_slice(block);
            }
            Frame::SynReply { id, fin, block } => {
                control_head(out, SYN_REPLY, u8::from(*fin) * FIN, 4 + block.len());
                out.put_u32(*id);
                out.put_slice(block);
            }
            Frame::Reset { id, status } => {
                control_head(out, RST_STREAM, 0, 8);
                out.put_u32(*id);
                out.put_u32(status.0);
            }
            Frame::Ping { id } => {
                control_head(out, PING, 0, 4);
                out.put_u32(*id);
            }
            Frame::GoAway { last, status } => {
                control_head(out, GOAWAY, 0, 8);
                out.put_u32(*last);
                out.put_u32(*status);
            }
            Frame::Headers { id, fin, block } => {
                control_head(out, HEADERS, u8::from(*fin) * FIN, 4 + block.len());
                out.put_u32(*id);
                out.put_slice(block);
            }
            Frame::Data { id, fin, payload } => {
                data_head(out, *id, *fin, payload.len());
                out.put_slice(payload);
            }
        }
    }
}

fn control_head(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8003);
    out.put_u16(kind);
    flags_and_length(out, flags, length);
}

/// Writes the head of a data frame, whose payload of `length` bytes (less than 2^24) is sent from where it is.
pub(super) fn data_head(out: &mut BytesMut, id: u32, fin: bool, length: usize) {
    out.put_u32(id);
    flags_and_length(out, u8::from(fin) * FIN, length);
}

fn flags_and_length(out: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00FF_FFFF;
    out.put_u32((u32::from(flags) << 24) | length);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(frame: &Frame) -> Vec<u8> {
        let mut out = BytesMut::new();
        frame.write(&mut out);
        out.to_vec()
    }

    fn parse(chunks: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Frame>, Violation> {
        let (mut parser, mut input, mut frames) = (Parser::default(), BytesMut::new(), Vec::new());
        for chunk in chunks {
            input.extend_from_slice(&chunk);
            while let Some(frame) = parser.next(&mut input)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// Data pieces of one frame joined, so that any cut compares equal.
    fn joined(frames: Vec<Frame>) -> Vec<(Frame, Vec<u8>)> {
        let mut out: Vec<(Frame, Vec<u8>)> = Vec::new();
        for frame in frames {
            match (&frame, out.last_mut()) {
                (Frame::Data { id, fin, payload }, Some((Frame::Data { id: last, fin: ended, .. }, data)))
                    if id == last && !*ended =>
                {
                    data.extend(payload);
                    *ended = *fin;
                }
                (Frame::Data { id, fin, payload }, _) => {
                    out.push((Frame::Data { id: *id, fin: *fin, payload: Bytes::new() }, payload.to_vec()));
                }
                _ => out.push((frame, Vec::new())),
            }
        }
        out
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let id = || 0u32..=0x7FFF_FFFF;
        let bytes = || prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from);
        prop_oneof![
            (id(), any::<bool>(), any::<bool>(), bytes())
                .prop_map(|(id, fin, unidirectional, block)| Frame::SynStream { id, fin, unidirectional, block }),
            (id(), any::<bool>(), bytes()).prop_map(|(id, fin, block)| Frame::SynReply { id, fin, block }),
            (id(), any::<u32>()).prop_map(|(id, status)| Frame::Reset { id, status: Status(status) }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            (id(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            (id(), any::<bool>(), bytes()).prop_map(|(id, fin, block)| Frame::Headers { id, fin, block }),
            (id(), any::<bool>(), bytes()).prop_map(|(id, fin, payload)| Frame::Data { id, fin, payload }),
        ]
    }

    #[test]
    fn frames_are_laid_out_as_the_specification_draws_them() {
        let block = Bytes::from_static(b"zz");
        let syn = Frame::SynStream { id: 5, fin: true, unidirectional: false, block: block.clone() };
        assert_eq!(written(&syn), b"\x80\x03\x00\x01\x01\x00\x00\x0c\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00zz");
        let reply = Frame::SynReply { id: 5, fin: false, block: block.clone() };
        assert_eq!(written(&reply), b"\x80\x03\x00\x02\x00\x00\x00\x06\x00\x00\x00\x05zz");
        let reset = Frame::Reset { id: 7, status: Status::CANCEL };
        assert_eq!(written(&reset), b"\x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x07\x00\x00\x00\x05");
        assert_eq!(written(&Frame::Ping { id: 1 }), b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01");
        let go_away = Frame::GoAway { last: 9, status: 1 };
        assert_eq!(written(&go_away), b"\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x09\x00\x00\x00\x01");
        let headers = Frame::Headers { id: 3, fin: true, block };
        assert_eq!(written(&headers), b"\x80\x03\x00\x08\x01\x00\x00\x06\x00\x00\x00\x03zz");
        let data = Frame::Data { id: 3, fin: true, payload: Bytes::from_static(b"hello") };
        assert_eq!(written(&data), b"\x00\x00\x00\x03\x01\x00\x00\x05hello");
    }

    #[test]
    fn priority_association_and_reserved_bits_are_not_the_stream() {
        let raw = b"\x80\x03\x00\x01\x02\x00\x00\x0a\x80\x00\x00\x05\x00\x00\x00\x01\xe0\x07".to_vec();
        let syn = Frame::SynStream { id: 5, fin: false, unidirectional: true, block: Bytes::new() };
        assert_eq!(parse([raw]), Ok(vec![syn]));
    }

    #[test]
    fn settings_window_updates_and_unknown_frames_are_skipped_at_any_size() {
        let mut raw = b"\x80\x03\x00\x04\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x07\x00\x00\x00\x64".to_vec();
        raw.extend(b"\x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x10\x00");
        raw.extend(b"\x80\x03\x12\x34\x00\xff\xff\xff");
        raw.resize(raw.len() + 0xFF_FFFF, 7);
        raw.extend(b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01");
        assert_eq!(parse(raw.chunks(65_536).map(<[u8]>::to_vec)), Ok(vec![Frame::Ping { id: 1 }]));
    }

    #[test]
    fn a_data_frame_is_handed_on_whole_and_a_larger_one_in_large_pieces() {
        let piece = |fin, payload: &[u8]| Frame::Data { id: 3, fin, payload: Bytes::copy_from_slice(payload) };
        let small = [b"\x00\x00\x00\x03\x01\x00\x00\x03".to_vec(), b"ab".to_vec(), b"c".to_vec()];
        assert_eq!(parse(small.clone()), Ok(vec![piece(true, b"abc")]));
        assert_eq!(parse(small[..2].to_vec()), Ok(vec![]));
        let (some, rest) = (vec![7; LARGE + 1], vec![7; LARGE - 2]);
        let large = [b"\x00\x00\x00\x03\x01\xff\xff\xff".to_vec(), some.clone(), rest, vec![7; 2]];
        assert_eq!(parse(large), Ok(vec![piece(false, &some), piece(false, &some[1..])]));
    }

    #[test]
    fn an_empty_data_frame_carries_its_fin() {
        let frames = parse([b"\x00\x00\x00\x03\x01\x00\x00\x00".to_vec()]);
        assert_eq!(frames, Ok(vec![Frame::Data { id: 3, fin: true, payload: Bytes::new() }]));
    }

    #[test]
    fn what_is_not_spdy_3_is_refused_at_its_head() {
        let cases: [(&[u8], Violation); 6] = [
            (b"\x80\x02\x00\x01\x00\x00\x00\x0c", Violation::Version(2)),
            (b"\x80\x03\x00\x01\x00\x10\x00\x01", Violation::TooLarge(0x10_0001)),
            (b"\x80\x03\x00\x01\x00\x00\x00\x02ab", Violation::Length { kind: 1, length: 2 }),
            (b"\x80\x03\x00\x06\x00\x00\x00\x00", Violation::Length { kind: 6, length: 0 }),
            (b"\x80\x03\x00\x03\x00\x00\x00\x04abcd", Violation::Length { kind: 3, length: 4 }),
            (b"\x80\x03\x00\x07\x00\x00\x00\x01a", Violation::Length { kind: 7, length: 1 }),
        ];
        for (raw, violation) in cases {
            assert_eq!(parse([raw.to_vec()]), Err(violation));
        }
    }

    proptest! {
        #[test]
        fn any_cut_of_the_input_gives_the_same_frames(
            frames in prop::collection::vec(any_frame(), 0..8),
            cut in 1usize..40,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(written).collect();
            let whole = parse([wire.clone()]).unwrap();
            prop_assert_eq!(&whole, &frames);
            let cut = parse(wire.chunks(cut).map(<[u8]>::to_vec)).unwrap();
            prop_assert_eq!(joined(cut), joined(frames));
        }

        #[test]
        fn garbage_is_read_or_refused(wire in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse([wire.clone()]);
            // Most garbage is one long data frame: begin it like a control frame, too.
            let _ = parse([[&[0x80, 0x03, 0x00][..], &wire].concat()]);
        }
    }
}
