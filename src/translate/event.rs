//! Events of the index as CRI tells them. Pure.

use super::{container, sandbox};
use crate::cri;
use crate::index::model::{Event, Happening};

/// With the statuses that the kubelet's evented PLEG takes for those of the whole pod.
pub fn to_response(event: &Event) -> cri::ContainerEventResponse {
    let Event { id, what, at_ns, sandbox, containers } = event;
    let kind = match what {
        Happening::Created => cri::ContainerEventType::ContainerCreatedEvent,
        Happening::Started => cri::ContainerEventType::ContainerStartedEvent,
        Happening::Stopped => cri::ContainerEventType::ContainerStoppedEvent,
        Happening::Deleted => cri::ContainerEventType::ContainerDeletedEvent,
    };
    cri::ContainerEventResponse {
        container_id: id.clone(),
        container_event_type: kind.into(),
        created_at: *at_ns,
        pod_sandbox_status: sandbox.as_ref().map(|known| sandbox::to_status(known)),
        containers_statuses: containers.iter().map(|known| container::to_status(known)).collect(),
    }
}
