//! How far a pull has come, layer by layer, as the Engine's messages tell it, and whether it still moves.
//!
//! ```text
//! waiting ─▶ downloading ─▶ downloaded ─▶ extracting ─▶ done
//!               └── fails: the Engine counts down to its next try, which moves nothing ──┘
//! ```
//!
//! Moving is a layer in another state than before, or a number that has changed; a message alone is not. Once nothing is left to be
//! downloaded the Engine is silent at times, while it unpacks: it has several times as long then. The Engine downloads few layers at a
//! time, of all pulls together: one that waits for its turn is not judged while another moves.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::{PullDetail, PullProgress};

/// How many times as long nothing may move when no layer is left to be downloaded.
const UNPACKING: u32 = 10;

/// Pulls under way. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pulls {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    count: u64,
    /// In the order in which they began.
    under_way: BTreeMap<u64, Arc<Pull>>,
}

impl Pulls {
    /// One begins; it is under way until the guard is dropped.
    pub(super) fn begin(&self, image: &str) -> UnderWay {
        let now = Instant::now();
        let state = Mutex::new(State { moved: now, last: String::new(), layers: HashMap::new() });
        let pull = Arc::new(Pull { image: image.to_owned(), begun: now, state });
        let mut inner = self.inner();
        inner.count += 1;
        let number = inner.count;
        inner.under_way.insert(number, pull.clone());
        UnderWay { pulls: self.clone(), number, pull }
    }

