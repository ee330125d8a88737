//! The Stream* twins of the stats lists. Only what runs has stats, so the figures are read at once and told in batches.

use super::list_container_stats;
use crate::cri;
use crate::error::Result;
use crate::service::{Daemon, Replies, in_batches};

/// Answers StreamContainerStats.
pub async fn stream_container_stats(
    daemon: &Daemon,
    request: cri::StreamContainerStatsRequest,
) -> Result<Replies<cri::StreamContainerStatsResponse>> {
    let cri::StreamContainerStatsRequest { filter } = request;
    let cri::ListContainerStatsResponse { stats } =
        list_container_stats(daemon, cri::ListContainerStatsRequest { filter }).await?;
    Ok(in_batches(stats.into_iter(), |container_stats| cri::StreamContainerStatsResponse { container_stats }))
}
