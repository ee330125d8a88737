//! One task for each followed container.
//!
//! ```text
//!   open ⟲ ──▶ round ──▶ rest ──▶ (nudge, command, save due, retry) ──▶ round …
//!              │
//!              └─ nothing left, and the container has ended ──▶ save, close
//! ```
//!
//! Lines move without it: when the spool changes, its [`Looker`] does a round by itself, and nudges the task only for what it alone sees
//! to. A quiet container costs nothing; a busy one is looked at when the watcher says so, which lets lines gather, and so they move
//! in batches.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::counters::Counters;
use super::error::Error;
use super::lanes::Lanes;
use super::looker::{Looked, Looker};
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
    looker: Arc<Looker>,
    /// Who waits for the end of the log; the container has ended if anyone does.
    draining: Vec<oneshot::Sender<()>>,
    /// The failure has been told.
    failing: bool,
}

/// Opens the log, says so, and follows the spool until told to end. One that can't be opened is tried again and again.
pub(super) async fn run(start: Start, opened: Asker, mut commands: mpsc::Receiver<Command>) {
    let Some((transfer, draining)) = open(&start, opened, &mut commands).await else { return };
    let Start { id, spool, watcher, lanes, .. } = start;
    let looker = Looker::new(&spool, transfer, watcher, lanes);
    Pump { id, looker, draining, failing: false }.follow(&mut commands).await;
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
        let opening = lanes.run(|_| Transfer::open(id, spool, path, records, counters));
        let (transfer, answer) = match opening.await {
            Some(Ok(transfer)) => (Some(transfer), Ok(())),
            Some(Err(error)) => (None, Err(error)),
            None => (None, Err(Error::NotFollowed(start.id.clone()))),
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
            let looked = self.round().await;
            if looked.is_some_and(|looked| looked.round == Round::Nothing) && !self.draining.is_empty() {
                return self.end_drained(commands).await;
            }
            tokio::select! {
                biased;
                command = commands.recv() => if !self.obey(command).await { return },
                () = self.rest(looked) => {}
            }
        }
    }

    /// Everything is written: saves, and tells those who wait. What else was asked meanwhile finds the pump gone.
    async fn end_drained(&mut self, commands: &mut mpsc::Receiver<Command>) {
        self.looker.end(Transfer::save).await;
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
                let outcome = self.looker.act(Transfer::reopen).await;
                let _ = reopened.send(outcome.unwrap_or_else(|| Err(Error::NotFollowed(self.id.clone()))));
            }
            Some(Command::Stop(stopped)) => {
                self.looker.end(|_| {}).await;
                let _ = stopped.send(());
                return false;
            }
            None => {
                self.looker.end(|_| {}).await;
                return false;
            }
        }
        true
    }

    /// One round; None when it failed.
    async fn round(&mut self) -> Option<Looked> {
        let outcome = self.looker.round().await.unwrap_or_else(|| Err(Error::NotFollowed(self.id.clone())));
        match outcome {
            Ok(looked) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(container = %self.id, "the log is written again");
                }
                Some(looked)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(container = %self.id, %error, "the log has stopped; trying again");
                }
                None
            }
        }
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self, looked: Option<Looked>) {
        let Some(Looked { round, save_due, watched }) = looked else { return tokio::time::sleep(RETRY).await };
        if round == Round::More || (round == Round::Moved && !self.draining.is_empty()) {
            return;
        }
        let save_due = save_due.map(tokio::time::Instant::from_std);
        let look = (!watched).then(|| tokio::time::Instant::now() + LOOK);
        tokio::select! {
            () = self.looker.nudged() => {}
            () = until(save_due) => {}
            () = until(look) => {}
        }
    }
}

/// Sleeps until then; for ever without one.
async fn until(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
