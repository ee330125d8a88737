//! RemoveImage: removes an image with all its names, whichever of them it was called by. One that isn't there is a success.
//! The sandboxes' own image stays. Two at once go one after the other: the Engine would fail the second in its midst.

use crate::cri;
use crate::error::{Error, Result};
use crate::service::Daemon;
use crate::translate::image::parse;

/// Answers RemoveImage.
pub async fn remove_image(daemon: &Daemon, request: cri::RemoveImageRequest) -> Result<cri::RemoveImageResponse> {
    let cri::RemoveImageRequest { image } = request;
    daemon.index.synced().await?;
    let image = daemon.image_of("image", image)?;
    let name = parse("image.image", &image)?;
    let Some(found) = daemon.index.images().find(&name, &image) else {
        return Ok(cri::RemoveImageResponse {});
    };
    if daemon.is_pinned(&found) {
        return Err(Error::FailedPrecondition(format!("image {image} is the pod sandboxes' own and stays")));
    }
    let doing = || format!("remove image {image}");
    let _one_at_a_time = daemon.locks.hold(found.id.as_str()).await;
    if daemon.index.images().by_id(found.id.as_str()).is_none() {
        return Ok(cri::RemoveImageResponse {});
    }
    match daemon.engine.remove_image(found.id.as_str()).await {
        Err(error) if !error.is_not_found() => return Err(error.while_doing(doing())),
        _ => {}
    }
    let left = daemon.index.images().refresh(found.id.as_str()).await;
    left.map_err(|error| error.while_doing(doing()))?;
    Ok(cri::RemoveImageResponse {})
}
