//! GetContainerEvents: what happens to sandboxes and containers from now on, as the index tells it, with the whole pod's statuses.
//! The kubelet's evented PLEG follows it for ever; one that can't keep up is cut off with an error, and lists anew.
//!
//! Answered also while the engine is not known: the kubelet gives up after five failures in a row, and misses nothing here.

use futures_util::StreamExt;
use futures_util::stream::try_unfold;

use crate::cri;
use crate::error::Result;
use crate::service::{Daemon, Replies};
use crate::translate::event;

/// Answers GetContainerEvents.
pub async fn get_container_events(
    daemon: &Daemon,
    request: cri::GetEventsRequest,
) -> Result<Replies<cri::ContainerEventResponse>> {
    let cri::GetEventsRequest {} = request;
    let events = try_unfold(daemon.index.subscribe()?, async |mut subscription| {
        let told = subscription.next().await?;
        Ok(Some((event::to_response(&told), subscription)))
    });
    Ok(events.boxed())
}
