//! What a client's upgrade request asks for, and the answer to it: SPDY/3.1 or WebSocket, and which subprotocol.
//! It reads headers and writes headers; the connection itself is taken over in `server.rs`.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use tungstenite::handshake::derive_accept_key;

use super::websocket::{PORT_FORWARD, SESSION, Subprotocol, TUNNEL, UNNAMED};
use super::{Grant, PortForward};

/// Where SPDY clients name their subprotocols, and learn ours.
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Where they are told what would have been taken.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What exec and attach over SPDY are spoken in.
const SPDY_SESSION: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// What port-forward over SPDY is spoken in.
pub(super) const SPDY_PORT_FORWARD: &str = "portforward.k8s.io";
/// The newest WebSocket, and the only one there is.
const WEBSOCKET_VERSION: &[u8] = b"13";
/// Two channels for each port, and a byte for a channel's number.
const MOST_PORTS: usize = 127;

/// What is spoken once the connection is upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// SPDY/3.1 with a subprotocol of this name.
    Spdy(&'static str),
    /// Channels in WebSocket messages; `accept` is the answer to the client's key.
    WebSocket { protocol: Subprotocol, accept: String },
    /// SPDY/3.1 for port-forward inside WebSocket messages.
    Tunnel { accept: String },
}

/// Why there is no upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
    /// Subprotocols that would have been taken.
    accepted: Vec<&'static str>,
}

