//! Filters of the List calls, held against what the index knows. Pure. An id matches by its beginning, as crictl uses it.

use std::collections::BTreeMap;

use crate::cri;
use crate::index::Texts;
use crate::index::model::{Container, Sandbox, State};

/// Whether a sandbox is asked for.
pub fn sandbox_matches(filter: Option<&cri::PodSandboxFilter>, sandbox: &Sandbox) -> bool {
    let Some(cri::PodSandboxFilter { id, state, label_selector }) = filter else { return true };
    let ready = if sandbox.ready { cri::PodSandboxState::SandboxReady } else { cri::PodSandboxState::SandboxNotready };
    sandbox.id.as_str().starts_with(id)
        && state.as_ref().is_none_or(|wanted| wanted.state == i32::from(ready))
        && selected(label_selector, &sandbox.labels)
}

/// Whether a container is asked for.
pub fn container_matches(filter: Option<&cri::ContainerFilter>, container: &Container) -> bool {
    let Some(cri::ContainerFilter { id, state, pod_sandbox_id, label_selector }) = filter else { return true };
    named(container, id, pod_sandbox_id)
        && state.as_ref().is_none_or(|wanted| wanted.state == i32::from(to_cri(container.state)))
        && selected(label_selector, &container.labels)
}

/// Whether a container's statistics are asked for.
pub fn container_stats_matches(filter: Option<&cri::ContainerStatsFilter>, container: &Container) -> bool {
    let Some(cri::ContainerStatsFilter { id, pod_sandbox_id, label_selector }) = filter else { return true };
    named(container, id, pod_sandbox_id) && selected(label_selector, &container.labels)
}

/// Whether a sandbox's statistics are asked for.
pub fn sandbox_stats_matches(filter: Option<&cri::PodSandboxStatsFilter>, sandbox: &Sandbox) -> bool {
    let Some(cri::PodSandboxStatsFilter { id, label_selector }) = filter else { return true };
    sandbox.id.as_str().starts_with(id) && selected(label_selector, &sandbox.labels)
}

/// CRI's word for a container's state.
pub(super) fn to_cri(state: State) -> cri::ContainerState {
    match state {
        State::Created => cri::ContainerState::ContainerCreated,
        State::Running => cri::ContainerState::ContainerRunning,
        State::Exited => cri::ContainerState::ContainerExited,
        State::Unknown => cri::ContainerState::ContainerUnknown,
    }
}

fn named(container: &Container, id: &str, pod_sandbox_id: &str) -> bool {
    container.id.as_str().starts_with(id) && container.sandbox_id.as_str().starts_with(pod_sandbox_id)
}

fn selected(selector: &BTreeMap<String, String>, labels: &Texts) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value.as_str()))
}
