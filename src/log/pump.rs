//! One task for each followed container.
//!
//! ```text
//!   open ⟲ ──▶ set the watch ──▶ round ──▶ rest ──▶ (event, command, save due, retry) ──▶ set the watch …
//!                                │
//!                                └─ nothing left, and the container has ended ──▶ save, close
//! ```
//!
//! A quiet container costs nothing; a busy one is looked at when the watcher says so, which lets lines gather, and so they move in
//! batches.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

use super::counters::Counters;
use super::error::Error;
use super::lanes::{Buffers, Lanes};
use super::path::LogPath;
use super::transfer::{Round, Transfer};
use super::watch::Watcher;
use crate::id::ContainerId;
use crate::record::Records;

/// Between two looks at a spool that can't be watched (its directory isn't there, or the user's watches are used up).
const LOOK: Duration = Duration::from_secs(1);
/// Between two attempts to read or write what has failed.
const RETRY: Duration = Duration::from_secs(1);

/// Between two attempts to open a log, doubled each time up to this: its directory may never come again.
const REOPEN_AT_MOST: Duration = Duration::from_secs(30);

/// Who waits for the log to be open.
type Asker = oneshot::Sender<Result<(), Error>>;

/// What a pump can be told.
pub(super) enum Command {
    /// Say when the log is open, or why it isn't.
    Ready(Asker),
    /// The container has ended: say when everything is written, and end.
    Drain(oneshot::Sender<()>),
    /// Go on in the file that is at the log's path now.
    Reopen(Asker),
    /// End now; say when.
    Stop(oneshot::Sender<()>),
}

/// What a pump is made from.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) id: ContainerId,
    pub(super) spool: PathBuf,
    pub(super) path: LogPath,
    pub(super) records: Records,
    /// None: no inotify to be had.
    pub(super) watcher: Option<Arc<Watcher>>,
    pub(super) counters: Arc<Counters>,
    pub(super) lanes: Arc<Lanes>,
}

struct Pump {
    id: ContainerId,
    directory: Arc<Path>,
    transfer: Arc<Mutex<Transfer>>,
    watcher: Option<Arc<Watcher>>,
    lanes: Arc<Lanes>,
    wake: Arc<Notify>,
    /// The watch that has not woken us yet.
    watch: Option<i32>,
    /// Who waits for the end of the log; the container has ended if anyone does.
    draining: Vec<oneshot::Sender<()>>,
    /// The failure has been told.
    failing: bool,
}

/// Opens the log, says so, and follows the spool until told to end. One that can't be opened is tried again and again.
pub(super) async fn run(start: Start, opened: Asker, mut commands: mpsc::Receiver<Command>) {
    let Some((transfer, draining)) = open(&start, opened, &mut commands).await else { return };
    let directory = start.spool.parent().unwrap_or_else(|| Path::new("")).into();
    let (transfer, wake) = (Arc::new(Mutex::new(transfer)), Arc::default());
    let Start { id, watcher, lanes, .. } = start;
    let mut pump = Pump { id, directory, transfer, watcher, lanes, wake, watch: None, draining, failing: false };
    pump.follow(&mut commands).await;
    if let (Some(watcher), Some(watch)) = (&pump.watcher, pump.watch) {
        watcher.disarm(watch, &pump.wake);
    }
}

