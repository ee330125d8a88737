//! Holds the index against the engine's own listing: everything at a connect, what differs every 30 s after it.
//! What the listing alone can't tell is inspected, a few at a time, each with a limit of its own.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;

use super::model::State;
use super::{Index, locked};
use crate::engine::Error;
use crate::engine::model::ContainerListed;
use crate::id::SandboxId;
use crate::translate::{self, label, state};

/// Inspects under way at once.
const PARALLEL: usize = 8;
/// How long one inspect may take; a hung container is left for the next round.
const INSPECT_LIMIT: Duration = Duration::from_secs(2);
/// Ends that may be under way before the next is looked at: after a restart all that have ended are found at once.
const ENDS: usize = 64;
/// Until the next try for one that could not be inspected, doubled each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// At most so long.
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_secs(30);

impl Index {
    /// Lists, and inspects what is new or has changed. With `all`, what an earlier connection told counts for nothing.
    pub(super) async fn relist(&self, all: bool) -> Result<(), Error> {
        let mut listed = self.inner.engine.list_ids(label::TYPE).await?;
        self.listed();
        let there: HashSet<&str> = listed.iter().map(|item| item.id.as_str()).collect();
        let gone: Vec<String> = self.known_ids().into_iter().filter(|id| !there.contains(id.as_str())).collect();
        listed.retain(|item| self.is_ours_to_look_at(item) && (all || self.differs(item)));
        if !all {
            self.count_differences(listed.len() + gone.len());
        }
        let changed = listed.into_iter().map(|item| item.id);
        let waits = AtomicBool::new(true);
        futures_util::stream::iter(changed.chain(gone))
            .for_each_concurrent(PARALLEL, async |id: String| {
                if let Err(error) = self.look_at(&id).await {
                    tracing::warn!(id, %error, "inspect failed; what the listing tells serves until it succeeds");
                    self.look_at_listed(&id).await;
                    self.look_again(id);
                }
                // each end that is under way holds the engine's record; a disk that hangs is waited for once
                if waits.load(Ordering::Relaxed) && !self.ends_told(ENDS).await {
                    waits.store(false, Ordering::Relaxed);
                }
            })
            .await;
        Ok(())
    }

    /// What serves for one that can't be inspected.
    async fn look_at_listed(&self, id: &str) {
        match self.inner.engine.listed(id, INSPECT_LIMIT).await {
            Ok(Some(item)) => self.take_listed(&item),
            Ok(None) => {}
            Err(error) => tracing::warn!(id, %error, "not even listed"),
        }
    }

    /// Asks the engine about one container in a task of its own, and takes in what it says.
    pub fn refresh(&self, id: &str) {
        let (index, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            if let Err(error) = index.look_at(&id).await {
                tracing::debug!(id, %error, "inspect failed; it is tried again");
                index.look_again(id);
            }
        });
    }

    /// Asks again until the engine answers for one that could not be inspected; one task for each.
    fn look_again(&self, id: String) {
        if !locked(&self.inner.looking).insert(id.clone()) {
            return;
        }
        let index = self.clone();
        tokio::spawn(async move {
            let mut pause = LOOK_AGAIN;
            loop {
                tokio::time::sleep(pause).await;
                match index.look_at(&id).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!(id, %error, "inspect failed again"),
                }
                pause = (pause * 2).min(LOOK_AGAIN_AT_MOST);
            }
            locked(&index.inner.looking).remove(&id);
        });
    }

    async fn look_at(&self, id: &str) -> Result<(), Error> {
        match self.inner.engine.inspect(id, INSPECT_LIMIT).await {
            Ok(inspect) => self.take_in(&inspect).await,
            Err(error) if error.is_not_found() => self.remove(id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the index has a start already that an event tells of. What still runs in the table and whose end is under way has
    /// been started again by somebody else.
    pub(super) fn knows_start(&self, id: &str, action: &str) -> bool {
        let table = self.table();
        let sandbox = table.sandbox(id).is_ok_and(|sandbox| sandbox.ready || action == "create");
        let container = table.container(id).is_ok_and(|known| known.state == State::Running || action == "create");
        let again = action == "start" && self.is_ending(id);
        (sandbox || container) && !again && matches!(action, "create" | "start")
    }

    fn known_ids(&self) -> Vec<String> {
        let table = self.table();
        let sandboxes = table.sandboxes().map(|sandbox| SandboxId::as_str(&sandbox.id).to_owned());
        sandboxes.chain(table.containers().map(|container| container.id.as_str().to_owned())).collect()
    }

    /// What a write of ours is about is left to it; other users' containers are nothing to us.
    fn is_ours_to_look_at(&self, item: &ContainerListed) -> bool {
        let name = item.own_name().map(|name| name.trim_start_matches('/'));
        let ours = name.is_some_and(|name| translate::name::parse(name).is_some() && !self.is_own_write(name));
        ours || self.table().has(&item.id)
    }

    /// Whether a listed item isn't what the index has.
    fn differs(&self, item: &ContainerListed) -> bool {
        let table = self.table();
        let listed = state::state(&item.state, false);
        match (table.sandbox(&item.id), table.container(&item.id)) {
            (Ok(sandbox), _) => (sandbox.pid > 0) != (listed == State::Running),
            (_, Ok(container)) => match (listed, container.state) {
                // one that could not be started is `created` to the engine, one that is being removed `removing`
                (State::Created | State::Unknown, State::Exited) => false,
                (listed, known) => listed != known,
            },
            _ => true,
        }
    }

    fn count_differences(&self, count: usize) {
        if count > 0 {
            tracing::info!(count, "reconcile found differences");
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.inner.health.send_modify(|health| health.differences = health.differences.saturating_add(count));
        }
    }
}
