//! The half of a pump that runs on lanes. When the spool changes, the watcher's thread has a lane do a round and no task is woken: under load
//! a task would cost as much as the round, and each hand-over between threads makes lines later.
//!
//! The pump's task is nudged when a round leaves it something to do: what failed is told and tried again, lines that move unsaved are
//! saved in time, a spool that can't be watched is looked at now and then.
//!
//! **Invariant**: after [`Looker::end`] nothing is read or written any more.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::error::Error;
use super::lanes::{Buffers, Lanes};
use super::transfer::{Round, Transfer};
use super::watch::{Watcher, Woken};

/// What looks at one spool.
pub(super) struct Looker {
    /// Of the spool.
    directory: Box<Path>,
    /// None: no inotify to be had.
    watcher: Option<Arc<Watcher>>,
    lanes: Arc<Lanes>,
    nudge: Notify,
    /// None after the end.
    held: Mutex<Option<Held>>,
}

/// What a round works with.
struct Held {
    transfer: Transfer,
    /// The watch that was set last; it may have told since.
    watch: Option<i32>,
    /// The task will come when a save is due.
    save_is_awaited: bool,
}

/// What a round has come to, for the task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    pub(super) round: Round,
    pub(super) save_due: Option<Instant>,
    /// The next change will be noticed.
    pub(super) watched: bool,
}

impl Looker {
    pub(super) fn new(spool: &Path, transfer: Transfer, watcher: Option<Arc<Watcher>>, lanes: Arc<Lanes>) -> Arc<Self> {
        let directory = spool.parent().unwrap_or_else(|| Path::new("")).into();
        let held = Mutex::new(Some(Held { transfer, watch: None, save_is_awaited: false }));
        Arc::new(Looker { directory, watcher, lanes, nudge: Notify::new(), held })
    }

    /// Waits until a round has left something to do.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// A round for the task, which comes again when a save is due. None after the end.
    pub(super) async fn round(self: &Arc<Self>) -> Option<Result<Looked, Error>> {
        let looker = self.clone();
        self.on_lane(move |held, buffers| {
            let looked = looker.look(held, buffers)?;
            held.save_is_awaited = looked.save_due.is_some();
            Ok(looked)
        })
        .await
    }

    /// Does something with the transfer, in between two rounds. None after the end.
    pub(super) async fn act<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Transfer) -> T + Send + 'static,
    ) -> Option<T> {
        self.on_lane(|held, _| act(&mut held.transfer)).await
    }

    /// Ends looking, when a round that is under way has come back; this is the last that is done with the transfer.
    pub(super) async fn end(self: &Arc<Self>, last: impl FnOnce(&mut Transfer) + Send + 'static) {
        let looker = self.clone();
        let ending = self.lanes.run(move |_| {
            let Some(mut held) = looker.held.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            last(&mut held.transfer);
            if let (Some(watcher), Some(watch)) = (&looker.watcher, held.watch) {
                watcher.disarm(watch, &looker.woken());
            }
        });
        ending.await;
    }

    async fn on_lane<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Held, &mut Buffers) -> T + Send + 'static,
    ) -> Option<T> {
        let looker = self.clone();
        let acting = self.lanes.run(move |buffers| {
            let mut held = looker.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.as_mut().map(|held| act(held, buffers))
        });
        acting.await.flatten()
    }

    /// Sets the watch and does a round, in this order: what is written from here on wakes us.
    fn look(self: &Arc<Self>, held: &mut Held, buffers: &mut Buffers) -> Result<Looked, Error> {
        let told = |error: &io::Error| {
            let directory = self.directory.display();
            tracing::debug!(%directory, %error, "the spool can't be watched; it is looked at each second");
        };
        let watcher = self.watcher.as_ref();
        held.watch = watcher.and_then(|watcher| watcher.arm(&self.directory, self.woken()).inspect_err(told).ok());
        let round = held.transfer.round(buffers)?;
        Ok(Looked { round, save_due: held.transfer.save_due(), watched: held.watch.is_some() })
    }

    /// A round because the spool has changed.
    pub(super) fn look_again(self: Arc<Self>, buffers: &mut Buffers) {
        let mut lock = match self.held.try_lock() {
            Ok(lock) => lock,
            // a round is under way, and may have read already
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return self.nudge.notify_one(),
        };
        let Some(held) = &mut *lock else { return };
        let looked = self.look(held, buffers);
        let save_is_awaited = held.save_is_awaited;
        // else a lane that is at leisure finds it locked
        drop(lock);
        match looked {
            Ok(Looked { round: Round::More, .. }) => self.wake(),
            Ok(Looked { save_due, watched: true, .. }) if save_due.is_none() || save_is_awaited => {}
            Ok(_) | Err(_) => self.nudge.notify_one(),
        }
    }

    fn woken(self: &Arc<Self>) -> Weak<dyn Woken> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }
}

impl Woken for Looker {
    fn wake(self: Arc<Self>) {
        let lanes = self.lanes.clone();
        lanes.push(move |buffers| self.look_again(buffers));
    }
}
