//! The table itself: sandboxes and containers by id, the rules by which one may take another's place, and what is news in it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::OwnText;
use super::model::{Container, Happening, Sandbox, State, name_end};
use super::shelf::Shelves;
use crate::error::{Error, Result};
use crate::id::{ContainerId, SandboxId};
use crate::translate::name::{self, Name};

/// Ids of what is gone that are kept: an inspect that began before a removal ends within moments of it.
const GONE: usize = 1024;

/// All sandboxes and containers that are ours.
#[derive(Default)]
pub struct Table {
    sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    containers: BTreeMap<ContainerId, Arc<Container>>,
    /// Latest last. Docker never gives an id twice: what is in here doesn't come back.
    gone: VecDeque<String>,
    /// What has happened since this was last taken.
    news: Vec<News>,
    shared: Shelves,
}

/// A difference that somebody may want to be told of.
#[derive(Debug)]
pub(super) struct News {
    pub(super) id: String,
    pub(super) what: Happening,
    pub(super) sandbox_id: SandboxId,
    /// A sandbox that is gone, as it was last.
    pub(super) last: Option<Arc<Sandbox>>,
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
        let Some(Name::Container { attempt, .. }) = name::parse(docker_name) else { return None };
        let wanted = OwnText::new(docker_name, &name_end(attempt));
        let has_it = |known: &&Arc<Container>| known.attempt == attempt && known.docker_name == wanted;
        self.containers.values().find(has_it).cloned()
    }

    /// Takes in a sandbox as it is now, unless what is known is newer; tells whether it did.
    pub(super) fn put_sandbox(&mut self, mut sandbox: Sandbox) -> bool {
        let known = self.sandboxes.get(&sandbox.id);
        let stale = known.is_some_and(|known| known.has_ended() && sandbox.started_at_ns <= known.started_at_ns);
        if (stale && !sandbox.has_ended()) || self.is_gone(sandbox.id.as_str()) {
            return false;
        }
        for what in of_sandbox(known, &sandbox) {
            self.news.push(News { id: sandbox.id.to_string(), what, sandbox_id: sandbox.id.clone(), last: None });
        }
        sandbox.share(&mut self.shared);
        self.sandboxes.insert(sandbox.id.clone(), Arc::new(sandbox));
        true
    }

    /// Takes in a container as it is now, unless what is known is newer; tells whether it did.
    pub(super) fn put_container(&mut self, mut container: Container) -> bool {
        let known = self.containers.get(&container.id);
        if known.is_some_and(|known| age(&container) < age(known)) || self.is_gone(container.id.as_str()) {
            return false;
        }
        for what in of_container(known, &container) {
            let (id, sandbox_id) = (container.id.to_string(), container.sandbox_id.clone());
            self.news.push(News { id, what, sandbox_id, last: None });
        }
        container.share(&mut self.shared);
        self.containers.insert(container.id.clone(), Arc::new(container));
        true
    }

    /// Drops what is gone for good.
    pub(super) fn drop_sandbox(&mut self, id: &str) -> Option<Arc<Sandbox>> {
        self.bury(id);
        let gone = self.sandboxes.remove(id)?;
        let last = Some(Arc::new(Sandbox { ready: false, pid: 0, ..(*gone).clone() }));
        for what in at_the_end(gone.ready) {
            let (id, sandbox_id) = (gone.id.to_string(), gone.id.clone());
            self.news.push(News { id, what, sandbox_id, last: last.clone() });
        }
        Some(gone)
    }

    /// Drops what is gone for good.
    pub(super) fn drop_container(&mut self, id: &str) -> Option<Arc<Container>> {
        self.bury(id);
        let gone = self.containers.remove(id)?;
        for what in at_the_end(gone.state == State::Running) {
            let (id, sandbox_id) = (gone.id.to_string(), gone.sandbox_id.clone());
            self.news.push(News { id, what, sandbox_id, last: None });
        }
        Some(gone)
    }

    /// Whether something with that id was here and is gone.
    pub(super) fn is_gone(&self, id: &str) -> bool {
        self.gone.iter().any(|gone| gone == id)
    }

    /// What has happened since the last time, in its order.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
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

/// What a sandbox's new state tells beside the one that was known.
fn of_sandbox(known: Option<&Arc<Sandbox>>, now: &Sandbox) -> impl Iterator<Item = Happening> + use<> {
    let goes_on = |known: &Arc<Sandbox>| known.ready && is_same_run(known.started_at_ns, now.started_at_ns);
    let started = now.ready && !known.is_some_and(goes_on);
    let stopped = known.map_or(!now.ready, |known| known.ready && (started || !now.ready));
    happenings(known.is_none(), stopped, started)
}

