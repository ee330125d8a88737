//! What is opened, lasts and is closed again, by kind.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many there are and have been.
#[derive(Debug, Default)]
pub struct Sessions {
    open: AtomicU64,
    opened: AtomicU64,
}

/// One of them; dropping it closes it.
#[derive(Debug)]
#[must_use]
pub struct Session<'a>(&'a Sessions);

impl Sessions {
    /// Opens one.
    pub fn open(&self) -> Session<'_> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Session(self)
    }

    /// How many are open, and how many have ever been.
    pub fn read(&self) -> (u64, u64) {
        (self.open.load(Ordering::Relaxed), self.opened.load(Ordering::Relaxed))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_open_no_more() {
        let sessions = Sessions::default();
        let (one, other) = (sessions.open(), sessions.open());
        drop(one);
        assert_eq!(sessions.read(), (1, 2));
        drop(other);
        assert_eq!(sessions.read(), (0, 2));
    }
}
