//! WebSocket frames (RFC 6455) as a client sends them, and as they are sent to it. Pure.
//!
//! What comes is given out piece by piece: a message may be of any length, and none is ever held whole. Libraries give messages;
//! from them only the frames' heads are taken.

use std::io::Cursor;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest payload of a frame that isn't data.
const LONGEST_CONTROL: u64 = 125;

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The next bytes of a message.
    Data {
        /// Any number, none included.
        bytes: Bytes,
        /// A message begins with them.
        first: bool,
        /// It ends with them.
        last: bool,
    },
    /// It asks for a pong with the same bytes.
    Ping(Bytes),
    /// It has answered.
    Pong,
    /// It sends no more.
    Close,
}

/// It doesn't keep to the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// Takes a client's bytes apart.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The data frame that is coming.
    frame: Option<Frame>,
    /// A message has begun, and its last frame has not.
    is_within: bool,
}

#[derive(Debug)]
struct Frame {
    left: u64,
    mask: [u8; 4],
    is_first: bool,
    is_last: bool,
}

impl Decoder {
    /// Takes the next piece off the front of what has come; None: more has to come.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Broken> {
        if self.frame.is_none() {
            match self.head(input)? {
                None => return Ok(None),
                Some(Head::Control(piece)) => return Ok(Some(piece)),
                Some(Head::Data(frame)) => self.frame = Some(frame),
            }
        }
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let length = input.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        if length == 0 && frame.left > 0 {
            return Ok(None);
        }
        let mut bytes = input.split_to(length);
        frame.mask = unmask(&mut bytes, frame.mask);
        frame.left -= u64::try_from(length).unwrap_or(frame.left);
        let (first, last) = (std::mem::take(&mut frame.is_first), frame.is_last && frame.left == 0);
        if frame.left == 0 {
            self.frame = None;
        }
        Ok(Some(Piece::Data { bytes: bytes.freeze(), first, last }))
    }

    /// Takes a frame's head; a frame that isn't data is taken whole.
    fn head(&mut self, input: &mut BytesMut) -> Result<Option<Head>, Broken> {
        let mut cursor = Cursor::new(&*input);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| Broken)? else { return Ok(None) };
        let head = usize::try_from(cursor.position()).map_err(|_| Broken)?;
        let FrameHeader { is_final, rsv1, rsv2, rsv3, opcode, mask } = header;
        let mask = mask.filter(|_| !(rsv1 || rsv2 || rsv3)).ok_or(Broken)?;
        match opcode {
            OpCode::Control(_) if length > LONGEST_CONTROL || !is_final => Err(Broken),
            OpCode::Control(control) => {
                let length = usize::try_from(length).map_err(|_| Broken)?;
                if input.len() < head + length {
                    return Ok(None);
                }
                input.advance(head);
                let mut bytes = input.split_to(length);
                unmask(&mut bytes, mask);
                let piece = match control {
                    Control::Ping => Piece::Ping(bytes.freeze()),
                    Control::Pong => Piece::Pong,
                    Control::Close => Piece::Close,
                    Control::Reserved(_) => return Err(Broken),
                };
                Ok(Some(Head::Control(piece)))
            }
            OpCode::Data(data) => {
                let is_first = match data {
                    Data::Continue => false,
                    Data::Text | Data::Binary => true,
                    Data::Reserved(_) => return Err(Broken),
                };
                if is_first == self.is_within || length > i64::MAX.unsigned_abs() {
                    return Err(Broken);
                }
                self.is_within = !is_final;
                input.advance(head);
                Ok(Some(Head::Data(Frame { left: length, mask, is_first, is_last: is_final })))
            }
        }
    }
}

enum Head {
    Control(Piece),
    Data(Frame),
}

/// Takes the mask off; gives the one for what follows.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let wide = u32::from_ne_bytes(mask);
    let mut chunks = bytes.chunks_exact_mut(4);
    for chunk in &mut chunks {
        if let Ok(word) = <[u8; 4]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u32::from_ne_bytes(word) ^ wide).to_ne_bytes());
        }
    }
    let rest = chunks.into_remainder();
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(rest.len());
    next
}

