//! The table itself: sandboxes and containers by id, and the rules by which one may take another's place.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::model::{Container, Sandbox, State};
use crate::error::{Error, Result};
use crate::id::{ContainerId, SandboxId};

/// Ids of what is gone that are kept: an inspect that began before a removal ends within moments of it.
const GONE: usize = 1024;

/// All sandboxes and containers that are ours.
#[derive(Default)]
pub struct Table {
    sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    containers: BTreeMap<ContainerId, Arc<Container>>,
    /// Latest last. Docker never gives an id twice: what is in here doesn't come back.
    gone: VecDeque<String>,
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
        by_prefix(&self.sandboxes, id)?.ok_or_else(|| Error::no_sandbox(id))
    }

    /// The container with that id, or the only one whose id begins so.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        by_prefix(&self.containers, id)?.ok_or_else(|| Error::no_container(id))
    }

    /// Whether there is a sandbox or a container with exactly that id.
    pub fn has(&self, id: &str) -> bool {
        self.sandboxes.contains_key(id) || self.containers.contains_key(id)
    }

    /// The sandbox that holds a Docker name.
    pub fn sandbox_named(&self, docker_name: &str) -> Option<Arc<Sandbox>> {
        self.sandboxes.values().find(|sandbox| sandbox.docker_name == docker_name).cloned()
    }

    /// The container that holds a Docker name.
    pub fn container_named(&self, docker_name: &str) -> Option<Arc<Container>> {
        self.containers.values().find(|container| container.docker_name == docker_name).cloned()
    }

    /// Takes in a sandbox as it is now, unless what is known is newer; tells whether it did.
    pub(super) fn put_sandbox(&mut self, sandbox: Sandbox) -> bool {
        let known = self.sandboxes.get(&sandbox.id);
        let stale = known.is_some_and(|known| known.has_ended() && sandbox.started_at_ns <= known.started_at_ns);
        if (stale && !sandbox.has_ended()) || self.is_gone(sandbox.id.as_str()) {
            return false;
        }
        self.sandboxes.insert(sandbox.id.clone(), Arc::new(sandbox));
        true
    }

    /// Takes in a container as it is now, unless what is known is newer; tells whether it did.
    pub(super) fn put_container(&mut self, container: Container) -> bool {
        let known = self.containers.get(&container.id);
        if known.is_some_and(|known| age(&container) < age(known)) || self.is_gone(container.id.as_str()) {
            return false;
        }
        self.containers.insert(container.id.clone(), Arc::new(container));
        true
    }

    /// Drops what is gone for good.
    pub(super) fn drop_sandbox(&mut self, id: &str) -> Option<Arc<Sandbox>> {
        self.bury(id);
        self.sandboxes.remove(id)
    }

    /// Drops what is gone for good.
    pub(super) fn drop_container(&mut self, id: &str) -> Option<Arc<Container>> {
        self.bury(id);
        self.containers.remove(id)
    }

    /// Whether something with that id was here and is gone.
    pub(super) fn is_gone(&self, id: &str) -> bool {
        self.gone.iter().any(|gone| gone == id)
    }

    fn bury(&mut self, id: &str) {
        if self.is_gone(id) {
            return;
        }
        if self.gone.len() == GONE {
            self.gone.pop_front();
        }
        self.gone.push_back(id.to_owned());
    }
}

/// An id of fewer digits is taken for a prefix when only one thing begins with it; what more than one begins with names none.
fn by_prefix<K: Borrow<str> + Ord, V>(map: &BTreeMap<K, Arc<V>>, id: &str) -> Result<Option<Arc<V>>> {
    if id.is_empty() {
        return Ok(None);
    }
    if let Some(found) = map.get(id) {
        return Ok(Some(found.clone()));
    }
    let from = (std::ops::Bound::Included(id), std::ops::Bound::Unbounded);
    let mut candidates = map.range::<str, _>(from).take_while(|(key, _)| K::borrow(key).starts_with(id));
    match (candidates.next(), candidates.next()) {
        (Some((_, found)), None) => Ok(Some(found.clone())),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Error::invalid("id", format!("{id:?} is the beginning of more than one id"))),
    }
}

/// What orders two views of one container: a later start, and then how far it has come since. An inspect that began before an
/// exit can end after it, and doesn't bring the container back.
fn age(container: &Container) -> (i64, u8) {
    let rank = match container.state {
        State::Created => 0,
        State::Running => 1,
        State::Exited | State::Unknown => 2,
    };
    (container.started_at_ns, rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{ContainerConfig, ContainerInspect, ContainerState};
    use crate::translate;

    const START: &str = "2023-11-14T22:13:20Z";
    const LATER: &str = "2023-11-14T22:13:25Z";

    fn seen(id: &str, name: &str, kind: &str, status: &str, started_at: &str) -> ContainerInspect {
        let labels = [("io.kubernetes.docker.type", kind), ("io.kubernetes.sandbox.id", "5a4d")];
        let state = ContainerState {
            status: status.to_owned(),
            running: status == "running",
            started_at: started_at.to_owned(),
            finished_at: LATER.to_owned(),
            pid: i32::from(status == "running"),
            ..ContainerState::default()
        };
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config = ContainerConfig { labels, ..ContainerConfig::default() };
        ContainerInspect { id: id.to_owned(), name: name.to_owned(), state, config, ..ContainerInspect::default() }
    }

    fn container(id: &str, status: &str, started_at: &str) -> Container {
        let inspect = seen(id, "/k8s_c_p_n_u_0", "container", status, started_at);
        translate::container::from_inspect(&inspect).unwrap()
    }

    fn sandbox(status: &str, started_at: &str) -> Sandbox {
        let inspect = seen("5a4d", "/k8s_POD_p_n_u_0", "podsandbox", status, started_at);
        translate::sandbox::from_inspect(&inspect).unwrap()
    }

    #[test]
    fn an_old_view_does_not_bring_a_container_back() {
        let mut table = Table::default();
        assert!(table.put_container(container("aa", "exited", START)));
        assert!(!table.put_container(container("aa", "running", START)));
        assert!(table.put_container(container("aa", "running", LATER)), "started again");
        assert!(!table.put_container(container("aa", "exited", START)), "the end of the earlier run");
    }

    #[test]
    fn an_old_view_does_not_bring_a_sandbox_back() {
        let mut table = Table::default();
        assert!(table.put_sandbox(sandbox("exited", START)));
        assert!(!table.put_sandbox(sandbox("running", START)));
        assert!(table.put_sandbox(sandbox("running", LATER)));
    }

    #[test]
    fn what_is_gone_stays_gone() {
        let mut table = Table::default();
        table.put_container(container("aa", "running", START));
        table.drop_container("aa");
        assert!(!table.put_container(container("aa", "exited", START)));
        for number in 0..GONE {
            table.drop_container(&number.to_string());
        }
        assert_eq!(table.gone.len(), GONE);
    }

    #[test]
    fn a_beginning_names_one_thing_or_none() {
        let mut table = Table::default();
        table.put_container(container("aab", "running", START));
        table.put_container(container("aac", "running", START));
        assert_eq!(table.container("aab").unwrap().id.as_str(), "aab");
        assert!(matches!(table.container("aa"), Err(Error::InvalidArgument { .. })));
        assert!(matches!(table.container("b"), Err(Error::NotFound { .. })));
        assert!(matches!(table.container(""), Err(Error::NotFound { .. })));
    }
}
