//! How true the index is: what the Status conditions and `Unavailable` answers are made from.

use std::time::{Duration, Instant};

/// Without a finished listing for this long the engine counts as wedged.
const LISTING_LIMIT: Duration = Duration::from_secs(10);
/// Without an event stream for this long the engine counts as gone.
const STREAM_LIMIT: Duration = Duration::from_secs(2);

/// What is known of the connection to the engine.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The table is whole and events keep it so.
    pub synced: bool,
    /// When a listing last came to its end.
    pub listed_at: Option<Instant>,
    /// How long the engine took for the last look whether it still lists.
    pub heartbeat: Option<Duration>,
    /// Since when there has been no event stream; None while there is one.
    pub stream_down_since: Option<Instant>,
    /// The engine's last failure.
    pub failure: Option<String>,
    /// Differences that reconciling has found: events that were lost.
    pub differences: u64,
}

impl Health {
    /// Why the runtime is not ready at `now`; None when it is.
    pub fn trouble(&self, now: Instant) -> Option<String> {
        match self.listed_at {
            None => return Some(format!("the engine has not been listed yet{}", self.because())),
            Some(at) if now.duration_since(at) > LISTING_LIMIT => {
                return Some(format!("no listing has completed for {LISTING_LIMIT:?}{}", self.because()));
            }
            Some(_) => {}
        }
        match self.stream_down_since {
            Some(since) if now.duration_since(since) > STREAM_LIMIT => {
                Some(format!("the event stream has been down for more than {STREAM_LIMIT:?}{}", self.because()))
            }
            _ => None,
        }
    }

    /// What a reader is told who can't be answered.
    pub fn explain(&self) -> String {
        format!("the docker engine's state is not known yet{}; try again", self.because())
    }

    fn because(&self) -> String {
        self.failure.as_ref().map(|failure| format!(" ({failure})")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wedged_engine_and_a_lost_stream_are_troubles() {
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        let mut health = Health { listed_at: Some(start), ..Health::default() };
        assert_eq!(health.trouble(later(9)), None);
        assert!(health.trouble(later(11)).unwrap().contains("no listing"));
        health.stream_down_since = Some(start);
        assert_eq!(health.trouble(later(1)), None);
        assert!(health.trouble(later(3)).unwrap().contains("event stream"));
        assert!(Health::default().trouble(start).unwrap().contains("not been listed"));
    }
}
