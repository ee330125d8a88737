//! The output of attach and exec: raw bytes with a terminal, and without one frames of an 8-byte head (stream, three zeros,
//! big-endian length) and their payload. See the Engine API, `POST /containers/{id}/attach`.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

use super::Error;
use super::turns::Turns;

/// Which of the process's outputs a chunk came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How the outputs share the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is only one.
    Raw,
    /// In frames.
    Multiplexed,
}

/// Bytes before each frame's payload.
const HEAD: usize = 8;

/// The largest frame that the Engine writes.
const FRAME: usize = HEAD + (32 << 10);

/// Splits the byte stream into chunks; pure, so that any cut of the input gives the same result.
#[derive(Default)]
struct Frames {
    input: Turns,
    /// Stream and bytes left of the frame being read.
    current: Option<(Stream, usize)>,
}

impl Frames {
    /// What is there for one stream, out of as many frames as follow each other; None when more input is needed.
    fn next(&mut self) -> Result<Option<(Stream, Bytes)>, u8> {
        let buffer = &mut self.input.current;
        // payloads are moved together over the heads between them: the client is sent few large pieces instead of many small ones
        let (mut joined, mut read, mut whose) = (0, 0, Stream::Stdout);
        loop {
            let (stream, left) = match self.current {
                Some((stream, left @ 1..)) => (stream, left),
                _ => match head(&buffer[read..]) {
                    Ok(Some(frame)) => {
                        read += HEAD;
                        frame
                    }
                    Err(byte) if joined == 0 => return Err(byte),
                    Ok(None) | Err(_) => break,
                },
            };
            self.current = Some((stream, left));
            if joined == 0 {
                buffer.advance(read);
                (read, whose) = (0, stream);
            } else if stream != whose {
                break;
            }
            let here = left.min(buffer.len() - read);
            if read > joined {
                buffer.copy_within(read..read + here, joined);
            }
            (joined, read) = (joined + here, read + here);
            self.current = Some((stream, left - here));
            if here < left {
                break;
            }
        }
        let mut payload = buffer.split_to(read);
        payload.truncate(joined);
        Ok((joined > 0).then(|| (whose, payload.freeze())))
    }
}

/// Reads a frame's head, if it is there: its stream and the length of its payload. Fails with the number of no stream.
fn head(input: &[u8]) -> Result<Option<(Stream, usize)>, u8> {
    let Some((&[number, _, _, _, length @ ..], _)) = input.split_first_chunk::<HEAD>() else { return Ok(None) };
    let stream = match number {
        0 | 1 => Stream::Stdout,
        2 => Stream::Stderr,
        other => return Err(other),
    };
    Ok(Some((stream, usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))))
}

/// A process's output as it comes.
pub struct Output {
    stream: OwnedReadHalf,
    framing: Framing,
    frames: Frames,
}

impl Output {
    /// `read` is what has been read already.
    pub(super) fn new(stream: OwnedReadHalf, read: BytesMut, framing: Framing) -> Self {
        Output { stream, framing, frames: Frames { input: Turns::new(read), current: None } }
    }

    /// The next chunk; None at the end. Safe to drop while waiting.
    pub async fn next(&mut self) -> Result<Option<(Stream, Bytes)>, Error> {
        loop {
            match self.split() {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => {}
                Err(byte) => {
                    let reason = format!("no stream has number {byte}");
                    return Err(Error::Unreadable { call: "exec output", reason });
                }
            }
            self.frames.input.make_room(FRAME, 2 * FRAME);
            let read = self.stream.read_buf(&mut self.frames.input.current).await;
            if read.map_err(|error| Error::Unreachable { source: Box::new(error) })? == 0 {
                return Ok(None);
            }
        }
    }

    fn split(&mut self) -> Result<Option<(Stream, Bytes)>, u8> {
        match self.framing {
            Framing::Multiplexed => self.frames.next(),
            Framing::Raw if self.frames.input.current.is_empty() => Ok(None),
            Framing::Raw => Ok(Some((Stream::Stdout, self.frames.input.current.split().freeze()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![stream, 0, 0, 0];
        out.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        out.extend(payload);
        out
    }

    fn read(chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
        let (mut frames, mut out, mut err) = (Frames::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            frames.input.current.extend_from_slice(&chunk);
            while let Some((stream, bytes)) = frames.next().unwrap() {
                match stream {
                    Stream::Stdout => out.extend(bytes),
                    Stream::Stderr => err.extend(bytes),
                }
            }
        }
        (out, err)
    }

    proptest! {
        #[test]
        fn any_cut_of_the_input_gives_the_same_output(
            payloads in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in 1usize..13,
        ) {
            let wire: Vec<u8> = payloads.iter().flat_map(|(stream, bytes)| frame(*stream, bytes)).collect();
            let of = |wanted: u8| payloads.iter().filter(|(s, _)| *s == wanted).flat_map(|(_, b)| b.clone()).collect::<Vec<u8>>();
            let (out, err) = read(wire.chunks(cut).map(<[u8]>::to_vec));
            prop_assert_eq!(out, of(1));
            prop_assert_eq!(err, of(2));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut frames = Frames { input: Turns::new(BytesMut::from(&bytes[..])), current: None };
            while let Ok(Some(_)) = frames.next() {}
        }
    }

    fn frames(wire: &[Vec<u8>]) -> Frames {
        Frames { input: Turns::new(BytesMut::from(&wire.concat()[..])), current: None }
    }

    #[test]
    fn neighbours_of_one_stream_are_one_piece() {
        let wire = [frame(1, b"a"), frame(1, b""), frame(1, b"b"), frame(2, b"c"), frame(1, b"de")];
        let mut frames = frames(&wire);
        let last = frames.input.current.split_off(frames.input.current.len() - 1);
        assert_eq!(frames.next(), Ok(Some((Stream::Stdout, Bytes::from_static(b"ab")))));
        assert_eq!(frames.next(), Ok(Some((Stream::Stderr, Bytes::from_static(b"c")))));
        assert_eq!(frames.next(), Ok(Some((Stream::Stdout, Bytes::from_static(b"d")))));
        assert_eq!(frames.next(), Ok(None));
        frames.input.current.unsplit(last);
        assert_eq!(frames.next(), Ok(Some((Stream::Stdout, Bytes::from_static(b"e")))));
    }

    #[test]
    fn an_unknown_stream_is_an_error_behind_what_came_before_it() {
        let mut frames = frames(&[frame(1, b"a"), frame(7, b"x")]);
        assert_eq!(frames.next(), Ok(Some((Stream::Stdout, Bytes::from_static(b"a")))));
        assert_eq!(frames.next(), Err(7));
    }
}
