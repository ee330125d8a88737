//! Durations counted in classes, without a lock, and what can be told from the counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations since the start of the process.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one above.
    classes: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The most that each class but the last takes, smallest first.
    pub bounds: &'static [Duration],
    /// How many fell into each class; one more than there are bounds.
    pub classes: Vec<u64>,
    /// All durations together.
    pub sum: Duration,
}

impl Histogram {
    /// Empty; the bounds are in order.
    pub fn new(bounds: &'static [Duration]) -> Self {
        let classes = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Histogram { bounds, classes, sum_ns: AtomicU64::default() }
    }

    /// Counts one.
    pub fn note(&self, took: Duration) {
        let class = self.bounds.partition_point(|bound| *bound < took);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The counts now.
    pub fn read(&self) -> Reading {
        Reading {
            bounds: self.bounds,
            classes: self.classes.iter().map(|class| class.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }
}

impl Reading {
    /// Nothing counted yet.
    pub fn empty(bounds: &'static [Duration]) -> Self {
        Histogram::new(bounds).read()
    }

    /// Takes in another one with the same bounds.
    #[must_use]
    pub fn with(mut self, other: &Reading) -> Self {
        self.classes.iter_mut().zip(&other.classes).for_each(|(class, more)| *class += more);
        self.sum += other.sum;
        self
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// What so many of a hundred took at most: exact at a class's bounds, estimated between them; of what is above all bounds only
    /// that is known. None when nothing was counted.
    pub fn quantile(&self, percent: u64) -> Option<Duration> {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut below = 0;
        for (at, count) in self.classes.iter().enumerate().filter(|(_, count)| **count > 0) {
            if below + count >= wanted {
                let from = at.checked_sub(1).map_or(Duration::ZERO, |at| self.bounds[at]);
                let Some(to) = self.bounds.get(at) else { return Some(from) };
                let share = wanted.saturating_sub(below) as f64 / *count as f64;
                return Some(from + (*to - from).mul_f64(share));
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const BOUNDS: &[Duration] = &[ms(10), ms(20), ms(100)];

    fn of(durations_ms: &[u64]) -> Reading {
        let histogram = Histogram::new(BOUNDS);
        durations_ms.iter().for_each(|duration| histogram.note(ms(*duration)));
        histogram.read()
    }

    #[test]
    fn a_duration_falls_into_the_first_class_that_holds_it() {
        let reading = of(&[0, 10, 11, 20, 21, 100, 101, 3_600_000]);
        assert_eq!(reading.classes, [2, 2, 2, 2]);
        assert_eq!((reading.count(), reading.sum), (8, ms(3_600_263)));
    }

    #[test]
    fn quantiles_are_exact_at_the_bounds_and_estimated_between() {
        assert_eq!(of(&[]).quantile(50), None);
        assert_eq!(of(&[5, 5, 15, 15]).quantile(50), Some(ms(10)));
        assert_eq!(of(&[5, 5, 15, 15]).quantile(75), Some(ms(15)));
        assert_eq!(of(&[5, 5, 15, 15]).quantile(100), Some(ms(20)));
        assert_eq!(of(&[5000]).quantile(99), Some(ms(100)), "that much at least");
    }

    #[test]
    fn readings_add_up() {
        assert_eq!(of(&[5, 50]).with(&of(&[15, 500])), of(&[5, 15, 50, 500]));
        assert_eq!(Reading::empty(BOUNDS), of(&[]));
    }

    proptest! {
        #[test]
        fn a_quantile_is_in_the_class_of_the_true_one(mut all in prop::collection::vec(0u64..100, 1..50), percent in 1u64..=100) {
            let told = of(&all).quantile(percent).unwrap();
            all.sort_unstable();
            let rank = (u64::try_from(all.len()).unwrap() * percent).div_ceil(100);
            let truth = ms(all[usize::try_from(rank).unwrap() - 1]);
            let class = |duration| BOUNDS.partition_point(|bound| *bound < duration);
            prop_assert_eq!(class(told), class(truth), "{:?} {:?}", told, truth);
        }
    }
}
