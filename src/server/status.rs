//! The only map from [`Error`] to a gRPC code. The kubelet acts on a few of them, the rest is text to it.

use tonic::{Code, Status};

use crate::error::Error;

/// A status travels in a header block, of which many clients take no more than 16 KiB; three bytes may stand for one.
const LONGEST_MESSAGE: usize = 4096;

/// What the client is told of a failed verb.
pub(super) fn of(error: &Error) -> Status {
    let code = match error {
        Error::InvalidArgument { .. } => Code::InvalidArgument,
        Error::NotFound { .. } => Code::NotFound,
        Error::AlreadyExists(_) => Code::AlreadyExists,
        Error::FailedPrecondition(_) => Code::FailedPrecondition,
        Error::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        Error::ResourceExhausted(_) => Code::ResourceExhausted,
        Error::Unimplemented(_) => Code::Unimplemented,
        Error::Unavailable(_) => Code::Unavailable,
        Error::Aborted(_) => Code::Aborted,
        // the kubelet's client strips the code of Unknown alone, and then looks at how the text begins
        Error::Reason(_) => Code::Unknown,
        Error::Internal { .. } => Code::Internal,
    };
    Status::new(code, cut(in_one_line(error)))
}

/// An error and its causes, each told once: many errors have their cause's words in their own already.
pub fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// Shortens a text at a character's end.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn every_error_has_its_code_and_its_text() {
        let exec = Error::DeadlineExceeded { what: told("exec in c"), after: Duration::from_secs(2) };
        let io = std::io::Error::other("disk full");
        let cases = [
            (Error::invalid("config.metadata", "is missing"), Code::InvalidArgument, "config.metadata: is missing"),
            (Error::no_container("c"), Code::NotFound, "container \"c\" not found"),
            (Error::AlreadyExists(told("taken")), Code::AlreadyExists, "taken"),
            (Error::FailedPrecondition(told("not running")), Code::FailedPrecondition, "not running"),
            (exec, Code::DeadlineExceeded, "exec in c did not end within 2s"),
            (Error::ResourceExhausted(told("full")), Code::ResourceExhausted, "full"),
            (Error::Unimplemented(told("not here")), Code::Unimplemented, "not here"),
            (Error::Unavailable(told("not yet")), Code::Unavailable, "not yet"),
            (Error::Aborted(told("gave up")), Code::Aborted, "gave up"),
            (Error::Reason(told("RegistryUnavailable: x")), Code::Unknown, "RegistryUnavailable: x"),
            (Error::internal("write /a", io), Code::Internal, "write /a: disk full"),
        ];
        for (error, code, message) in cases {
            let status = of(&error);
            assert_eq!((status.code(), status.message()), (code, message));
        }
    }

    #[test]
    fn causes_are_told_once_and_in_order() {
        let deep = Error::internal("dial", std::io::Error::other("refused"));
        assert_eq!(in_one_line(&Error::internal("network of p", deep)), "network of p: dial: refused");

        #[derive(Debug, thiserror::Error)]
        #[error("can't start")]
        struct Silent(#[source] std::io::Error);
        assert_eq!(in_one_line(&Silent(std::io::Error::other("refused"))), "can't start: refused");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let status = of(&Error::Unavailable("ü".repeat(LONGEST_MESSAGE)));
        assert_eq!(status.message().chars().count(), LONGEST_MESSAGE / 2 + 1);
        assert!(status.message().ends_with("ü…"));
    }
}
