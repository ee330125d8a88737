//! What a session has to send, in order, and in batches that one system call can carry; pure. Who may add to it, and when, is
//! `mux`'s matter.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{self, Frame};

/// Largest payload of a data frame that is sent: the peers read a frame whole before they hand it on.
pub(super) const MAX_PAYLOAD: usize = 64 << 10;

/// What a batch carries, more or less.
const BATCH: usize = 128 << 10;

/// A payload up to this size is copied behind its head instead of being sent from where it is.
const SMALL: usize = 1024;

/// What a frame in the queue costs beside its payload.
const OVERHEAD: usize = 128;

/// A queue of frames.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    segments: VecDeque<Segment>,
    /// Heads and small frames are written here, one after the other, and cut off as slices.
    heads: BytesMut,
    /// What the control frames in the queue cost.
    control: usize,
}

#[derive(Debug)]
struct Segment {
    bytes: Bytes,
    cost: Cost,
}

/// What a segment occupies in the queue, and for whom.
#[derive(Clone, Copy, Debug)]
enum Cost {
    Control(usize),
    Stream(u32, usize),
    None,
}

impl Outbox {
    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// What the control frames in the queue cost.
    pub(super) fn control(&self) -> usize {
        self.control
    }

    /// Adds a control frame.
    pub(super) fn push_control(&mut self, frame: &Frame) {
        frame.write(&mut self.heads);
        let bytes = self.heads.split().freeze();
        let cost = bytes.len() + OVERHEAD;
        self.control += cost;
        self.segments.push_back(Segment { bytes, cost: Cost::Control(cost) });
    }

    /// Adds a data frame; the payload is `MAX_PAYLOAD` at most. Gives its cost.
    pub(super) fn push_data(&mut self, id: u32, fin: bool, payload: Bytes) -> usize {
        let cost = payload.len() + OVERHEAD;
        frame::data_head(&mut self.heads, id, fin, payload.len());
        if payload.len() <= SMALL {
            self.heads.extend_from_slice(&payload);
            self.segments.push_back(Segment { bytes: self.heads.split().freeze(), cost: Cost::Stream(id, cost) });
        } else {
            self.segments.push_back(Segment { bytes: self.heads.split().freeze(), cost: Cost::None });
            self.segments.push_back(Segment { bytes: payload, cost: Cost::Stream(id, cost) });
        }
        cost
    }

    /// Takes what is next to be sent, and says which stream had how much of it.
    pub(super) fn take(&mut self, mut sent: impl FnMut(u32, usize)) -> Batch {
        let mut batch = Batch::default();
        while batch.left < BATCH {
            let Some(Segment { bytes, cost }) = self.segments.pop_front() else { break };
            batch.left += bytes.len();
            batch.segments.push_back(bytes);
            match cost {
                Cost::Control(cost) => self.control -= cost,
                Cost::Stream(id, cost) => {
                    batch.carries_data = true;
                    sent(id, cost);
                }
                Cost::None => {}
            }
        }
        batch
    }
}

/// Bytes on their way to the connection.
#[derive(Debug, Default)]
pub(super) struct Batch {
    segments: VecDeque<Bytes>,
    left: usize,
    carries_data: bool,
}

impl Batch {
    /// Whether there is a data frame in it.
    pub(super) fn carries_data(&self) -> bool {
        self.carries_data
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.segments);
        filled.map(|(slice, segment)| *slice = IoSlice::new(segment)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.left -= count;
        while let Some(front) = self.segments.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{Parser, Status};
    use super::*;

    #[test]
    fn a_large_payload_is_sent_from_where_it_is() {
        let payload = Bytes::from(vec![7; SMALL + 1]);
        let mut outbox = Outbox::default();
        outbox.push_data(1, false, payload.clone());
        let batch = outbox.take(|_, _| {});
        assert_eq!(batch.segments[1].as_ptr(), payload.as_ptr());
    }

    #[test]
    fn what_was_pushed_is_given_back_to_its_stream() {
        let mut outbox = Outbox::default();
        let pushed = outbox.push_data(3, false, Bytes::from(vec![7; 5000])) + outbox.push_data(3, true, Bytes::new());
        outbox.push_control(&Frame::Ping { id: 1 });
        assert!(outbox.control() > 0);
        let mut back = 0;
        outbox.take(|id, cost| {
            assert_eq!(id, 3);
            back += cost;
        });
        assert_eq!((back, outbox.control(), outbox.is_empty()), (pushed, 0, true));
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut outbox = Outbox::default();
        for _ in 0..10 {
            outbox.push_data(1, false, Bytes::from(vec![7; MAX_PAYLOAD]));
        }
        assert!(outbox.take(|_, _| {}).remaining() < BATCH + MAX_PAYLOAD);
        assert!(!outbox.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn batches_carry_the_frames_in_order_however_they_are_written(
            sizes in prop::collection::vec(prop_oneof![0..20usize, SMALL - 1..SMALL + 2, Just(MAX_PAYLOAD)], 0..8),
            step in 1usize..5000,
        ) {
            let (mut outbox, mut wire) = (Outbox::default(), BytesMut::new());
            let mut expected = BytesMut::new();
            for (id, size) in (1u32..).zip(sizes) {
                let data = Frame::Data { id, fin: size % 2 == 0, payload: Bytes::from(vec![7; size]) };
                let Frame::Data { fin, payload, .. } = data.clone() else { unreachable!() };
                outbox.push_data(id, fin, payload);
                let reset = Frame::Reset { id, status: Status::CANCEL };
                outbox.push_control(&reset);
                data.write(&mut expected);
                reset.write(&mut expected);
            }
            while !outbox.is_empty() {
                let mut batch = outbox.take(|_, _| {});
                while batch.has_remaining() {
                    let mut slices = [IoSlice::new(&[]); 3];
                    let filled = batch.chunks_vectored(&mut slices);
                    let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
                    wire.extend_from_slice(&bytes);
                    batch.advance(bytes.len());
                }
            }
            prop_assert!(wire == expected);
            let mut parser = Parser::default();
            while parser.next(&mut wire).unwrap().is_some() {}
            prop_assert!(wire.is_empty());
        }
    }
}
