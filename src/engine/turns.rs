//! A buffer to read into whose bytes are handed on as slices, without being copied; what they mean is not known here.
//!
//! A slice pins its buffer until it has been sent. With a new buffer for each read, the allocator would give memory of that size
//! back to the kernel and get it again, page by page, for as long as bytes move; so a few buffers take turns.

use bytes::BytesMut;

/// As many as are on their way at once, behind a reader that isn't slow.
const OTHERS: usize = 2;

/// Buffers that take turns.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// What is read into, and taken from.
    pub(crate) current: BytesMut,
    others: [BytesMut; OTHERS],
    next: usize,
}

impl Turns {
    /// Begins with what has been read already.
    pub(crate) fn new(current: BytesMut) -> Self {
        Turns { current, ..Turns::default() }
    }

    /// Makes room behind the bytes that weren't taken yet: for the least, if that is left, else for as many as are wanted.
    pub(crate) fn make_room(&mut self, least: usize, wanted: usize) {
        if self.current.capacity() - self.current.len() >= least || self.current.try_reclaim(wanted) {
            return;
        }
        let other = &mut self.others[self.next];
        self.next = (self.next + 1) % OTHERS;
        other.clear();
        // no more than all have, or it would grow for what is left of a frame
        other.reserve(wanted.max(self.current.len() + least));
        other.extend_from_slice(&self.current);
        std::mem::swap(&mut self.current, other);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_buffer_whose_slices_are_gone_is_used_again() {
        let mut turns = Turns::default();
        let mut places = Vec::new();
        let mut sent = std::collections::VecDeque::new();
        for _ in 0..100 {
            turns.make_room(1000, 1000);
            turns.current.extend_from_slice(&[7; 1000]);
            places.push(turns.current.as_ptr());
            sent.push_back(turns.current.split().freeze());
            if sent.len() > OTHERS {
                sent.pop_front();
            }
        }
        places.sort_unstable();
        places.dedup();
        assert!(places.len() <= OTHERS + 1, "{} buffers", places.len());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            steps in prop::collection::vec((any::<u8>(), 0usize..50, 0usize..60, any::<bool>()), 0..40),
        ) {
            let (mut turns, mut kept) = (Turns::default(), Vec::new());
            let (mut read, mut taken) = (Vec::new(), Vec::new());
            for (byte, size, take, keep) in steps {
                turns.make_room(size, 2 * size);
                prop_assert!(turns.current.capacity() - turns.current.len() >= size);
                turns.current.extend_from_slice(&vec![byte; size]);
                read.resize(read.len() + size, byte);
                let slice = turns.current.split_to(take.min(turns.current.len())).freeze();
                taken.extend_from_slice(&slice);
                if keep {
                    kept.push(slice);
                }
            }
            taken.extend_from_slice(&turns.current);
            prop_assert!(read == taken);
        }
    }
}
