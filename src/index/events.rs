//! Events for those who follow the index: created, started, stopped, deleted, of sandboxes and containers.
//!
//! ```text
//! put, drop ─▶ table: is it news? ─▶ (still under the table's lock) stamped, with the pod as it is now ─▶ each subscriber's queue
//! ```
//!
//! **Invariants**: what is told is a difference in the table, so the second teller of a change (the engine's event after our own
//! write, a reconcile, a new connection's listing) finds none and nothing is told twice, and what was missed meanwhile is told
//! once it is found. Nobody is waited for: who is too far behind is cut off, and lists anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::model::Event;
use super::table::{News, Table};
use super::{Index, locked};
use crate::error::{Error, Result};

/// How far a subscriber may be behind: as many events as the Engine itself keeps for one. They are held only while one is behind.
const QUEUE: usize = 1024;
/// A node has one kubelet; each more costs the work of every event once again.
const SUBSCRIBERS: usize = 64;
/// What is told when nothing more will be.
const AT_THE_END: &str = "dockershim is shutting down";

/// Where events go out from.
pub(super) struct Events {
    /// None after the end.
    to: Mutex<Option<broadcast::Sender<Arc<Event>>>>,
    places: Arc<Semaphore>,
    /// Set once the table has been filled for the first time: what was there before us is no news.
    begun: AtomicBool,
}

impl Default for Events {
    fn default() -> Self {
        let to = Mutex::new(Some(broadcast::channel(QUEUE).0));
        Events { to, places: Arc::new(Semaphore::new(SUBSCRIBERS)), begun: AtomicBool::new(false) }
    }
}

/// One who follows, from the moment he came.
pub struct Subscription {
    events: broadcast::Receiver<Arc<Event>>,
    _place: OwnedSemaphorePermit,
}

impl Subscription {
    /// The next event; an error is the last answer. Safe to drop while waiting.
    pub async fn next(&mut self) -> Result<Arc<Event>> {
        self.events.recv().await.map_err(|end| match end {
            RecvError::Lagged(missed) => Error::ResourceExhausted(format!(
                "this subscriber is too slow: {missed} events were dropped after {QUEUE} had queued; list, and subscribe again"
            )),
            RecvError::Closed => Error::Unavailable(AT_THE_END.to_owned()),
        })
    }
}

impl Events {
    /// From now on differences are told.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Tells what is new in the table, which the caller has locked: events go out in the order of the changes.
    pub(super) fn tell(&self, table: &mut Table, stamp: impl Fn() -> i64) {
        let news = table.take_news();
        if news.is_empty() || !self.begun.load(Ordering::Acquire) {
            return;
        }
        let to = locked(&self.to);
        let Some(to) = to.as_ref().filter(|to| to.receiver_count() > 0) else { return };
        for News { id, what, sandbox_id, last } in news {
            let sandbox = table.sandbox(sandbox_id.as_str()).ok().or(last);
            let containers = table.containers_of(&sandbox_id);
            // an error is that the last one who listened has just gone
            let _ = to.send(Arc::new(Event { id, what, at_ns: stamp(), sandbox, containers }));
        }
    }

    fn subscribe(&self) -> Result<Subscription> {
        let too_many = |_| Error::ResourceExhausted(format!("{SUBSCRIBERS} subscribers follow events already"));
        let place = self.places.clone().try_acquire_owned().map_err(too_many)?;
        let to = locked(&self.to);
        let to = to.as_ref().ok_or_else(|| Error::Unavailable(AT_THE_END.to_owned()))?;
        Ok(Subscription { events: to.subscribe(), _place: place })
    }
}

impl Index {
    /// Follows what happens from now on.
    pub fn subscribe(&self) -> Result<Subscription> {
        self.inner.events.subscribe()
    }

    /// Nothing is told any more: each subscriber is given what he has not had yet, and an end.
    pub fn end_events(&self) {
        locked(&self.inner.events.to).take();
    }

