//! PullImage: has the Engine pull an image, and answers with its id, which is the same string that ImageStatus and containers
//! tell. The built-in image is loaded, never pulled.
//!
//! Pulls of one name run one after the other: the second finds the layers there. A pull in which nothing moves any more is cancelled
//! (`progress.rs` says what that is); how far it has come is told in the log every ten seconds.

use std::time::Duration;

use tokio::time::{Instant, interval_at};

use super::progress::UnderWay;
use crate::cri;
use crate::engine::{Credentials, Error as EngineError};
use crate::error::{Error, Result};
use crate::pause;
use crate::service::{Daemon, Known, is_about};
use crate::translate::auth::credentials;
use crate::translate::image::parse;
use crate::translate::sandbox::pod_name;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// And how often it is told in the log.
const TELL: Duration = Duration::from_secs(10);

/// Answers PullImage.
pub async fn pull_image(daemon: &Daemon, request: cri::PullImageRequest) -> Result<cri::PullImageResponse> {
    let cri::PullImageRequest {
        image,
        auth,
        sandbox_config, // Docker pulls for the whole node
    } = request;
    if let Some(metadata) = sandbox_config.and_then(|config| config.metadata) {
        is_about(Known::Pod, &pod_name(Some(&metadata)));
    }
    let name = daemon.image_of("image", image)?;
    let parsed = parse("image.image", &name)?;
    let credentials = credentials(auth.as_ref())?;
    if name == pause::reference() {
        let loaded = daemon.built_in_image().await?;
        return Ok(cri::PullImageResponse { image_ref: loaded.id.to_string() });
    }
    let Some((repository, tag)) = parsed.pull_parts() else {
        return Err(Error::invalid("image.image", format!("{name:?} is an id; only a name can be pulled")));
    };
    let _one_at_a_time = daemon.locks.hold(&format!("pull {repository} {tag}")).await;
    daemon.pull(&name, (&repository, &tag), credentials.as_ref()).await?;
    let reference = if tag.starts_with("sha") && tag.contains(':') {
        format!("{repository}@{tag}")
    } else {
        format!("{repository}:{tag}")
    };
    let found = daemon.index.images().refresh(&reference).await;
    let found = found.map_err(|error| error.while_doing(format!("pull image {name}")))?;
    let image = found.ok_or_else(|| Error::internal(format!("pull image {name}"), "it is gone again"))?;
    Ok(cri::PullImageResponse { image_ref: image.id.to_string() })
}

impl Daemon {
    /// Pulls a repository's tag or digest, unless nothing moves any more; `name` is what the request calls it.
    pub(in crate::service) async fn pull(
        &self,
        name: &str,
        (repository, tag): (&str, &str),
        credentials: Option<&Credentials>,
    ) -> Result<()> {
        let under_way = self.pulls.begin(name);
        let pull = &under_way.pull;
        let pulling = self.engine.pull(repository, tag, credentials, |message| pull.note(message));
        tokio::select! {
            pulled = pulling => pulled.map_err(|error| while_pulling(name, error)),
            standstill = watch(&under_way, name, self.config.pull_progress_deadline) => Err(standstill),
        }
    }
}

/// Tells the log how a pull goes; comes back when it stands still, which it may do for `limit`.
async fn watch(under_way: &UnderWay, name: &str, limit: Option<Duration>) -> Error {
    let pull = &under_way.pull;
    let begun = Instant::now();
    let mut looks = interval_at(begun, limit.map_or(LOOK, |limit| LOOK.min(limit)));
    let mut told = begun;
    loop {
        looks.tick().await;
        if let Some(after) = limit.filter(|limit| under_way.stands_still(*limit)) {
            let progress = pull.progress();
            let what = format!("pull image {name}: standstill at {progress} ({:?})", progress.last);
            return Error::DeadlineExceeded { what, after };
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            tracing::info!(image = name, progress = %pull.progress(), after_s = begun.elapsed().as_secs(), "pull goes on");
        }
    }
}

/// The kubelet tells a registry that is down from an image that is wrong by the message's beginning.
fn while_pulling(name: &str, error: EngineError) -> Error {
    let text = error.to_string();
    let down = ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"];
    if down.iter().any(|status| text.contains(status)) {
        return Error::Reason(format!("RegistryUnavailable: pull image {name}: {text}"));
    }
    error.while_doing(format!("pull image {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_down_is_told_apart() {
        let failed =
            |message: &str| while_pulling("a", EngineError::Refused { status: 500, message: message.to_owned() });
        let down = failed("received unexpected HTTP status: 503 Service Unavailable").to_string();
        assert!(down.starts_with("RegistryUnavailable: "), "{down}");
        assert!(failed("manifest unknown").to_string().starts_with("pull image a: manifest unknown"));
    }
}
