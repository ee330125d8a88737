//! What went wrong, in CRI's terms: the one error that verbs answer with.
//! It knows no gRPC: `server/status.rs` alone turns it into a status code.

use std::time::Duration;

/// The result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a request asks about; named in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pod sandbox.
    Sandbox,
    /// A container.
    Container,
    /// An image.
    Image,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Sandbox => "pod sandbox",
            Kind::Container => "container",
            Kind::Image => "image",
        })
    }
}

/// A failure, told so that the kubelet can act on it and an operator knows what to do next. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request can't be used.
    #[error("{field}: {reason}")]
    InvalidArgument {
        /// The field's path in the request, as `api.proto` names it (`config.metadata.name`).
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object that the request names doesn't exist.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// As the request named it.
        id: String,
    },
    /// A different object holds the name.
    #[error("{0}")]
    AlreadyExists(String),
    /// The object is not in a state in which this can be done.
    #[error("{0}")]
    FailedPrecondition(String),
    /// Something took longer than it was allowed to.
    #[error("{what} did not end within {after:?}")]
    DeadlineExceeded {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// A limit of ours or of the node is reached.
    #[error("{0}")]
    ResourceExhausted(String),
    /// This engine, or Docker as such, can't do what the request asks for.
    #[error("{0}")]
    Unimplemented(String),
    /// The engine can't be reached, or what we know of it is not up to date.
    #[error("{0}")]
    Unavailable(String),
    /// The client gave up (it never reads this).
    #[error("{0}")]
    Aborted(String),
    /// A message that the kubelet reads by its prefix (`RegistryUnavailable`, `SignatureValidationFailed`).
    #[error("{0}")]
    Reason(String),
    /// Anything else: what was being done, and the failure's own words.
    #[error("{doing}: {source}")]
    Internal {
        /// What was being done, on which object.
        doing: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A request's field that can't be used, and why.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::InvalidArgument { field: field.into(), reason: reason.into() }
    }

    /// An unknown sandbox.
    pub fn no_sandbox(id: &str) -> Self {
        Error::NotFound { kind: Kind::Sandbox, id: id.to_owned() }
    }

    /// An unknown container.
    pub fn no_container(id: &str) -> Self {
        Error::NotFound { kind: Kind::Container, id: id.to_owned() }
    }

    /// A failure with no meaning of its own to the kubelet.
    pub fn internal(doing: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Internal { doing: doing.into(), source: source.into() }
    }
}
