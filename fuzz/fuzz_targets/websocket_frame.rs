//! WebSocket frames from a client: no panic, and the same messages however the bytes are cut.
#![no_main]

use bytes::BytesMut;
use dockershim::stream::frames::{Broken, Decoder, Piece};
use libfuzzer_sys::fuzz_target;

/// What comes out, with the pieces of each message put together; and whether it broke.
fn decode(bytes: &[u8], cut: usize) -> (Vec<Piece>, bool) {
    let (mut decoder, mut input, mut all) = (Decoder::default(), BytesMut::new(), Vec::new());
    for part in bytes.chunks(cut) {
        input.extend_from_slice(part);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(piece)) => join(&mut all, piece),
                Ok(None) => break,
                Err(Broken) => return (all, true),
            }
        }
    }
    (all, false)
}

fn join(all: &mut Vec<Piece>, piece: Piece) {
    match (all.last_mut(), piece) {
        (Some(Piece::Data { bytes, last: end @ false, .. }), Piece::Data { bytes: more, first: false, last }) => {
            *bytes = [&bytes[..], &more[..]].concat().into();
            *end = last;
        }
        (_, piece) => all.push(piece),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    assert_eq!(decode(bytes, usize::from(*cut) + 1), decode(bytes, usize::MAX));
});
