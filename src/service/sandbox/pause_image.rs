//! The sandboxes' image: the built-in one, loaded when absent, or the one that the operator named, pulled when absent.

use std::sync::Arc;

use crate::engine;
use crate::error::{Error, Result};
use crate::pause;
use crate::service::Daemon;
use crate::translate::image::{ImageFacts, parse};

const FLAG: &str = "--pod-infra-container-image";

impl Daemon {
    /// The name of the sandboxes' image.
    pub fn sandbox_image_name(&self) -> &str {
        self.config.sandbox_image.as_deref().unwrap_or_else(|| pause::reference())
    }

    /// Whether the kubelet must leave an image alone.
    pub fn is_pinned(&self, image: &ImageFacts) -> bool {
        self.find_sandbox_image().is_ok_and(|found| found.is_some_and(|found| found.id == image.id))
    }

    /// The sandboxes' image; no engine call when it is there.
    pub(super) async fn sandbox_image(&self) -> Result<Arc<ImageFacts>> {
        match self.find_sandbox_image()? {
            Some(image) => Ok(image),
            None => self.fetch_sandbox_image().await,
        }
    }

    /// Brings the sandboxes' image in, also when the cache believes it to be there.
    pub(super) async fn fetch_sandbox_image(&self) -> Result<Arc<ImageFacts>> {
        let Some(name) = self.config.sandbox_image.as_deref() else { return self.built_in_image().await };
        let (repository, tag) = parse(FLAG, name)?.pull_parts().ok_or_else(|| missing(name))?;
        self.bring_in(name, self.pull(name, (&repository, &tag), None)).await
    }

    /// The built-in image, loaded when the Engine hasn't got it.
    pub(in crate::service) async fn built_in_image(&self) -> Result<Arc<ImageFacts>> {
        let name = pause::reference();
        let load = self.engine.load_image(pause::archive());
        self.bring_in(name, async { load.await.map_err(|error| failed(name, error)) }).await
    }

    /// Brings an image in, unless the Engine has it by now; once at a time.
    async fn bring_in(&self, name: &str, fetch: impl Future<Output = Result<()>>) -> Result<Arc<ImageFacts>> {
        let _once = self.locks.hold("the sandbox image").await;
        let failed = |error| failed(name, error);
        if let Some(image) = self.index.images().refresh(name).await.map_err(failed)? {
            return Ok(image);
        }
        fetch.await?;
        tracing::info!(image = name, "image brought in");
        self.index.images().refresh(name).await.map_err(failed)?.ok_or_else(|| missing(name))
    }

    fn find_sandbox_image(&self) -> Result<Option<Arc<ImageFacts>>> {
        let name = self.sandbox_image_name();
        Ok(self.index.images().find(&parse(FLAG, name)?, name))
    }
}

fn failed(name: &str, error: engine::Error) -> Error {
    error.while_doing(format!("sandbox image {name}"))
}

fn missing(name: &str) -> Error {
    Error::FailedPrecondition(format!("sandbox image {name} is not there and can't be fetched; check {FLAG}"))
}
