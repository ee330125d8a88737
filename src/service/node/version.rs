//! Version: the kubelet asks at its start, where an error ends it, and every 10 s.
//! Answered from what the engine last said; while it was never reached it is waited for, and then told as 0.0.0.

use crate::cri;
use crate::service::Daemon;

/// The CRI version we speak.
const API_VERSION: &str = "v1";
/// Version of the request and response format, as dockershim always told it.
const FORMAT_VERSION: &str = "0.1.0";
/// Becomes the scheme of container ids (`docker://…`).
pub(super) const RUNTIME_NAME: &str = "docker";

/// Answers Version; never fails, and takes at most 2 s.
pub async fn version(daemon: &Daemon, request: cri::VersionRequest) -> cri::VersionResponse {
    let cri::VersionRequest { version: _whatever_the_client_speaks } = request;
    if daemon.index.facts().is_none() {
        // an engine that isn't there is told of by Status
        let _ = daemon.index.synced().await;
    }
    let facts = daemon.index.facts();
    let runtime_version = facts.map_or_else(|| "0.0.0".to_owned(), |facts| facts.version.version.clone());
    cri::VersionResponse {
        version: FORMAT_VERSION.to_owned(),
        runtime_name: RUNTIME_NAME.to_owned(),
        runtime_version,
        runtime_api_version: API_VERSION.to_owned(),
    }
}
