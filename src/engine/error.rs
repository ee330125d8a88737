//! What a failed call to the Engine means. The only place that knows Docker's status codes.

use std::time::Duration;

use crate::error::Error as CriError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 404: what the call names is not there.
    #[error("{message}")]
    NotFound {
        /// The engine's words.
        message: String,
    },
    /// 409: a name is taken, or the object is in the wrong state.
    #[error("{message}")]
    Conflict {
        /// The engine's words.
        message: String,
    },
    /// 400: the engine doesn't take a value.
    #[error("{message}")]
    BadRequest {
        /// The engine's words.
        message: String,
    },
    /// Any other failing status.
    #[error("{message} (status {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The socket can't be connected to, or the connection broke.
    #[error("docker engine can't be reached: {}", root(source.as_ref()))]
    Unreachable {
        /// The transport's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("docker engine did not answer {call} within {after:?}")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// An answer that isn't what the API says.
    #[error("docker engine's answer to {call} can't be read: {reason}")]
    Unreadable {
        /// Which call.
        call: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine speaks no API version that we do.
    #[error("docker engine speaks API {theirs}, at least {ours} is needed (Docker 20.10)")]
    TooOld {
        /// Newest it speaks.
        theirs: String,
        /// Oldest we speak.
        ours: super::feature::ApiVersion,
    },
}

impl Error {
    /// Reads a failing status and Docker's `{"message": …}` body.
    pub(super) fn of_status(status: u16, message: String) -> Self {
        match status {
            400 => Error::BadRequest { message },
            404 => Error::NotFound { message },
            409 => Error::Conflict { message },
            _ => Error::Refused { status, message },
        }
    }

    /// Whether what the call named is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// Tells the failure in CRI's terms; `doing` names the act and the pod or container.
    pub fn while_doing(self, doing: impl Into<String>) -> CriError {
        let doing = doing.into();
        match self {
            Error::Unreachable { .. } | Error::Timeout { .. } => CriError::Unavailable(format!("{doing}: {self}")),
            Error::BadRequest { message } => CriError::InvalidArgument { field: doing, reason: message },
            Error::Conflict { message } => CriError::FailedPrecondition(format!("{doing}: {message}")),
            other => CriError::internal(doing, other),
        }
    }
}

/// The innermost cause: hyper's own words say only that something failed.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

impl From<bollard::errors::Error> for Error {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error as Bollard;
        match error {
            Bollard::DockerResponseServerError { status_code, message } => Error::of_status(status_code, message),
            Bollard::JsonDataError { message, .. } => Error::Unreadable { call: "a call", reason: message },
            other => Error::Unreachable { source: Box::new(other) },
        }
    }
}