impl Refusal {
    /// For a request that is not in order.
    fn bad(why: impl Into<String>) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, why: why.into(), accepted: Vec::new() }
    }

    /// For a client that offers nothing that is spoken here.
    fn of_offer(offered: &[&str], accepted: Vec<&'static str>) -> Self {
        let why = format!("unable to upgrade: the client speaks {offered:?}, the server {accepted:?}");
        Refusal { status: StatusCode::FORBIDDEN, why, accepted }
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

/// What the client is to speak, or why not; what is granted tells which subprotocols there are.
pub(super) fn negotiate(headers: &HeaderMap, grant: &Grant) -> Result<Speech, Refusal> {
    if asks_for(headers, CONNECTION, "upgrade") && asks_for(headers, UPGRADE, "websocket") {
        return negotiate_websocket(headers, grant);
    }
    let ours = match grant {
        Grant::PortForward(_) => &[SPDY_PORT_FORWARD][..],
        Grant::Exec(_) | Grant::Attach(_) => &SPDY_SESSION,
    };
    let offered: Vec<_> = listed(headers, PROTOCOL).collect();
    if offered.is_empty() {
        return Err(Refusal::bad(format!("unable to upgrade: {PROTOCOL} is missing")));
    }
    let Some(protocol) = offered.iter().find_map(|theirs| ours.iter().find(|ours| *ours == theirs)) else {
        return Err(Refusal::of_offer(&offered, ours.to_vec()));
    };
    if !asks_for(headers, CONNECTION, "upgrade") || !asks_for(headers, UPGRADE, "spdy/3.1") {
        return Err(Refusal::bad("unable to upgrade: the request asks for neither SPDY/3.1 nor a WebSocket"));
    }
    Ok(Speech::Spdy(protocol))
}

fn negotiate_websocket(headers: &HeaderMap, grant: &Grant) -> Result<Speech, Refusal> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != WEBSOCKET_VERSION) {
        return Err(Refusal::bad("unable to upgrade: only version 13 of WebSocket is spoken"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Refusal::bad(format!("unable to upgrade: {SEC_WEBSOCKET_KEY} is missing")))?;
    let accept = derive_accept_key(key);
    let offered: Vec<_> = listed(headers, SEC_WEBSOCKET_PROTOCOL).collect();
    let ours = match grant {
        Grant::PortForward(_) if offered.contains(&TUNNEL) => return Ok(Speech::Tunnel { accept }),
        Grant::PortForward(PortForward { ports, .. }) if ports.is_empty() || ports.len() > MOST_PORTS => {
            return Err(Refusal::bad(format!("unable to forward {} ports: name 1 to {MOST_PORTS}", ports.len())));
        }
        Grant::PortForward(_) => &PORT_FORWARD[..],
        Grant::Exec(_) | Grant::Attach(_) => &SESSION,
    };
    if offered.is_empty() {
        return Ok(Speech::WebSocket { protocol: UNNAMED, accept });
    }
    match offered.iter().find_map(|theirs| ours.iter().find(|ours| ours.name == *theirs)) {
        Some(protocol) => Ok(Speech::WebSocket { protocol: *protocol, accept }),
        None => Err(Refusal::of_offer(&offered, ours.iter().map(|ours| ours.name).collect())),
    }
}

impl Speech {
    /// `101 Switching Protocols`, with what was agreed on.
    pub(super) fn answer(&self) -> Response<String> {
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let (accept, protocol) = match self {
            Speech::Spdy(protocol) => {
                headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
                return response;
            }
            Speech::WebSocket { protocol, accept } => (accept, protocol.name),
            Speech::Tunnel { accept } => (accept, TUNNEL),
        };
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if !protocol.is_empty() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ContainerId, SandboxId};
    use crate::stream::{Attach, Wants};

    fn attach() -> Grant {
        let wants = Wants { tty: false, stdin: true, stdout: true, stderr: true };
        Grant::Attach(Attach { container: ContainerId::new("c"), wants })
    }

    fn forward(ports: &[u16]) -> Grant {
        Grant::PortForward(PortForward { sandbox: SandboxId::new("s"), ports: ports.to_vec() })
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn spdy(offers: &[&'static str]) -> HeaderMap {
        let upgrade = [("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")];
        let offers = offers.iter().map(|offer| ("x-stream-protocol-version", *offer));
        headers(&upgrade.into_iter().chain(offers).collect::<Vec<_>>())
    }

    fn websocket(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "WebSocket")];
        headers(&upgrade.into_iter().chain(lines.iter().copied()).collect::<Vec<_>>())
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");

    #[test]
    fn the_clients_first_choice_that_is_spoken_here_is_taken_repeated_or_listed() {
        let v4 = Ok(Speech::Spdy("v4.channel.k8s.io"));
        assert_eq!(negotiate(&spdy(&["v5.channel.k8s.io, v4.channel.k8s.io, v3.channel.k8s.io"]), &attach()), v4);
        assert_eq!(negotiate(&spdy(&["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"]), &attach()), v4);
        assert_eq!(negotiate(&spdy(&["channel.k8s.io"]), &attach()), Ok(Speech::Spdy("channel.k8s.io")));
        assert_eq!(negotiate(&spdy(&["portforward.k8s.io"]), &forward(&[])), Ok(Speech::Spdy("portforward.k8s.io")));
    }

    #[test]
    fn an_offer_of_nothing_known_is_forbidden_and_told_what_is() {
        let answer = negotiate(&spdy(&["v9.channel.k8s.io"]), &attach()).unwrap_err().answer();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.headers().get_all(ACCEPTED).iter().count(), 4);
        let unknown = [KEY, VERSION, ("sec-websocket-protocol", "v9.channel.k8s.io")];
        let answer = negotiate(&websocket(&unknown), &attach()).unwrap_err().answer();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert!(negotiate(&spdy(&["portforward.k8s.io"]), &attach()).is_err());
    }

    #[test]
    fn a_request_that_is_not_in_order_is_bad() {
        let cases = [
            (headers(&[]), attach()),
            (spdy(&[]), attach()),
            (headers(&[("x-stream-protocol-version", "v4.channel.k8s.io")]), attach()),
            (websocket(&[VERSION]), attach()),
            (websocket(&[KEY]), attach()),
            (websocket(&[KEY, ("sec-websocket-version", "8")]), attach()),
            (websocket(&[KEY, VERSION]), forward(&[])),
            (websocket(&[KEY, VERSION]), forward(&[1; 128])),
        ];
        for (headers, grant) in cases {
            let answer = negotiate(&headers, &grant).unwrap_err().answer();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{headers:?}");
        }
    }

    #[test]
    fn a_websocket_is_answered_with_the_key_of_rfc_6455() {
        let offer = ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io");
        let answer = negotiate(&websocket(&[KEY, VERSION, offer]), &attach()).unwrap().answer();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        let unnamed = negotiate(&websocket(&[KEY, VERSION]), &attach()).unwrap().answer();
        assert!(!unnamed.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn a_tunnel_needs_no_ports_and_is_for_port_forward_alone() {
        let offer = websocket(&[KEY, VERSION, ("sec-websocket-protocol", TUNNEL)]);
        assert!(matches!(negotiate(&offer, &forward(&[])), Ok(Speech::Tunnel { .. })));
        assert!(negotiate(&offer, &attach()).is_err());
    }
}
