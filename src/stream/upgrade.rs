//! What a client's upgrade request asks for, and the answer to it: SPDY/3.1 or WebSocket, and which subprotocol. Pure.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Response, StatusCode};

/// Where SPDY clients name their subprotocols, and learn ours.
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Where they are told what would have been taken.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What exec and attach over SPDY are spoken in.
const SPDY_SESSION: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// What port-forward over SPDY is spoken in.
const SPDY_PORT_FORWARD: [&str; 1] = ["portforward.k8s.io"];

/// What is spoken once the connection is upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// SPDY/3.1 with a subprotocol of this name.
    Spdy(&'static str),
}

/// Why there is no upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
    /// Subprotocols that would have been taken.
    accepted: &'static [&'static str],
}

impl Refusal {
    /// For a request that is not in order.
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, why: why.into(), accepted: &[] }
    }

    /// As an answer.
    pub(super) fn answer(self) -> Response<String> {
        let mut response = Response::new(self.why + "\n");
        *response.status_mut() = self.status;
        for protocol in self.accepted {
            response.headers_mut().append(ACCEPTED, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// What the client is to speak, or why not; `port_forward` tells which subprotocols there are.
pub(super) fn negotiate(headers: &HeaderMap, port_forward: bool) -> Result<Speech, Refusal> {
    let ours: &[&str] = if port_forward { &SPDY_PORT_FORWARD } else { &SPDY_SESSION };
    let mut theirs = listed(headers, PROTOCOL).peekable();
    if theirs.peek().is_none() {
        return Err(Refusal::bad(format!("unable to upgrade: {PROTOCOL} is missing")));
    }
    let Some(protocol) = theirs.find_map(|theirs| ours.iter().find(|ours| **ours == theirs)) else {
        let offered: Vec<_> = listed(headers, PROTOCOL).collect();
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            why: format!("unable to upgrade: the client speaks {offered:?}, the server {ours:?}"),
            accepted: ours,
        });
    };
    if !asks_for(headers, CONNECTION, "upgrade") || !asks_for(headers, UPGRADE, "spdy/3.1") {
        return Err(Refusal::bad("unable to upgrade: the request doesn't ask for SPDY/3.1"));
    }
    Ok(Speech::Spdy(protocol))
}

impl Speech {
    /// `101 Switching Protocols`, with what was agreed on.
    pub(super) fn answer(self) -> Response<String> {
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        match self {
            Speech::Spdy(protocol) => {
                headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
            }
        }
        response
    }
}

/// The entries of a header that may be a list, and may be repeated.
fn listed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|entry| !entry.is_empty())
}

fn asks_for(headers: &HeaderMap, name: HeaderName, what: &str) -> bool {
    listed(headers, name).any(|entry| entry.eq_ignore_ascii_case(what))
}
