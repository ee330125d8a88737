//! ListImages, StreamImages and ImageStatus: from the cache, without an engine call.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::cri;
use crate::error::Result;
use crate::service::{Daemon, Replies, in_batches};
use crate::translate::image::{ImageFacts, parse, to_image};

/// Answers ListImages; the filter names one image, and one that isn't there gives an empty list.
pub async fn list_images(daemon: &Daemon, request: cri::ListImagesRequest) -> Result<cri::ListImagesResponse> {
    let cri::ListImagesRequest { filter } = request;
    let images = find(daemon, filter).await?.into_iter();
    Ok(cri::ListImagesResponse { images: images.map(|(image, is_pinned)| to_image(&image, is_pinned)).collect() })
}

/// Answers StreamImages.
pub async fn stream_images(
    daemon: &Daemon,
    request: cri::StreamImagesRequest,
) -> Result<Replies<cri::StreamImagesResponse>> {
    let cri::StreamImagesRequest { filter } = request;
    let images = find(daemon, filter).await?.into_iter();
    let items = images.map(|(image, is_pinned)| to_image(&image, is_pinned));
    Ok(in_batches(items, |images| cri::StreamImagesResponse { images }))
}

/// The images that a filter names, each with whether it is pinned.
async fn find(daemon: &Daemon, filter: Option<cri::ImageFilter>) -> Result<Vec<(Arc<ImageFacts>, bool)>> {
    let wanted = filter.and_then(|cri::ImageFilter { image }| image).filter(|spec| !spec.image.is_empty());
    daemon.index.synced().await?;
    let found = match wanted {
        None => daemon.index.images().all(),
        wanted @ Some(_) => {
            let image = daemon.image_of("filter.image", wanted)?;
            let name = parse("filter.image.image", &image)?;
            daemon.index.images().find(&name, &image).into_iter().collect()
        }
    };
    let pinned = |image: Arc<ImageFacts>| (image.clone(), daemon.is_pinned(&image));
    Ok(found.into_iter().map(pinned).collect())
}

/// Answers ImageStatus; an image that isn't there gives an empty answer, as the kubelet expects.
pub async fn image_status(daemon: &Daemon, request: cri::ImageStatusRequest) -> Result<cri::ImageStatusResponse> {
    let cri::ImageStatusRequest { image, verbose } = request;
    daemon.index.synced().await?;
    let image = daemon.image_of("image", image)?;
    let name = parse("image.image", &image)?;
    let Some(found) = daemon.index.images().find(&name, &image) else {
        return Ok(cri::ImageStatusResponse::default());
    };
    let info = if verbose { info(&found) } else { BTreeMap::new() };
    Ok(cri::ImageStatusResponse { image: Some(to_image(&found, daemon.is_pinned(&found))), info })
}

/// What `crictl inspecti` shows beside the status.
fn info(image: &ImageFacts) -> BTreeMap<String, String> {
    let info = json!({ "user": image.user, "stopSignal": image.stop_signal, "sizeBytes": image.size_bytes });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
