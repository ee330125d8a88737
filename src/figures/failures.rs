//! The last failures, for whoever asks what is wrong. What keeps failing in the same words stands once, with a count, so that a loop
//! of retries leaves the others their place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How many are kept.
const MOST: usize = 20;

/// An RPC that has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// When it last did, in nanoseconds since the epoch.
    pub at_ns: i64,
    /// How often it did so in these words.
    pub times: u64,
    /// Its name.
    pub rpc: String,
    /// gRPC's name of the status.
    pub code: String,
    /// Namespace and name of the pod it was about, or what else is known of it; empty for none.
    pub pod: String,
    /// The container it was about; empty for none.
    pub container: String,
    /// As the client was told.
    pub message: String,
}

/// The last ones. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    last: Arc<Mutex<VecDeque<Failure>>>,
}

impl Failures {
    /// Keeps one; the oldest goes when there are too many.
    pub fn note(&self, mut failure: Failure) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.iter().position(|known| known.is_like(&failure)).and_then(|at| last.remove(at));
        failure.times = before.map_or(0, |known| known.times) + 1;
        if last.len() == MOST {
            last.pop_front();
        }
        last.push_back(failure);
    }

    /// The latest first.
    pub fn read(&self) -> Vec<Failure> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

impl Failure {
    fn is_like(&self, other: &Failure) -> bool {
        self.words() == other.words()
    }

    fn words(&self) -> [&str; 5] {
        let Failure { at_ns: _, times: _, rpc, code, pod, container, message } = self;
        [rpc, code, pod, container, message]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at_ns: i64, message: &str) -> Failure {
        Failure { at_ns, rpc: "StartContainer".to_owned(), message: message.to_owned(), ..Failure::default() }
    }

    #[test]
    fn what_repeats_stands_once_and_latest() {
        let failures = Failures::default();
        for (at_ns, message) in [(1, "no space"), (2, "no image"), (3, "no space"), (4, "no space")] {
            failures.note(failure(at_ns, message));
        }
        let told: Vec<_> = failures.read().into_iter().map(|it| (it.at_ns, it.times, it.message)).collect();
        assert_eq!(told, [(4, 3, "no space".to_owned()), (2, 1, "no image".to_owned())]);
    }

    #[test]
    fn only_the_last_ones_are_kept() {
        let failures = Failures::default();
        (0..100).for_each(|number| failures.note(failure(number, &number.to_string())));
        let told = failures.read();
        assert_eq!((told.len(), told[0].at_ns, told[MOST - 1].at_ns), (MOST, 99, 80));
    }
}
