//! Which two of a client's SPDY streams make one forwarded connection, by the headers that open them.
//!
//! ```text
//!   streamtype: error, port: 80, requestid: 0 ┐
//!   streamtype: data,  port: 80, requestid: 0 ┴─▶ Paired
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::spdy::{Incoming, Reader, Writer};

/// Streams that may wait for the other one of their pair.
const MOST_HALVES: usize = 256;

/// Which of a pair a stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Data,
    Error,
}

/// Streams whose other one hasn't come yet, by request id.
#[derive(Default)]
pub struct Halves {
    waiting: HashMap<String, Half>,
}

struct Half {
    since: Instant,
    role: Role,
    port: u16,
    streams: (Reader, Writer),
}

/// A connection's two streams.
pub struct Paired {
    /// The pod's port, never 0.
    pub port: u16,
    /// What the connection carries.
    pub data: (Reader, Writer),
    /// Why it failed.
    pub error: (Reader, Writer),
}

impl Halves {
    /// Takes a stream in; the pair, if it is the second of one. What can't be one of a pair is refused.
    pub fn take(&mut self, incoming: Incoming) -> Option<Paired> {
        let headers = incoming.headers();
        let role = match headers.get("streamtype") {
            Some("data") => Role::Data,
            Some("error") => Role::Error,
            other => {
                tracing::debug!(?other, "a stream of no known type is refused");
                return None;
            }
        };
        let Some(port) = headers.get("port").and_then(port_number) else {
            tracing::debug!(port = ?headers.get("port"), "a stream to no port is refused");
            return None;
        };
        let request = request_id(headers.get("requestid"), role, incoming.id());
        let known = self.waiting.get(&request);
        let fits = match known {
            Some(known) => known.role != role && known.port == port,
            None => self.waiting.len() < MOST_HALVES,
        };
        if !fits {
            tracing::debug!(request, "a stream that makes no pair is refused");
            return None;
        }
        let here = Half { since: Instant::now(), role, port, streams: incoming.reply() };
        let Some(other) = self.waiting.remove(&request) else {
            self.waiting.insert(request, here);
            return None;
        };
        let (data, error) = if role == Role::Data { (here, other) } else { (other, here) };
        Some(Paired { port, data: data.streams, error: error.streams })
    }

    /// Whether a stream waits.
    pub(super) fn any(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Drops, and so resets, what waits in vain.
    pub(super) fn forget_older_than(&mut self, limit: Duration) {
        self.waiting.retain(|_, half| half.since.elapsed() < limit);
    }
}

/// 1 to 65535, in digits.
fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

/// What joins a pair: its name, or for clients that give none the error stream's number, which the data stream follows.
fn request_id(named: Option<&str>, role: Role, stream: u32) -> String {
    match (named, role) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Role::Error) => format!("stream {stream}"),
        (_, Role::Data) => format!("stream {}", stream.wrapping_sub(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_from_1_to_65535() {
        assert_eq!(port_number("80"), Some(80));
        assert_eq!(port_number("65535"), Some(65535));
        for text in ["", "0", "65536", "-1", "http", " 80", "8\0"] {
            assert_eq!(port_number(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_pair_without_a_name_is_one_of_neighbours() {
        let of = |named, role, stream| request_id(named, role, stream);
        assert_eq!(of(None, Role::Error, 1), of(None, Role::Data, 3));
        assert_eq!(of(Some(""), Role::Error, 5), of(None, Role::Data, 7));
        assert_eq!(of(Some("a"), Role::Error, 1), of(Some("a"), Role::Data, 9));
        assert_ne!(of(None, Role::Error, 1), of(None, Role::Data, 1));
        assert_ne!(of(None, Role::Data, 0), of(None, Role::Error, 0));
    }
}