/// What a container's new state tells beside the one that was known. A state that nobody knows is no news.
fn of_container(known: Option<&Arc<Container>>, now: &Container) -> impl Iterator<Item = Happening> + use<> {
    let ran = known.is_some_and(|known| known.state == State::Running);
    let goes_on = ran && known.is_some_and(|known| is_same_run(known.started_at_ns, now.started_at_ns));
    let started = now.state == State::Running && !goes_on;
    let stopped = match now.state {
        State::Exited => known.is_none_or(|known| known.state != State::Exited),
        State::Running => ran && started,
        State::Created | State::Unknown => false,
    };
    happenings(known.is_none(), stopped, started)
}

/// Two views of the same run, told by its start; one that a listing alone has told of has none yet.
fn is_same_run(known_ns: i64, now_ns: i64) -> bool {
    known_ns == 0 || known_ns == now_ns
}

/// In their order: what has started again unseen had stopped before.
fn happenings(is_new: bool, stopped: bool, started: bool) -> impl Iterator<Item = Happening> {
    let told = [(is_new, Happening::Created), (stopped, Happening::Stopped), (started, Happening::Started)];
    told.into_iter().filter_map(|(happened, what)| happened.then_some(what))
}

/// What the removal of something tells: one that was not seen to stop has.
fn at_the_end(was_running: bool) -> impl Iterator<Item = Happening> {
    was_running.then_some(Happening::Stopped).into_iter().chain([Happening::Deleted])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::model::{ContainerConfig, ContainerInspect, ContainerState};
    use crate::translate;

    pub(in crate::index) const START: &str = "2023-11-14T22:13:20Z";
    pub(in crate::index) const LATER: &str = "2023-11-14T22:13:25Z";

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

    pub(in crate::index) fn container(id: &str, status: &str, started_at: &str) -> Container {
        let inspect = seen(id, "/k8s_c_p_n_u_0", "container", status, started_at);
        translate::container::from_inspect(&inspect).unwrap()
    }

    pub(in crate::index) fn sandbox(status: &str, started_at: &str) -> Sandbox {
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

    fn news(table: &mut Table) -> Vec<Happening> {
        table.take_news().into_iter().map(|news| news.what).collect()
    }

    #[test]
    fn a_difference_is_news_once() {
        use Happening::{Created, Deleted, Started, Stopped};
        let mut table = Table::default();
        let steps = [
            (container("aa", "created", "0001-01-01T00:00:00Z"), vec![Created]),
            (container("aa", "running", START), vec![Started]),
            (container("aa", "running", START), vec![]),
            (container("aa", "running", LATER), vec![Stopped, Started]),
            (container("aa", "running", START), vec![]),
            (container("aa", "exited", LATER), vec![Stopped]),
            (container("aa", "exited", LATER), vec![]),
            (container("bb", "exited", START), vec![Created, Stopped]),
            (container("bb", "running", LATER), vec![Started]),
            (container("bb", "dead", LATER), vec![Stopped]),
        ];
        for (seen, wanted) in steps {
            let what = format!("{seen:?}");
            table.put_container(seen);
            assert_eq!(news(&mut table), wanted, "{what}");
        }
        for (id, wanted) in [("aa", vec![Deleted]), ("aa", vec![])] {
            table.drop_container(id);
            assert_eq!(news(&mut table), wanted);
        }
        table.put_container(container("dd", "running", START));
        table.drop_container("dd");
        assert_eq!(news(&mut table), [Created, Started, Stopped, Deleted]);
    }

    #[test]
    fn a_sandboxs_readiness_is_news() {
        use Happening::{Created, Deleted, Started, Stopped};
        let mut table = Table::default();
        for (status, start, wanted) in [
            ("running", START, vec![Created, Started]),
            ("running", START, vec![]),
            ("exited", START, vec![Stopped]),
            ("exited", START, vec![]),
            ("running", LATER, vec![Started]),
        ] {
            table.put_sandbox(sandbox(status, start));
            assert_eq!(news(&mut table), wanted, "{status} {start}");
        }
        table.drop_sandbox("5a4d");
        assert_eq!(news(&mut table), [Stopped, Deleted]);
    }

    #[test]
    fn what_only_a_listing_has_told_of_does_not_start_again_when_it_is_inspected() {
        let mut table = Table::default();
        table.put_container(container("aa", "running", ""));
        assert_eq!(news(&mut table), [Happening::Created, Happening::Started]);
        table.put_container(container("aa", "running", START));
        assert!(news(&mut table).is_empty());
    }
}
