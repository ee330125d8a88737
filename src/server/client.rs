//! The other end of a CRI socket: for `check`, and for asking who else serves.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::status::in_one_line;

/// Connects to a Unix socket; each call on the channel may take `limit`. The error is the reason in words.
pub(crate) async fn connect(socket: &Path, limit: Duration) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
    let connected = match endpoint {
        Ok(endpoint) => endpoint.timeout(limit).connect().await,
        Err(error) => Err(error),
    };
    connected.map_err(|error| in_one_line(&error))
}

/// The reply to a call, or its code and message in words.
pub(crate) async fn reply<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, String> {
    match call.await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) if is_answer(&status) => Err(words(&status)),
        Err(status) => Err(format!("nobody answers any more: {}", status.message())),
    }
}

/// Whether a failure was told by the other end, and not made on ours for want of an answer.
pub(super) fn is_answer(status: &Status) -> bool {
    std::error::Error::source(status).is_none()
}

/// Code and message.
pub(super) fn words(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
