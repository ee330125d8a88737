//! `/images/…`: one method per endpoint. Pull errors arrive inside a stream that began with 200: it is read to its end.

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;

use super::model::{ImageInspect, ImageSummary};
use super::{Engine, Error, collect, encode, within};

/// Registry credentials as Docker takes them; never printed.
pub type Credentials = DockerCredentials;

/// One message of a pull.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PullProgress {
    /// The layer it is about; of messages about the whole, none or the tag.
    pub id: String,
    /// `Pulling fs layer`, `Downloading`, `Extracting`, …
    pub status: String,
    /// How far the layer has come in that.
    pub progress_detail: Option<PullDetail>,
    /// Set when the pull failed.
    pub error_detail: Option<PullFailure>,
}

/// How far a layer has come, mostly in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PullDetail {
    /// So far.
    pub current: i64,
    /// In all; 0 when the engine doesn't know.
    pub total: i64,
}

/// Why a pull failed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PullFailure {
    /// The engine's words.
    pub message: String,
}

impl Engine {
    /// `GET /images/json`.
    pub async fn list_images(&self) -> Result<Vec<ImageSummary>, Error> {
        self.get("list images", "/images/json", self.timeouts.read).await
    }

    /// `GET /images/{name}/json`; `name` is an id or a reference that has been checked.
    pub async fn inspect_image(&self, name: &str) -> Result<ImageInspect, Error> {
        self.get("inspect image", &format!("/images/{name}/json"), self.timeouts.read).await
    }

    /// `POST /images/create?fromImage=&tag=`: pulls, telling each message to `progress`, and answers at the end of the stream.
    /// No time limit of its own: the caller watches the progress and drops the call to cancel the pull.
    pub async fn pull(
        &self,
        repository: &str,
        tag_or_digest: &str,
        credentials: Option<&Credentials>,
        mut progress: impl FnMut(&PullProgress),
    ) -> Result<(), Error> {
        let path = format!("/images/create?fromImage={}&tag={}", encode(repository), encode(tag_or_digest));
        let auth = serde_json::to_vec(&credentials.cloned().unwrap_or_default()).unwrap_or_default();
        let auth = base64::engine::general_purpose::URL_SAFE.encode(auth);
        let response = self.send_with(Method::POST, &path, Vec::new(), &[("X-Registry-Auth", &auth)]).await?;
        let (mut body, mut buffer) = (response.into_body(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::Unreachable { source: Box::new(error) })?;
            buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                let Ok(message) = serde_json::from_slice::<PullProgress>(&line) else { continue };
                progress(&message);
                if let Some(PullFailure { message }) = message.error_detail {
                    return Err(Error::Refused { status: 500, message });
                }
            }
        }
        Ok(())
    }

    /// `DELETE /images/{name}?force=1`: a tag alone is only untagged, an id goes with all its names.
    /// One that a running container uses is [`Error::Conflict`].
    pub async fn remove_image(&self, name: &str) -> Result<(), Error> {
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let call = self.docker.remove_image(name, Some(options), None);
        within("remove image", self.timeouts.write, async { Ok(call.await?) }).await.map(|_| ())
    }

    /// `POST /images/load`: takes in a docker-archive.
    pub async fn load_image(&self, archive: Vec<u8>) -> Result<(), Error> {
        let headers = [("Content-Type", "application/x-tar")];
        let body = within("load image", self.timeouts.write, async {
            collect(self.send_with(Method::POST, "/images/load?quiet=1", archive, &headers).await?).await
        })
        .await?;
        match serde_json::from_slice::<PullProgress>(&body) {
            Ok(PullProgress { error_detail: Some(PullFailure { message }), .. }) => {
                Err(Error::Refused { status: 500, message })
            }
            _ => Ok(()),
        }
    }
}
