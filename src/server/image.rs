//! The CRI's ImageService on the verbs, as `runtime.rs` does it.

use tonic::Request;

use super::Service;
use super::trace::{Reply, ReplyStream};
use crate::cri;
use crate::cri::image_service_server::ImageService;
use crate::service::{detached, image};

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<cri::ListImagesRequest>) -> Reply<cri::ListImagesResponse> {
        self.answer("ListImages", image::list_images(&self.daemon, request.into_inner())).await
    }

    type StreamImagesStream = ReplyStream<cri::StreamImagesResponse>;

    async fn stream_images(&self, request: Request<cri::StreamImagesRequest>) -> Reply<Self::StreamImagesStream> {
        self.stream("StreamImages", image::stream_images(&self.daemon, request.into_inner())).await
    }

    async fn image_status(&self, request: Request<cri::ImageStatusRequest>) -> Reply<cri::ImageStatusResponse> {
        self.answer("ImageStatus", image::image_status(&self.daemon, request.into_inner())).await
    }

    async fn pull_image(&self, request: Request<cri::PullImageRequest>) -> Reply<cri::PullImageResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { image::pull_image(&daemon, request.into_inner()).await };
        self.answer("PullImage", detached(verb)).await
    }

    async fn remove_image(&self, request: Request<cri::RemoveImageRequest>) -> Reply<cri::RemoveImageResponse> {
        let daemon = self.daemon.clone();
        let verb = async move { image::remove_image(&daemon, request.into_inner()).await };
        self.answer("RemoveImage", detached(verb)).await
    }

    async fn image_fs_info(&self, request: Request<cri::ImageFsInfoRequest>) -> Reply<cri::ImageFsInfoResponse> {
        self.answer("ImageFsInfo", image::image_fs_info(&self.daemon, request.into_inner())).await
    }
}