    /// Those under way, the oldest first: the image, since when, and how far.
    pub fn read(&self) -> Vec<(String, Duration, Progress)> {
        let inner = self.inner();
        inner.under_way.values().map(|pull| (pull.image.clone(), pull.begun.elapsed(), pull.progress())).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pull under way.
pub(super) struct UnderWay {
    pulls: Pulls,
    number: u64,
    pub(super) pull: Arc<Pull>,
}

impl UnderWay {
    /// Whether nothing has moved for so long, and not because others move.
    pub(super) fn stands_still(&self, limit: Duration) -> bool {
        self.pull.stands_still(limit) && !(self.pull.waits() && self.others_move(limit))
    }

    fn others_move(&self, limit: Duration) -> bool {
        let inner = self.pulls.inner();
        inner.under_way.iter().any(|(number, pull)| *number != self.number && pull.state().moved.elapsed() < limit)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.pulls.inner().under_way.remove(&self.number);
    }
}

/// What is known of a pull.
pub(super) struct Pull {
    image: String,
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    /// When anything last moved.
    moved: Instant,
    /// What was last said.
    last: String,
    layers: HashMap<String, Layer>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layer {
    phase: Phase,
    /// In this phase.
    current: u64,
    downloaded: u64,
    /// 0 when unknown.
    size: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Waiting,
    Downloading,
    Downloaded,
    Extracting,
    Done,
}

/// How far a pull has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Layers that the Engine has told of.
    pub layers: usize,
    /// Those of them that are there.
    pub done: usize,
    /// Bytes downloaded.
    pub bytes: u64,
    /// Bytes to be downloaded, as far as they are known.
    pub of_bytes: u64,
    /// Since anything has moved.
    pub still: Duration,
    /// What the Engine last said.
    pub last: String,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { layers, done, bytes, of_bytes, .. } = self;
        let mib = |bytes: &u64| *bytes as f64 / f64::from(1 << 20);
        write!(f, "{done} of {layers} layers, {:.1} of {:.1} MiB", mib(bytes), mib(of_bytes))
    }
}

impl Pull {
    /// Takes a message in.
    pub(super) fn note(&self, message: &PullProgress) {
        let mut state = self.state();
        let State { moved, last, layers } = &mut *state;
        message.status.clone_into(last);
        // with a tag for its id
        if message.id.is_empty() || message.status.starts_with("Pulling from ") {
            *moved = Instant::now();
            return;
        }
        let known = layers.get(&message.id).copied();
        let layer = known.unwrap_or_default().after(&message.status, message.progress_detail.unwrap_or_default());
        if known != Some(layer) {
            *moved = Instant::now();
            layers.insert(message.id.clone(), layer);
        }
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> Progress {
        let state = self.state();
        let sum =
            |of: fn(&Layer) -> u64| state.layers.values().fold(0, |sum: u64, layer| sum.saturating_add(of(layer)));
        Progress {
            layers: state.layers.len(),
            done: state.layers.values().filter(|layer| layer.phase == Phase::Done).count(),
            bytes: sum(|layer| layer.downloaded),
            of_bytes: sum(|layer| layer.size.max(layer.downloaded)),
            still: state.moved.elapsed(),
            last: state.last.clone(),
        }
    }

    fn stands_still(&self, limit: Duration) -> bool {
        let state = self.state();
        let is_left = |layer: &Layer| layer.phase < Phase::Downloaded;
        let downloads = state.layers.is_empty() || state.layers.values().any(is_left);
        state.moved.elapsed() >= if downloads { limit } else { limit * UNPACKING }
    }

    /// Whether layers are known, and none of them has begun.
    fn waits(&self) -> bool {
        let state = self.state();
        let has_begun =
            |layer: &Layer| matches!(layer.phase, Phase::Downloading | Phase::Downloaded | Phase::Extracting);
        !state.layers.is_empty() && !state.layers.values().any(has_begun)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer {
    /// As a message leaves it.
    fn after(self, status: &str, detail: PullDetail) -> Layer {
        let phase = match status {
            "Downloading" => Phase::Downloading,
            "Verifying Checksum" | "Download complete" => Phase::Downloaded,
            "Extracting" => Phase::Extracting,
            "Pull complete" | "Already exists" => Phase::Done,
            // "Pulling fs layer", "Waiting", "Retrying in 5 seconds"
            _ => Phase::Waiting,
        };
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let (current, total) = (number(detail.current), number(detail.total));
        let size = if phase == Phase::Downloading { self.size.max(total) } else { self.size };
        let downloaded = match phase {
            Phase::Downloading => current,
            Phase::Waiting => self.downloaded,
            Phase::Downloaded | Phase::Extracting | Phase::Done => size.max(self.downloaded),
        };
        Layer { phase, current, downloaded, size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, status: &str, current: i64, total: i64) -> PullProgress {
        let progress_detail = (total > 0).then_some(PullDetail { current, total });
        PullProgress { id: id.to_owned(), status: status.to_owned(), progress_detail, error_detail: None }
    }

    fn pull(messages: &[(&str, &str, i64, i64)]) -> UnderWay {
        let under_way = Pulls::default().begin("a");
        messages.iter().for_each(|(id, status, current, total)| {
            under_way.pull.note(&message(id, status, *current, *total));
        });
        under_way
    }

    /// Whether a message counts as a move after these.
    fn moves(before: &[(&str, &str, i64, i64)], next: (&str, &str, i64, i64)) -> bool {
        let under_way = pull(before);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        under_way.pull.state().moved = long_ago;
        under_way.pull.note(&message(next.0, next.1, next.2, next.3));
        under_way.pull.progress().still < Duration::from_secs(50)
    }

    #[test]
    fn layers_and_bytes_are_added_up() {
        let under_way = pull(&[
            ("latest", "Pulling from library/busybox", 0, 0),
            ("l0", "Already exists", 0, 0),
            ("l1", "Pulling fs layer", 0, 0),
            ("l2", "Pulling fs layer", 0, 0),
            ("l3", "Waiting", 0, 0),
            ("l1", "Downloading", 500, 1000),
            ("l2", "Downloading", 10 << 20, 20 << 20),
            ("l1", "Download complete", 0, 0),
            ("l1", "Extracting", 300, 1000),
        ]);
        let progress = under_way.pull.progress();
        assert_eq!((progress.layers, progress.done), (4, 1));
        assert_eq!((progress.bytes, progress.of_bytes), (1000 + (10 << 20), 1000 + (20 << 20)));
        assert_eq!(progress.to_string(), "1 of 4 layers, 10.0 of 20.0 MiB");
        assert_eq!(progress.last, "Extracting");
    }

    #[test]
    fn a_message_that_changes_nothing_is_no_move() {
        let begun = [("l1", "Downloading", 500, 1000)];
        assert!(moves(&begun, ("l1", "Downloading", 501, 1000)));
        assert!(moves(&begun, ("l1", "Download complete", 0, 0)));
        assert!(moves(&begun, ("l2", "Waiting", 0, 0)));
        assert!(moves(&begun, ("", "Digest: sha256:0", 0, 0)));
        assert!(!moves(&begun, ("l1", "Downloading", 500, 1000)));
        let retries = [begun[0], ("l1", "Retrying in 5 seconds", 0, 0)];
        assert!(!moves(&retries, ("l1", "Retrying in 4 seconds", 0, 0)));
        assert!(moves(&retries, ("l1", "Downloading", 1, 1000)));
    }

    #[test]
    fn a_download_may_stand_still_for_less_long_than_what_comes_after() {
        let seconds = Duration::from_secs;
        // nothing has moved for 100 s
        let stands_still = |messages: &[(&str, &str, i64, i64)], limit| {
            let under_way = pull(messages);
            under_way.pull.state().moved = Instant::now().checked_sub(seconds(100)).unwrap();
            under_way.stands_still(limit)
        };
        assert!(stands_still(&[], seconds(60)), "not even a layer is known");
        assert!(!stands_still(&[], seconds(110)));
        let extracting = [("l1", "Download complete", 0, 0), ("l2", "Extracting", 1, 2), ("l3", "Pull complete", 0, 0)];
        assert!(!stands_still(&extracting, seconds(60)));
        assert!(stands_still(&extracting, seconds(9)));
        assert!(stands_still(&[("l1", "Already exists", 0, 0)], seconds(9)), "something else doesn't come");
        let mut another = extracting.to_vec();
        another.push(("l4", "Downloading", 1, 2));
        assert!(stands_still(&another, seconds(60)));
    }

    #[test]
    fn one_that_waits_for_its_turn_is_not_judged_while_another_moves() {
        let pulls = Pulls::default();
        let (first, second) = (pulls.begin("first"), pulls.begin("second"));
        second.pull.note(&message("l1", "Waiting", 0, 0));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        second.pull.state().moved = long_ago;
        assert!(!second.stands_still(Duration::from_secs(60)));
        first.pull.state().moved = long_ago;
        assert!(second.stands_still(Duration::from_secs(60)));
        first.pull.note(&message("l0", "Downloading", 1, 2));
        second.pull.note(&message("l1", "Downloading", 1, 2));
        second.pull.state().moved = long_ago;
        assert!(second.stands_still(Duration::from_secs(60)), "its turn has come");
    }

    #[test]
    fn a_pull_is_under_way_until_it_is_dropped() {
        let pulls = Pulls::default();
        let (one, other) = (pulls.begin("one"), pulls.begin("other"));
        let images = || pulls.read().into_iter().map(|(image, ..)| image).collect::<Vec<_>>();
        assert_eq!(images(), ["one", "other"]);
        drop(one);
        assert_eq!(images(), ["other"]);
        drop(other);
        assert!(images().is_empty());
    }
}