/// Appends a frame that is a message by itself, as servers send them: without a mask.
pub fn encode(opcode: OpCode, payload: &[&[u8]], out: &mut BytesMut) {
    encode_head(opcode, payload.iter().map(|part| part.len()).sum(), out);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends what comes before such a frame's payload.
pub(super) fn encode_head(opcode: OpCode, length: usize, out: &mut BytesMut) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    // memory takes all that is written
    let _ = header.format(u64::try_from(length).unwrap_or(u64::MAX), &mut out.writer());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A frame as a client sends it.
    fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { opcode, is_final, mask: Some(MASK), ..FrameHeader::default() };
        let mut out = Vec::new();
        header.format(payload.len().try_into().unwrap(), &mut out).unwrap();
        let mut payload = payload.to_vec();
        unmask(&mut payload, MASK);
        out.extend(payload);
        out
    }

    const BINARY: OpCode = OpCode::Data(Data::Binary);
    const MORE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode = OpCode::Control(Control::Ping);

    /// What comes out when bytes come in cuts: whole messages, with the number of pieces left out, and what is not data.
    fn decode(bytes: &[u8], cut: usize) -> Result<(Vec<Vec<u8>>, Vec<Piece>), Broken> {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        let (mut messages, mut coming, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for part in bytes.chunks(cut) {
            input.extend_from_slice(part);
            while let Some(piece) = decoder.next(&mut input)? {
                match piece {
                    Piece::Data { bytes, first, last } => {
                        assert!(!first || coming.is_empty());
                        coming.extend_from_slice(&bytes);
                        if last {
                            messages.push(std::mem::take(&mut coming));
                        }
                    }
                    other => others.push(other),
                }
            }
        }
        Ok((messages, others))
    }

    #[test]
    fn the_example_of_the_rfc() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decode(&hello, 100).unwrap(), (vec![b"Hello".to_vec()], vec![]));
    }

    #[test]
    fn a_ping_within_a_message_does_not_end_it() {
        let bytes = [frame(BINARY, false, b"one "), frame(PING, true, b"?"), frame(MORE, true, b"two")].concat();
        let ping = Piece::Ping(Bytes::from_static(b"?"));
        assert_eq!(decode(&bytes, 100).unwrap(), (vec![b"one two".to_vec()], vec![ping]));
    }

    #[test]
    fn a_message_without_end_is_given_out_as_it_comes() {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        let mut bytes = frame(BINARY, true, &[7; 100]);
        bytes[1] = 0x80 | 127;
        bytes.splice(2..2, (1_u64 << 40).to_be_bytes());
        input.extend_from_slice(&bytes);
        let piece = decoder.next(&mut input).unwrap().unwrap();
        assert_eq!(piece, Piece::Data { bytes: vec![7; 100].into(), first: true, last: false });
        assert_eq!(decoder.next(&mut input), Ok(None));
    }

    #[test]
    fn what_is_not_the_protocol_breaks_it() {
        let mut unmasked = BytesMut::new();
        encode(BINARY, &[b"x"], &mut unmasked);
        let mut reserved = frame(BINARY, true, b"x");
        reserved[0] |= 0x40;
        let mut endless = vec![0x82, 0x80 | 127];
        endless.extend([0xff; 12]);
        for bytes in [
            unmasked.to_vec(),
            reserved,
            endless,
            frame(MORE, true, b"x"),
            [frame(BINARY, false, b"x"), frame(BINARY, true, b"y")].concat(),
            frame(PING, false, b"x"),
            frame(PING, true, &[0; 126]),
            frame(OpCode::Data(Data::Reserved(3)), true, b"x"),
            frame(OpCode::Control(Control::Reserved(11)), true, b"x"),
        ] {
            assert_eq!(decode(&bytes, 100), Err(Broken), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_come_back_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5), part in 1_usize..70, cut in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for message in &messages {
                let parts: Vec<&[u8]> = if message.is_empty() { vec![&[]] } else { message.chunks(part).collect() };
                for (n, part) in parts.iter().enumerate() {
                    bytes.extend(frame(if n == 0 { BINARY } else { MORE }, n + 1 == parts.len(), part));
                }
            }
            prop_assert_eq!(decode(&bytes, cut).unwrap(), (messages, vec![]));
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, cut in 1_usize..50) {
            let _ = decode(&bytes, cut);
        }
    }
}
