//! PullImage: has the Engine pull an image, and answers with its id, which is the same string that ImageStatus and containers
//! tell. The built-in image is loaded, never pulled.
//!
//! Pulls of one name run one after the other: the second finds the layers there. A pull whose messages stop is cancelled, but
//! not while layers are extracted, when the Engine can be silent for long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cri;
use crate::engine::{Credentials, Error as EngineError, PullProgress};
use crate::error::{Error, Result};
use crate::pause;
use crate::service::Daemon;
use crate::translate::auth::credentials;
use crate::translate::image::parse;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Answers PullImage.
pub async fn pull_image(daemon: &Daemon, request: cri::PullImageRequest) -> Result<cri::PullImageResponse> {
    let cri::PullImageRequest {
        image,
        auth,
        sandbox_config: _, // Docker pulls for the whole node
    } = request;
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
    let pulled = daemon.pull(&repository, &tag, credentials.as_ref()).await;
    pulled.map_err(|error| while_pulling(&name, error))?;
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
    /// Pulls, unless its progress stops.
    pub(in crate::service) async fn pull(
        &self,
        repository: &str,
        tag: &str,
        credentials: Option<&Credentials>,
    ) -> Result<(), EngineError> {
        let progress = Progress::default();
        let pulling = self.engine.pull(repository, tag, credentials, |message| progress.note(message));
        let Some(limit) = self.config.pull_progress_deadline else { return pulling.await };
        tokio::select! {
            pulled = pulling => pulled,
            () = progress.stops_for(limit) => Err(EngineError::Timeout { call: "pull with any progress", after: limit }),
        }
    }
}

/// When a pull last said something.
struct Progress(Mutex<(Instant, bool)>);

impl Default for Progress {
    fn default() -> Self {
        Progress(Mutex::new((Instant::now(), false)))
    }
}

impl Progress {
    fn note(&self, message: &PullProgress) {
        let extracts = matches!(message.status.as_str(), "Extracting" | "Verifying Checksum");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), extracts);
    }

    /// Comes back once nothing has been said for `limit` and nothing is being extracted.
    async fn stops_for(&self, limit: Duration) {
        loop {
            tokio::time::sleep(LOOK.min(limit)).await;
            let (at, extracts) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !extracts && at.elapsed() >= limit {
                return;
            }
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
    match error {
        EngineError::Timeout { call, after } => {
            Error::DeadlineExceeded { what: format!("pull image {name}: {call}"), after }
        }
        other => other.while_doing(format!("pull image {name}")),
    }
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

    #[tokio::test]
    async fn silence_ends_a_pull_but_not_while_it_extracts() {
        let progress = Progress::default();
        let limit = Duration::from_millis(20);
        tokio::time::timeout(Duration::from_secs(2), progress.stops_for(limit)).await.unwrap();
        progress.note(&PullProgress { status: "Extracting".to_owned(), ..PullProgress::default() });
        assert!(tokio::time::timeout(Duration::from_millis(100), progress.stops_for(limit)).await.is_err());
    }
}
