//! Verbs about images.

mod fs_info;
mod list;
mod progress;
mod pull;
mod remove;

pub use fs_info::{ImageBytes, image_fs_info};
pub use list::{image_status, list_images, stream_images};
pub use progress::{Progress, Pulls};
pub use pull::pull_image;
pub use remove::remove_image;

use std::sync::Arc;

use crate::cri;
use crate::error::{Error, Result};
use crate::pause;
use crate::service::Daemon;
use crate::translate::image::{ImageFacts, parse};

impl Daemon {
    /// The image that a request names. One image store serves every runtime, so the handler must only be one that exists;
    /// annotations choose nothing on Docker.
    pub(in crate::service) fn image_of(&self, at: &str, spec: Option<cri::ImageSpec>) -> Result<String> {
        let spec = spec.ok_or_else(|| Error::invalid(at, "is missing"))?;
        let cri::ImageSpec { image, annotations: _, user_specified_image: _, runtime_handler, image_ref: _ } = spec;
        if !runtime_handler.is_empty() && !self.node()?.has_handler(&runtime_handler) {
            let reason = format!("{runtime_handler:?} is not one of the engine's runtimes");
            return Err(Error::invalid(format!("{at}.runtime_handler"), reason));
        }
        Ok(image)
    }
    /// The image that a checked name stands for: from the cache, else as the Engine says; the built-in one is brought in.
    pub(in crate::service) async fn image_named(&self, field: &str, text: &str) -> Result<Option<Arc<ImageFacts>>> {
        let name = parse(field, text)?;
        if let Some(found) = self.index.images().find(&name, text) {
            return Ok(Some(found));
        }
        if text == pause::reference() {
            return self.built_in_image().await.map(Some);
        }
        let asked = self.index.images().refresh(text).await;
        asked.map_err(|error| error.while_doing(format!("image {text}")))
    }
}
