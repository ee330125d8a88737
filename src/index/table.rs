//! The table itself: sandboxes and containers by id, and the rules by which one may take another's place.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::{Container, Sandbox, State};
use crate::error::{Error, Result};
use crate::id::{ContainerId, SandboxId};

/// All sandboxes and containers that are ours.
#[derive(Default)]
pub struct Table {
    sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    containers: BTreeMap<ContainerId, Arc<Container>>,
}

impl Table {
    /// Every sandbox, by id.
    pub fn sandboxes(&self) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.sandboxes.values()
    }

    /// Every container, by id.
    pub fn containers(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.containers.values()
    }

    /// The containers of one sandbox.
    pub fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        self.containers.values().filter(|container| container.sandbox_id == *sandbox).cloned().collect()
    }

    /// The sandbox with that id, or the only one whose id begins so.
    pub fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        by_prefix(&self.sandboxes, id).ok_or_else(|| Error::no_sandbox(id))
    }

    /// The container with that id, or the only one whose id begins so.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        by_prefix(&self.containers, id).ok_or_else(|| Error::no_container(id))
    }

    /// The sandbox that holds a Docker name.
    pub fn sandbox_named(&self, docker_name: &str) -> Option<Arc<Sandbox>> {
        self.sandboxes.values().find(|sandbox| sandbox.docker_name == docker_name).cloned()
    }

    /// The container that holds a Docker name.
    pub fn container_named(&self, docker_name: &str) -> Option<Arc<Container>> {
        self.containers.values().find(|container| container.docker_name == docker_name).cloned()
    }

    /// Takes in a sandbox as it is now.
    pub(super) fn put_sandbox(&mut self, sandbox: Sandbox) {
        self.sandboxes.insert(sandbox.id.clone(), Arc::new(sandbox));
    }

    /// Takes in a container as it is now, unless what is known is newer.
    pub(super) fn put_container(&mut self, container: Container) {
        match self.containers.get(&container.id) {
            Some(known) if is_older(&container, known) => {}
            _ => {
                self.containers.insert(container.id.clone(), Arc::new(container));
            }
        }
    }

    /// Drops a sandbox.
    pub(super) fn drop_sandbox(&mut self, id: &str) -> Option<Arc<Sandbox>> {
        self.sandboxes.remove(id)
    }

    /// Drops a container.
    pub(super) fn drop_container(&mut self, id: &str) -> Option<Arc<Container>> {
        self.containers.remove(id)
    }
}

/// An id of fewer digits is taken for a prefix only when nothing else begins with it.
fn by_prefix<K: std::borrow::Borrow<str> + Ord, V>(map: &BTreeMap<K, Arc<V>>, id: &str) -> Option<Arc<V>> {
    if id.is_empty() {
        return None;
    }
    if let Some(found) = map.get(id) {
        return Some(found.clone());
    }
    let from = (std::ops::Bound::Included(id), std::ops::Bound::Unbounded);
    let mut candidates = map.range::<str, _>(from).take_while(|(key, _)| Borrow::borrow(*key).starts_with(id));
    match (candidates.next(), candidates.next()) {
        (Some((_, found)), None) => Some(found.clone()),
        _ => None,
    }
}

/// The borrow of a key as text, named so that the compiler needs no help.
trait Borrow {
    fn borrow(&self) -> &str;
}

impl<K: std::borrow::Borrow<str>> Borrow for K {
    fn borrow(&self) -> &str {
        std::borrow::Borrow::borrow(self)
    }
}

/// An inspect that began before an exit can end after it: the same start seen again doesn't bring the container back.
fn is_older(new: &Container, known: &Container) -> bool {
    match (new.state, known.state) {
        (State::Created, State::Running | State::Exited) => true,
        (State::Running, State::Exited) => new.started_at_ns <= known.started_at_ns,
        _ => false,
    }
}
