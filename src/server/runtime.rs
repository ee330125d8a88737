//! The CRI's RuntimeService on the verbs: what reads is awaited, what changes something runs detached from its client.
//! Nothing is decided here.

use tonic::Request;

use super::Service;
use super::trace::{Reply, ReplyStream};
use crate::cri;
use crate::cri::runtime_service_server::RuntimeService;
use crate::service::{container, detached, node, sandbox, stats};

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, request: Request<cri::VersionRequest>) -> Reply<cri::VersionResponse> {
        self.answer("Version", async { Ok(node::version::version(&self.daemon, request.into_inner()).await) }).await
    }

    async fn run_pod_sandbox(&self, request: Request<cri::RunPodSandboxRequest>) -> Reply<cri::RunPodSandboxResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { sandbox::run_pod_sandbox(&daemon, request.into_inner()).await };
        self.answer("RunPodSandbox", detached(verb)).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Reply<cri::StopPodSandboxResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { sandbox::stop_pod_sandbox(&daemon, request.into_inner()).await };
        self.answer("StopPodSandbox", detached(verb)).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Reply<cri::RemovePodSandboxResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { sandbox::remove_pod_sandbox(&daemon, request.into_inner()).await };
        self.answer("RemovePodSandbox", detached(verb)).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Reply<cri::PodSandboxStatusResponse> {
        self.answer("PodSandboxStatus", sandbox::pod_sandbox_status(&self.daemon, request.into_inner())).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Reply<cri::ListPodSandboxResponse> {
        self.answer("ListPodSandbox", sandbox::list_pod_sandbox(&self.daemon, request.into_inner())).await
    }

    type StreamPodSandboxesStream = ReplyStream<cri::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<cri::StreamPodSandboxesRequest>,
    ) -> Reply<Self::StreamPodSandboxesStream> {
        self.stream("StreamPodSandboxes", sandbox::stream_pod_sandboxes(&self.daemon, request.into_inner())).await
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Reply<cri::CreateContainerResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { container::create_container(&daemon, request.into_inner()).await };
        self.answer("CreateContainer", detached(verb)).await
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Reply<cri::StartContainerResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { container::start_container(&daemon, request.into_inner()).await };
        self.answer("StartContainer", detached(verb)).await
    }

    async fn stop_container(&self, request: Request<cri::StopContainerRequest>) -> Reply<cri::StopContainerResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { container::stop_container(&daemon, request.into_inner()).await };
        self.answer("StopContainer", detached(verb)).await
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Reply<cri::RemoveContainerResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { container::remove_container(&daemon, request.into_inner()).await };
        self.answer("RemoveContainer", detached(verb)).await
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Reply<cri::ListContainersResponse> {
        self.answer("ListContainers", container::list_containers(&self.daemon, request.into_inner())).await
    }

    type StreamContainersStream = ReplyStream<cri::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<cri::StreamContainersRequest>,
    ) -> Reply<Self::StreamContainersStream> {
        self.stream("StreamContainers", container::stream_containers(&self.daemon, request.into_inner())).await
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Reply<cri::ContainerStatusResponse> {
        self.answer("ContainerStatus", container::container_status(&self.daemon, request.into_inner())).await
    }

    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Reply<cri::UpdateContainerResourcesResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { container::update_container_resources(&daemon, request.into_inner()).await };
        self.answer("UpdateContainerResources", detached(verb)).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<cri::ReopenContainerLogRequest>,
    ) -> Reply<cri::ReopenContainerLogResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { container::reopen_container_log(&daemon, request.into_inner()).await };
        self.answer("ReopenContainerLog", detached(verb)).await
    }

    async fn exec_sync(&self, request: Request<cri::ExecSyncRequest>) -> Reply<cri::ExecSyncResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { container::exec_sync(&daemon, request.into_inner()).await };
        self.answer("ExecSync", detached(verb)).await
    }

    async fn exec(&self, request: Request<cri::ExecRequest>) -> Reply<cri::ExecResponse> {
        self.answer("Exec", container::exec(&self.daemon, request.into_inner())).await
    }

    async fn attach(&self, request: Request<cri::AttachRequest>) -> Reply<cri::AttachResponse> {
        self.answer("Attach", container::attach(&self.daemon, request.into_inner())).await
    }

    async fn port_forward(&self, request: Request<cri::PortForwardRequest>) -> Reply<cri::PortForwardResponse> {
        self.answer("PortForward", sandbox::port_forward(&self.daemon, request.into_inner())).await
    }

    async fn container_stats(
        &self,
        request: Request<cri::ContainerStatsRequest>,
    ) -> Reply<cri::ContainerStatsResponse> {
        self.answer("ContainerStats", stats::container_stats(&self.daemon, request.into_inner())).await
    }

    async fn list_container_stats(
        &self,
        request: Request<cri::ListContainerStatsRequest>,
    ) -> Reply<cri::ListContainerStatsResponse> {
        self.answer("ListContainerStats", stats::list_container_stats(&self.daemon, request.into_inner())).await
    }

    type StreamContainerStatsStream = ReplyStream<cri::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<cri::StreamContainerStatsRequest>,
    ) -> Reply<Self::StreamContainerStatsStream> {
        self.stream("StreamContainerStats", stats::stream_container_stats(&self.daemon, request.into_inner())).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<cri::PodSandboxStatsRequest>,
    ) -> Reply<cri::PodSandboxStatsResponse> {
        self.answer("PodSandboxStats", stats::pod_sandbox_stats(&self.daemon, request.into_inner())).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Reply<cri::ListPodSandboxStatsResponse> {
        self.answer("ListPodSandboxStats", stats::list_pod_sandbox_stats(&self.daemon, request.into_inner())).await
    }

    type StreamPodSandboxStatsStream = ReplyStream<cri::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Reply<Self::StreamPodSandboxStatsStream> {
        self.stream("StreamPodSandboxStats", stats::stream_pod_sandbox_stats(&self.daemon, request.into_inner())).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Reply<cri::UpdateRuntimeConfigResponse> {
        self.answer("UpdateRuntimeConfig", async {
            node::runtime_config::update_runtime_config(&self.daemon, request.into_inner())
        })
        .await
    }

    async fn status(&self, request: Request<cri::StatusRequest>) -> Reply<cri::StatusResponse> {
        self.answer("Status", async { node::status::status(&self.daemon, request.into_inner()) }).await
    }

    async fn checkpoint_container(
        &self,
        request: Request<cri::CheckpointContainerRequest>,
    ) -> Reply<cri::CheckpointContainerResponse> {
        self.answer("CheckpointContainer", container::checkpoint_container(&self.daemon, request.into_inner())).await
    }

    type GetContainerEventsStream = ReplyStream<cri::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        request: Request<cri::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        self.stream("GetContainerEvents", container::get_container_events(&self.daemon, request.into_inner())).await
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Reply<cri::ListMetricDescriptorsResponse> {
        self.answer("ListMetricDescriptors", async { Ok(stats::list_metric_descriptors(request.into_inner())) }).await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Reply<cri::ListPodSandboxMetricsResponse> {
        self.answer("ListPodSandboxMetrics", stats::list_pod_sandbox_metrics(&self.daemon, request.into_inner())).await
    }

    type StreamPodSandboxMetricsStream = ReplyStream<cri::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Reply<Self::StreamPodSandboxMetricsStream> {
        self.stream("StreamPodSandboxMetrics", stats::stream_pod_sandbox_metrics(&self.daemon, request.into_inner()))
            .await
    }

    async fn runtime_config(&self, request: Request<cri::RuntimeConfigRequest>) -> Reply<cri::RuntimeConfigResponse> {
        self.answer("RuntimeConfig", node::runtime_config::runtime_config(&self.daemon, request.into_inner())).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<cri::UpdatePodSandboxResourcesResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { sandbox::update_pod_sandbox_resources(&daemon, request.into_inner()).await };
        self.answer("UpdatePodSandboxResources", detached(verb)).await
    }
}
