//! The loop that keeps the index true: connect, subscribe, list, then follow events; on any break, from the top.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use super::model::Exit;
use super::{EngineFacts, Index, now_ns};
use crate::engine::model::Event;
use crate::engine::{Error, Events};
use crate::id::ContainerId;

/// Between two attempts to reach the engine.
const RETRY: Duration = Duration::from_millis(250);
/// Between two looks whether the engine still lists.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long such a look may take.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(4);
/// Between two full listings.
const RECONCILE: Duration = Duration::from_secs(30);

/// Runs for ever.
pub(super) async fn run(index: Index) {
    let mut told = false;
    loop {
        match connect(&index).await {
            Ok(events) => {
                told = false;
                follow(&index, events).await;
                tracing::warn!("the docker engine's event stream has ended; connecting again");
                index.lost("the event stream has ended");
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "the docker engine can't be followed; trying again");
                }
                index.lost(&error.to_string());
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Agrees on a version, subscribes, and only then lists: what happens during the listing comes as an event.
async fn connect(index: &Index) -> Result<UnboundedReceiver<Event>, Error> {
    let engine = &index.inner.engine;
    let version = engine.negotiate().await?;
    let info = engine.info().await?;
    tracing::info!(engine = version.version, api = ?engine.api().map(|api| api.to_string()), "connected to the docker engine");
    *index.inner.facts.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(EngineFacts { version, info }));
    let events = read(engine.events().await?);
    index.relist(true).await?;
    index.images().sync().await?;
    // what has ended while nobody looked is not shown as running
    index.ends_told(0).await;
    index.inner.events.begin();
    index.inner.health.send_modify(|health| {
        health.synced = true;
        health.stream_down_since = None;
        health.failure = None;
    });
    Ok(events)
}

/// Reads events in a task of its own: the engine drops what a subscriber that is busy listing doesn't read at once.
fn read(mut events: Events) -> UnboundedReceiver<Event> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                event = events.next() => match event.map(|event| sender.send(event)) {
                    Some(Ok(())) => {}
                    _ => return,
                },
                () = sender.closed() => return,
            }
        }
    });
    receiver
}

/// Takes events until the stream ends, with a heartbeat and a reconcile beside it.
async fn follow(index: &Index, mut events: UnboundedReceiver<Event>) {
    let mut heartbeat = interval(HEARTBEAT);
    let mut reconcile = interval(RECONCILE);
    reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reconcile.reset();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => take(index, event),
                None => return,
            },
            _ = heartbeat.tick() => beat(index.clone()),
            _ = reconcile.tick() => {
                let index = index.clone();
                tokio::spawn(async move {
                    let (listed, images) = tokio::join!(index.relist(false), index.images().sync());
                    if let Err(error) = listed.and(images) {
                        tracing::warn!(%error, "reconcile failed");
                    }
                });
            }
        }
    }
}

/// Looks whether the engine still lists: a wedged one answers pings but no listings.
fn beat(index: Index) {
    tokio::spawn(async move {
        let begun = Instant::now();
        match index.inner.engine.list_one(HEARTBEAT_LIMIT).await {
            Ok(()) => {
                index.inner.health.send_modify(|health| health.heartbeat = Some(begun.elapsed()));
                index.listed();
            }
            Err(error) => index.inner.health.send_modify(|health| health.failure = Some(error.to_string())),
        }
    });
}

/// Takes one event in. Never waits: what needs the engine goes on in a task of its own.
fn take(index: &Index, event: Event) {
    if event.time_ns > 0 {
        let lag_ns = u64::try_from(now_ns() - event.time_ns).unwrap_or_default();
        index.inner.lag.note(Duration::from_nanos(lag_ns));
    }
    let id = event.actor.id.as_str();
    let attribute = |key: &str| event.actor.attributes.get(key).map(String::as_str);
    match (event.kind.as_str(), event.action.as_str()) {
        ("image", _) => index.images().changed(),
        ("container", "exec_die") => {
            let code = attribute("exitCode").and_then(|code| code.parse().ok());
            if let (Some(exec), Some(code)) = (attribute("execID"), code) {
                index.inner.execs.ended(exec, code);
            }
        }
        ("container", "oom") => index.saw_oom(id),
        ("container", "die") => {
            index.sandbox_ended(id);
            if index.table().container(id).is_ok() {
                let code = attribute("exitCode").and_then(|code| code.parse().ok());
                let exit = code.map(|code| Exit { code, at_ns: event.time_ns });
                index.container_ended(&ContainerId::new(id), exit);
            }
        }
        ("container", "destroy") => index.remove(id),
        ("container", "create" | "start" | "rename" | "update" | "pause" | "unpause") => {
            let ours = attribute("name").is_some_and(|name| index.is_own_write(name));
            let labelled = attribute(crate::translate::label::TYPE).is_some();
            if labelled && !ours && !index.knows_start(id, &event.action) {
                index.refresh(id);
            }
        }
        _ => {}
    }
}

impl Index {
    /// A listing has come to its end.
    pub(super) fn listed(&self) {
        self.inner.health.send_modify(|health| health.listed_at = Some(Instant::now()));
    }

    /// The engine can't be followed any more.
    fn lost(&self, why: &str) {
        self.inner.execs.forget_all();
        self.inner.health.send_modify(|health| {
            health.synced = false;
            health.stream_down_since.get_or_insert_with(Instant::now);
            health.failure = Some(why.to_owned());
        });
    }
}
