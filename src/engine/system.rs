//! `/version` and `/info`: who the engine is, and which API version both sides speak.

use std::time::Duration;

use super::feature::ApiVersion;
use super::model::{DiskUsage, Info, Version};
use super::{Engine, Error};

/// A reachable engine answers these at once.
const LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// `GET /version`, and pins the newest API version that both sides know for every later call.
    pub async fn negotiate(&self) -> Result<Version, Error> {
        let version: Version = self.get("version", "/version", LIMIT).await?;
        let theirs = ApiVersion::parse(&version.api_version).filter(|api| *api >= ApiVersion::OLDEST);
        let Some(theirs) = theirs else {
            return Err(Error::TooOld { theirs: version.api_version, ours: ApiVersion::OLDEST });
        };
        self.transport.pin(theirs.min(ApiVersion::NEWEST));
        Ok(version)
    }

    /// `GET /info`.
    pub async fn info(&self) -> Result<Info, Error> {
        self.get("info", "/info", self.timeouts.read).await
    }

    /// `GET /system/df?type=image`: looks at every layer, which takes a while. From API 1.42 (before that it measures all
    /// containers too).
    pub async fn image_disk_usage(&self) -> Result<DiskUsage, Error> {
        self.get("disk usage of images", "/system/df?type=image", self.timeouts.read).await
    }
}
