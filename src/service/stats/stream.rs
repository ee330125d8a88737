//! The Stream* twins of the stats lists. Only what runs has stats, so the figures are read at once and told in batches.

use super::{list_container_stats, list_pod_sandbox_metrics, list_pod_sandbox_stats};
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

/// Answers StreamPodSandboxStats.
pub async fn stream_pod_sandbox_stats(
    daemon: &Daemon,
    request: cri::StreamPodSandboxStatsRequest,
) -> Result<Replies<cri::StreamPodSandboxStatsResponse>> {
    let cri::StreamPodSandboxStatsRequest { filter } = request;
    let cri::ListPodSandboxStatsResponse { stats } =
        list_pod_sandbox_stats(daemon, cri::ListPodSandboxStatsRequest { filter }).await?;
    Ok(in_batches(stats.into_iter(), |pod_sandbox_stats| cri::StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}

/// Answers StreamPodSandboxMetrics.
pub async fn stream_pod_sandbox_metrics(
    daemon: &Daemon,
    request: cri::StreamPodSandboxMetricsRequest,
) -> Result<Replies<cri::StreamPodSandboxMetricsResponse>> {
    let cri::StreamPodSandboxMetricsRequest {} = request;
    let cri::ListPodSandboxMetricsResponse { pod_metrics } =
        list_pod_sandbox_metrics(daemon, cri::ListPodSandboxMetricsRequest {}).await?;
    let reply = |pod_sandbox_metrics| cri::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
    Ok(in_batches(pod_metrics.into_iter(), reply))
}
