//! Values that many have, each kept once. Those that nobody uses any more are dropped now and then.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// As many are kept before it is looked which of them nobody uses any more.
const LEAST: usize = 1024;

/// What the sandboxes and containers of a table share.
#[derive(Default)]
pub(super) struct Shelves {
    /// Those of labels, annotations, images and paths.
    pub(super) words: Shelf<str>,
    /// All keys or all values of a map.
    pub(super) lists: Shelf<[Arc<str>]>,
    /// Of containers.
    pub(super) messages: Shelf<[u8]>,
}

/// The values in use, and for a while some that were.
pub(super) struct Shelf<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// How many there may be before those out of use are dropped.
    limit: usize,
}

impl<T: ?Sized> Default for Shelf<T> {
    fn default() -> Self {
        Shelf { known: HashSet::new(), limit: 0 }
    }
}

impl<T: ?Sized + Eq + Hash> Shelf<T> {
    /// Puts an equal value that others have in its place.
    pub(super) fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.known.get(&**value) {
            *value = known.clone();
            return;
        }
        if self.known.len() >= self.limit {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.limit = LEAST.max(2 * self.known.len());
        }
        self.known.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(shelf: &mut Shelf<str>, word: &str) -> Arc<str> {
        let mut word = Arc::from(word);
        shelf.share(&mut word);
        word
    }

    #[test]
    fn a_value_is_kept_once() {
        let mut shelf = Shelf::default();
        let [one, other, third] = ["web", "web", "db"].map(|word| shared(&mut shelf, word));
        assert!(Arc::ptr_eq(&one, &other) && *one != *third);
        assert_eq!(shelf.known.len(), 2);
    }

    #[test]
    fn values_out_of_use_are_dropped() {
        let mut shelf = Shelf::default();
        let kept = shared(&mut shelf, "always");
        for number in 0..100 * LEAST {
            shared(&mut shelf, &number.to_string());
            assert!(shelf.known.len() <= 2 * LEAST, "{}", shelf.known.len());
        }
        assert!(Arc::ptr_eq(&kept, &shared(&mut shelf, "always")));
    }
}
