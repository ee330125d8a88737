//! How long calls of one kind take and how often each fails, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::{Histogram, Reading};

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Classes of calls: from an answer out of memory to one that has run into a limit.
#[rustfmt::skip]
const BOUNDS: &[Duration] = &[
    us(250), ms(1), us(2500), ms(5), ms(10), ms(25), ms(50), ms(100), ms(250), ms(500),
    ms(1000), ms(2500), ms(5000), ms(10_000), ms(30_000), ms(120_000),
];

/// The calls. Cheap to clone.
#[derive(Debug)]
pub struct Timings<K> {
    by_name: Arc<RwLock<BTreeMap<K, Timing>>>,
}

#[derive(Debug)]
struct Timing {
    took: Histogram,
    failures: Mutex<BTreeMap<String, u64>>,
}

/// What is known of the calls of one name.
#[derive(Clone, Debug)]
pub struct Timed<K> {
    /// The name.
    pub name: K,
    /// How long they took, failed ones included.
    pub took: Reading,
    /// How many failed, by cause.
    pub failures: BTreeMap<String, u64>,
}

impl<K> Clone for Timings<K> {
    fn clone(&self) -> Self {
        Timings { by_name: self.by_name.clone() }
    }
}

impl<K: Ord> Default for Timings<K> {
    fn default() -> Self {
        Timings { by_name: Arc::default() }
    }
}

impl<K: Ord + Clone> Timings<K> {
    /// Counts a call that has ended, and why if it has failed.
    pub fn note(&self, name: &K, took: Duration, failure: Option<&str>) {
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(timing) = known.get(name) {
            return timing.note(took, failure);
        }
        drop(known);
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        by_name.entry(name.clone()).or_insert_with(Timing::new).note(took, failure);
    }

    /// All that was counted, by name.
    pub fn read(&self) -> Vec<Timed<K>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let timed = by_name.iter().map(|(name, Timing { took, failures })| Timed {
            name: name.clone(),
            took: took.read(),
            failures: failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        });
        timed.collect()
    }

    /// All calls whose name is wanted, as if they had one: how long they took, and how many failed.
    pub fn sum(&self, wanted: impl Fn(&K) -> bool) -> (Reading, u64) {
        let timed = self.read().into_iter().filter(|timed| wanted(&timed.name));
        timed.fold((Reading::empty(BOUNDS), 0), |(took, failures), timed| {
            (took.with(&timed.took), failures + timed.failures.values().sum::<u64>())
        })
    }
}

impl Timing {
    fn new() -> Self {
        Timing { took: Histogram::new(BOUNDS), failures: Mutex::default() }
    }

    fn note(&self, took: Duration, failure: Option<&str>) {
        self.took.note(took);
        let Some(cause) = failure else { return };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get_mut(cause) {
            Some(count) => *count += 1,
            None => _ = failures.insert(cause.to_owned(), 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_name_and_failures_by_cause() {
        let timings = Timings::<&'static str>::default();
        let elsewhere = timings.clone();
        timings.note(&"start", ms(3), None);
        elsewhere.note(&"start", ms(7), Some("Internal"));
        timings.note(&"start", ms(7), Some("Internal"));
        timings.note(&"stop", ms(4000), Some("NotFound"));
        let told = timings.read();
        assert_eq!(told.iter().map(|timed| timed.name).collect::<Vec<_>>(), ["start", "stop"]);
        assert_eq!(told[0].failures, BTreeMap::from([("Internal".to_owned(), 2)]));
        assert_eq!((told[0].took.count(), told[0].took.sum), (3, ms(17)));
        let (took, failures) = timings.sum(|name| *name != "stop");
        assert_eq!((took, failures), (told[0].took.clone(), 2));
    }

    #[test]
    fn bounds_are_in_order() {
        assert!(BOUNDS.is_sorted_by(|one, next| one < next));
    }
}
