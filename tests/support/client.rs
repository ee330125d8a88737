//! The CRI as a kubelet calls it: one method per RPC that the tests use, with the fields that matter as arguments.

use std::collections::BTreeMap;
use std::path::Path;

use dockershim::cri;
use dockershim::cri::image_service_client::ImageServiceClient;
use dockershim::cri::runtime_service_client::RuntimeServiceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The kubelet takes replies of 16 MiB; a full ExecSync reply (two streams of 16 MiB) is larger, and a test wants to see it.
const LARGEST_REPLY: usize = 40 << 20;

/// A client of both services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    /// Of the socket at `path`; connects when first used, and again when the connection is lost.
    pub(crate) fn new(path: &Path) -> Cri {
        let channel = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect_lazy();
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_REPLY);
        let images = ImageServiceClient::new(channel).max_decoding_message_size(LARGEST_REPLY);
        Cri { runtime, images }
    }

    /// For calls that have no method here.
    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    /// For calls that have no method here.
    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    pub(crate) async fn run_pod(&self, config: &cri::PodSandboxConfig) -> Result<String, Status> {
        let config = Some(config.clone());
        let request = cri::RunPodSandboxRequest { config, runtime_handler: String::new() };
        Ok(self.runtime().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    pub(crate) async fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime().stop_pod_sandbox(request).await.map(drop)
    }

    pub(crate) async fn remove_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime().remove_pod_sandbox(request).await.map(drop)
    }

    pub(crate) async fn pod_status(&self, id: &str) -> Result<cri::PodSandboxStatus, Status> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        Ok(self.runtime().pod_sandbox_status(request).await?.into_inner().status.unwrap())
    }

    pub(crate) async fn list_pods(&self, filter: cri::PodSandboxFilter) -> Result<Vec<cri::PodSandbox>, Status> {
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.runtime().list_pod_sandbox(request).await?.into_inner().items)
    }

    pub(crate) async fn create(
        &self,
        pod: &str,
        config: &cri::ContainerConfig,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<String, Status> {
        let (config, sandbox_config) = (Some(config.clone()), Some(sandbox.clone()));
        let request = cri::CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config, sandbox_config };
        Ok(self.runtime().create_container(request).await?.into_inner().container_id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), Status> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        self.runtime().start_container(request).await.map(drop)
    }

    /// `grace` in seconds.
    pub(crate) async fn stop(&self, id: &str, grace: i64) -> Result<(), Status> {
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout: grace };
        self.runtime().stop_container(request).await.map(drop)
    }

    pub(crate) async fn remove(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime().remove_container(request).await.map(drop)
    }

    pub(crate) async fn status(&self, id: &str) -> Result<cri::ContainerStatus, Status> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        Ok(self.runtime().container_status(request).await?.into_inner().status.unwrap())
    }

    pub(crate) async fn list(&self, filter: cri::ContainerFilter) -> Result<Vec<cri::Container>, Status> {
        let request = cri::ListContainersRequest { filter: Some(filter) };
        Ok(self.runtime().list_containers(request).await?.into_inner().containers)
    }

    /// `timeout` in seconds; 0 for none.
    pub(crate) async fn exec(&self, id: &str, command: &[&str], timeout: i64) -> Result<cri::ExecSyncResponse, Status> {
        let cmd = command.iter().map(|word| (*word).to_owned()).collect();
        let request = cri::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout };
        Ok(self.runtime().exec_sync(request).await?.into_inner())
    }

    pub(crate) async fn update(&self, id: &str, linux: cri::LinuxContainerResources) -> Result<(), Status> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            windows: None,
            annotations: BTreeMap::new(),
        };
        self.runtime().update_container_resources(request).await.map(drop)
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Status> {
        let request = cri::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.runtime().reopen_container_log(request).await.map(drop)
    }

    pub(crate) async fn stats(&self, id: &str) -> Result<cri::ContainerStats, Status> {
        let request = cri::ContainerStatsRequest { container_id: id.to_owned() };
        Ok(self.runtime().container_stats(request).await?.into_inner().stats.unwrap())
    }

    /// Follows events, from when this answers.
    pub(crate) async fn events(&self) -> Result<tonic::Streaming<cri::ContainerEventResponse>, Status> {
        Ok(self.runtime().get_container_events(cri::GetEventsRequest {}).await?.into_inner())
    }

    /// `RuntimeReady` and `NetworkReady`, with their messages.
    pub(crate) async fn conditions(&self) -> Result<BTreeMap<String, (bool, String)>, Status> {
        let answer = self.runtime().status(cri::StatusRequest { verbose: false }).await?.into_inner();
        let conditions = answer.status.unwrap().conditions.into_iter();
        Ok(conditions.map(|condition| (condition.r#type, (condition.status, condition.message))).collect())
    }

    pub(crate) async fn image(&self, reference: &str) -> Result<Option<cri::Image>, Status> {
        let request = cri::ImageStatusRequest { image: Some(image_spec(reference)), verbose: false };
        Ok(self.images().image_status(request).await?.into_inner().image)
    }

    pub(crate) async fn list_images(&self) -> Result<Vec<cri::Image>, Status> {
        let request = cri::ListImagesRequest { filter: None };
        Ok(self.images().list_images(request).await?.into_inner().images)
    }

    pub(crate) async fn pull(&self, reference: &str, auth: Option<cri::AuthConfig>) -> Result<String, Status> {
        let request = cri::PullImageRequest { image: Some(image_spec(reference)), auth, sandbox_config: None };
        Ok(self.images().pull_image(request).await?.into_inner().image_ref)
    }

    pub(crate) async fn remove_image(&self, reference: &str) -> Result<(), Status> {
        let request = cri::RemoveImageRequest { image: Some(image_spec(reference)) };
        self.images().remove_image(request).await.map(drop)
    }
}

/// A reference as it comes, with nothing beside it.
pub(crate) fn image_spec(reference: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: reference.to_owned(), ..cri::ImageSpec::default() }
}
