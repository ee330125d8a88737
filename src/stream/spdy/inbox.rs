//! What came for a stream and was not read yet; pure. Who waits for it, and what happens when it is full, is `mux`'s matter.
//!
//! A large piece is kept as it is, a slice of the buffer that the connection was read into, and pins that buffer; small ones are
//! copied together. So what an inbox pins is at most twice what it holds.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes that an inbox holds.
pub(super) const CAPACITY: usize = 64 << 10;

/// From this size on a piece is not copied: what Go's clients send in one frame, while they have more.
pub(super) const LARGE: usize = 32 << 10;

/// Size of the buffers that a connection is read into, two of those frames with their heads: the largest piece.
pub(super) const BUFFER: usize = 2 * (8 + LARGE);

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    whole: VecDeque<Bytes>,
    /// Comes after what is in `whole`.
    small: BytesMut,
    held: usize,
}

impl Inbox {
    /// Whether a piece of this size can be pushed.
    pub(super) fn has_room(&self, size: usize) -> bool {
        self.held == 0 || self.held + size <= CAPACITY
    }

    /// Adds a piece at the end.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.held += piece.len();
        if piece.len() < LARGE {
            self.small.extend_from_slice(&piece);
            return;
        }
        if !self.small.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.small).freeze());
        }
        self.whole.push_back(piece);
    }

    /// The next bytes; None if there are none.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let small = || (!self.small.is_empty()).then(|| std::mem::take(&mut self.small).freeze());
        let piece = self.whole.pop_front().or_else(small)?;
        self.held -= piece.len();
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_inbox_has_no_room_but_an_empty_one_takes_any_piece() {
        let mut inbox = Inbox::default();
        assert!(inbox.has_room(CAPACITY + 1));
        inbox.push(Bytes::from(vec![0; CAPACITY - 1]));
        assert!(inbox.has_room(1) && !inbox.has_room(2));
        inbox.pop();
        assert!(inbox.has_room(CAPACITY));
    }

    #[test]
    fn a_large_piece_is_not_copied() {
        let piece = Bytes::from(vec![7; LARGE]);
        let mut inbox = Inbox::default();
        inbox.push(piece.clone());
        assert_eq!(inbox.pop().map(|popped| popped.as_ptr()), Some(piece.as_ptr()));
    }

    #[test]
    fn small_pieces_are_joined_and_pin_nothing_else() {
        let buffer = Bytes::from(vec![7; BUFFER]);
        let mut inbox = Inbox::default();
        for start in 0..100 {
            inbox.push(buffer.slice(start..=start));
        }
        assert!(buffer.is_unique());
        assert_eq!(inbox.pop().map(|popped| popped.len()), Some(100));
        assert_eq!(inbox.pop(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_goes_in_comes_out_in_order(
            pieces in prop::collection::vec((any::<u8>(), prop_oneof![0..50usize, LARGE - 2..LARGE + 2], any::<bool>()), 0..12),
        ) {
            let (mut inbox, mut pushed, mut popped) = (Inbox::default(), Vec::new(), Vec::new());
            for (byte, size, pop) in pieces {
                pushed.resize(pushed.len() + size, byte);
                inbox.push(Bytes::from(vec![byte; size]));
                if pop {
                    popped.extend(inbox.pop().unwrap_or_default());
                }
            }
            while let Some(piece) = inbox.pop() {
                popped.extend(piece);
            }
            prop_assert_eq!(inbox.held, 0);
            prop_assert!(pushed == popped);
        }
    }
}