    /// The time of what the table shows now, if its lock is held meanwhile: between the events before and after it.
    pub fn stamp(&self) -> i64 {
        self.inner.clock.stamp()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::clock::Clock;
    use super::super::model::Happening;
    use super::super::table::tests::{LATER, START, container, sandbox};
    use super::*;

    struct Stage {
        events: Events,
        table: Table,
        clock: Clock,
    }

    impl Stage {
        fn new() -> Stage {
            Stage { events: Events::default(), table: Table::default(), clock: Clock::default() }
        }

        fn change<T>(&mut self, change: impl FnOnce(&mut Table) -> T) {
            change(&mut self.table);
            self.events.tell(&mut self.table, || self.clock.stamp());
        }

        /// A container starts, and ends.
        fn run(&mut self, id: &str) {
            self.change(|table| table.put_container(container(id, "running", START)));
            self.change(|table| table.put_container(container(id, "exited", START)));
        }
    }

    fn told(subscription: &mut Subscription) -> Vec<Arc<Event>> {
        std::iter::from_fn(|| subscription.next().now_or_never().map(Result::unwrap)).collect()
    }

    #[test]
    fn what_was_there_at_the_start_is_no_news_and_who_comes_late_hears_what_is_new() {
        let mut stage = Stage::new();
        let mut first = stage.events.subscribe().unwrap();
        stage.change(|table| table.put_sandbox(sandbox("running", START)));
        stage.events.begin();
        stage.run("aa");
        let mut second = stage.events.subscribe().unwrap();
        stage.change(|table| table.drop_container("aa"));
        let ids = |events: &[Arc<Event>]| events.iter().map(|event| (event.id.clone(), event.what)).collect::<Vec<_>>();
        let (first, second) = (told(&mut first), told(&mut second));
        let aa = |what| ("aa".to_owned(), what);
        let lived = [Happening::Created, Happening::Started, Happening::Stopped, Happening::Deleted].map(aa);
        assert_eq!(ids(&first), lived);
        assert_eq!(ids(&second), [aa(Happening::Deleted)]);
    }

    #[test]
    fn all_hear_the_same_in_the_order_of_the_changes_and_of_their_times() {
        let mut stage = Stage::new();
        stage.events.begin();
        let mut subscriptions = [(); 3].map(|()| stage.events.subscribe().unwrap());
        stage.change(|table| table.put_sandbox(sandbox("running", START)));
        for number in 0..100 {
            stage.run(&format!("{number:04}"));
        }
        let heard = subscriptions.each_mut().map(told);
        assert_eq!(heard[0].len(), 2 + 3 * 100);
        assert!(heard[0].is_sorted_by(|earlier, later| earlier.at_ns < later.at_ns));
        for other in &heard[1..] {
            assert!(other.iter().zip(&heard[0]).all(|(one, other)| Arc::ptr_eq(one, other)));
            assert_eq!(other.len(), heard[0].len());
        }
    }

    #[test]
    fn an_event_shows_the_pod_as_it_was_then() {
        let mut stage = Stage::new();
        stage.events.begin();
        let mut subscription = stage.events.subscribe().unwrap();
        stage.change(|table| table.put_sandbox(sandbox("running", START)));
        stage.run("aa");
        stage.change(|table| table.drop_container("aa"));
        stage.change(|table| table.drop_sandbox("5a4d"));
        let seen = told(&mut subscription);
        let shown = |event: &Arc<Event>| {
            let states: Vec<_> = event.containers.iter().map(|known| known.state).collect();
            (event.what, event.sandbox.as_ref().unwrap().ready, states)
        };
        use super::super::model::State::{Exited, Running};
        assert_eq!(
            seen.iter().map(shown).collect::<Vec<_>>(),
            [
                (Happening::Created, true, vec![]),
                (Happening::Started, true, vec![]),
                (Happening::Created, true, vec![Running]),
                (Happening::Started, true, vec![Running]),
                (Happening::Stopped, true, vec![Exited]),
                (Happening::Deleted, true, vec![]),
                (Happening::Stopped, false, vec![]),
                (Happening::Deleted, false, vec![]),
            ]
        );
    }

    #[test]
    fn who_is_too_slow_is_cut_off_and_holds_nobody_up() {
        let mut stage = Stage::new();
        stage.events.begin();
        let (mut slow, mut quick) = (stage.events.subscribe().unwrap(), stage.events.subscribe().unwrap());
        let mut heard = 0;
        for number in 0..=QUEUE {
            stage.change(|table| table.put_container(container(&number.to_string(), "created", LATER)));
            heard += told(&mut quick).len();
        }
        assert_eq!(heard, QUEUE + 1);
        let end = slow.next().now_or_never().unwrap().unwrap_err();
        assert!(matches!(&end, Error::ResourceExhausted(text) if text.contains("1 events were dropped")), "{end}");
    }

    #[test]
    fn there_is_room_for_so_many_and_a_place_that_is_left_is_free() {
        let events = Events::default();
        let mut all: Vec<_> = (0..SUBSCRIBERS).map(|_| events.subscribe().unwrap()).collect();
        assert!(matches!(events.subscribe(), Err(Error::ResourceExhausted(_))));
        all.pop();
        assert!(events.subscribe().is_ok());
    }
}