/// Opens the log as soon as it can be. Whoever asks meanwhile is told why it can't; those who wait for its end are given back.
/// None when told to end.
async fn open(
    start: &Start,
    opened: Asker,
    commands: &mut mpsc::Receiver<Command>,
) -> Option<(Transfer, Vec<oneshot::Sender<()>>)> {
    let (mut asker, mut draining, mut pause) = (Some(opened), Vec::new(), RETRY);
    loop {
        let Start { id, spool, path, records, counters, watcher: _, lanes } = start.clone();
        let outcome = on_lane(&lanes, &start.id, |_| Transfer::open(id, spool, path, records, counters)).await;
        let (transfer, answer) = match outcome {
            Ok(transfer) => (Some(transfer), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // whoever asked may have gone away; the log is wanted all the same
        let _ = asker.take().map(|asker| asker.send(answer));
        if let Some(transfer) = transfer {
            return Some((transfer, draining));
        }
        match tokio::time::timeout(pause, commands.recv()).await {
            Err(_) => pause = (pause * 2).min(REOPEN_AT_MOST),
            Ok(Some(Command::Ready(waiting) | Command::Reopen(waiting))) => asker = Some(waiting),
            Ok(Some(Command::Drain(drained))) => draining.push(drained),
            Ok(Some(Command::Stop(stopped))) => {
                let _ = stopped.send(());
                return None;
            }
            Ok(None) => return None,
        }
    }
}

impl Pump {
    async fn follow(&mut self, commands: &mut mpsc::Receiver<Command>) {
        loop {
            let (round, save_due) = self.round().await;
            if round == Some(Round::Nothing) && !self.draining.is_empty() {
                return self.end_drained(commands).await;
            }
            tokio::select! {
                biased;
                command = commands.recv() => if !self.obey(command).await { return },
                () = self.rest(round, save_due) => {}
            }
        }
    }

    /// Everything is written: saves, and tells those who wait. What else was asked meanwhile finds the pump gone.
    async fn end_drained(&mut self, commands: &mut mpsc::Receiver<Command>) {
        let saved = self.on_transfer(|transfer, _| {
            transfer.save();
            Ok(())
        });
        let _ = saved.await;
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Drain(drained) = command {
                self.draining.push(drained);
            }
        }
        for drained in self.draining.drain(..) {
            let _ = drained.send(());
        }
    }

    /// Does what it is told; false when that is to end. Whoever asked may have gone away since.
    async fn obey(&mut self, command: Option<Command>) -> bool {
        match command {
            Some(Command::Ready(ready)) => {
                let _ = ready.send(Ok(()));
            }
            Some(Command::Drain(drained)) => self.draining.push(drained),
            Some(Command::Reopen(reopened)) => {
                let _ = reopened.send(self.on_transfer(|transfer, _| transfer.reopen()).await);
            }
            Some(Command::Stop(stopped)) => {
                let _ = stopped.send(());
                return false;
            }
            None => return false,
        }
        true
    }

    /// One round; None when it failed. Says also when the position is to be saved.
    async fn round(&mut self) -> (Option<Round>, Option<Instant>) {
        let set_watch = self.watch_setter();
        let outcome = self.on_transfer(move |transfer, buffers| {
            // before reading, so that what is written from here on wakes us
            let watch = set_watch();
            Ok((watch, transfer.round(buffers).map(|round| (round, transfer.save_due()))))
        });
        let outcome = outcome.await.and_then(|(watch, outcome)| {
            self.watch = watch;
            outcome
        });
        match outcome {
            Ok((round, save_due)) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(container = %self.id, "the log is written again");
                }
                (Some(round), save_due)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(container = %self.id, %error, "the log has stopped; trying again");
                }
                (None, None)
            }
        }
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self, round: Option<Round>, save_due: Option<Instant>) {
        match round {
            None => return tokio::time::sleep(RETRY).await,
            Some(Round::More) => return,
            Some(Round::Moved) if !self.draining.is_empty() => return,
            Some(Round::Moved | Round::Nothing) => {}
        }
        let save_due = save_due.map(tokio::time::Instant::from_std);
        let look = if self.watch.is_none() { Some(tokio::time::Instant::now() + LOOK) } else { None };
        tokio::select! {
            () = self.wake.notified() => self.watch = None,
            () = until(save_due) => {}
            () = until(look) => {}
        }
    }

    /// Sets the watch unless it is set or can't be; to be called on a lane, since the directory's disk may hang.
    fn watch_setter(&self) -> impl FnOnce() -> Option<i32> + Send + use<> {
        let (set, watcher, directory, wake) =
            (self.watch, self.watcher.clone(), self.directory.clone(), self.wake.clone());
        let told = |directory: &Path, error: &io::Error| {
            tracing::debug!(directory = %directory.display(), %error, "the spool can't be watched; it is looked at each second");
        };
        move || set.or_else(|| watcher?.arm(&directory, &wake).inspect_err(|error| told(&directory, error)).ok())
    }

    async fn on_transfer<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Transfer, &mut Buffers) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let transfer = self.transfer.clone();
        let act =
            move |buffers: &mut Buffers| act(&mut transfer.lock().unwrap_or_else(PoisonError::into_inner), buffers);
        on_lane(&self.lanes, &self.id, act).await
    }
}

/// Runs something that may block; the container can't be followed any more should that die.
async fn on_lane<T: Send + 'static>(
    lanes: &Arc<Lanes>,
    id: &ContainerId,
    act: impl FnOnce(&mut Buffers) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    lanes.run(act).await.unwrap_or_else(|| Err(Error::NotFollowed(id.clone())))
}

/// Sleeps until then; for ever without one.
async fn until(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
