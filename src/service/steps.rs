//! How long a verb's steps take, for one line in the log. It decides nothing.

use std::time::{Duration, Instant};

/// A verb on its way.
pub(super) struct Steps {
    begun: Instant,
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// The first step begins.
    pub(super) fn begin() -> Steps {
        let now = Instant::now();
        Steps { begun: now, last: now, done: Vec::new() }
    }

    /// A step has ended, and the next one begins.
    pub(super) fn done(&mut self, name: &'static str) {
        let now = Instant::now();
        self.done.push((name, now - self.last));
        self.last = now;
    }

    /// `create 31.4, start 52.0, total 88.1`, in milliseconds.
    pub(super) fn told(&self) -> String {
        let total = ("total", self.last - self.begun);
        let steps = self.done.iter().chain([&total]);
        let told = steps.map(|(name, took)| format!("{name} {:.1}", took.as_secs_f64() * 1e3));
        told.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_order_and_the_total_is_theirs() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        let steps = Steps {
            begun,
            last: begun + ms(90),
            done: vec![("create", ms(30)), ("start", Duration::from_micros(60_040))],
        };
        assert_eq!(steps.told(), "create 30.0, start 60.0, total 90.0");
        let mut steps = Steps::begin();
        steps.done("cni");
        assert!(steps.told().starts_with("cni ") && steps.told().contains(", total "));
    }
}
