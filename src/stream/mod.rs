//! Exec, attach and port-forward: an HTTP server that the kubelet (or crictl) is sent to with a one-use token.
//!
//! ```text
//!   gRPC Exec ─▶ Streams::url ─▶ token ─▶ http://127.0.0.1:PORT/exec/TOKEN
//!                                              │ upgrade (server.rs, upgrade.rs)
//!                  over_spdy.rs ◀── SPDY/3.1 ──┴── WebSocket ──▶ over_websocket.rs
//!                        └──────────── Client, Pair ────────────────┘
//!                  session.rs: exec, attach ⇄ the engine      port_forward.rs ⇄ the pod
//! ```
//!
//! **Invariants**: a token works once; what waits for a slow client or a slow process is bounded and stops the other side;
//! a client that goes away takes its connection to the engine with it.

mod channel;
pub mod frames;
mod over_spdy;
mod over_websocket;
pub mod pairs;
mod port_forward;
mod server;
mod session;
mod socket;
pub mod spdy;
mod status;
mod token;
mod tunnel;
mod upgrade;
pub mod websocket;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::figures::Sessions;
use crate::id::{ContainerId, SandboxId};
use crate::index::Index;
use token::Tokens;

/// What a token allows, once.
#[derive(Clone, Debug)]
pub enum Grant {
    /// Run a process in a container.
    Exec(Exec),
    /// Join the streams of a container's own process.
    Attach(Attach),
    /// Reach ports of a pod.
    PortForward(PortForward),
}

/// A process to run.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Where.
    pub container: ContainerId,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What the client takes part in.
    pub wants: Wants,
}

/// A container to attach to.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Which.
    pub container: ContainerId,
    /// What the client takes part in.
    pub wants: Wants,
}

/// Ports to reach.
#[derive(Clone, Debug)]
pub struct PortForward {
    /// Whose.
    pub sandbox: SandboxId,
    /// Only WebSocket clients without a tunnel name them here; SPDY ones do with each connection.
    pub ports: Vec<u16>,
}

/// Streams that the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// A terminal, and its size.
    pub tty: bool,
    /// It writes.
    pub stdin: bool,
    /// It reads.
    pub stdout: bool,
    /// It reads; never with a terminal, which has one output.
    pub stderr: bool,
}

/// How long streams may rest.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A connection on which nothing moves is closed.
    pub idle: Duration,
    /// A client opens all its streams within this.
    pub creation: Duration,
}

/// The streams that are handed out. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    inner: Arc<Inner>,
}

struct Inner {
    tokens: Tokens,
    /// `http://127.0.0.1:1234`
    base: String,
    limits: Limits,
    engine: Engine,
    index: Index,
    /// We are about to end, and sessions that last must.
    stopping: watch::Sender<bool>,
    sessions: OfEachKind,
}

/// Sessions, by what they are for.
#[derive(Default)]
struct OfEachKind {
    exec: Sessions,
    attach: Sessions,
    port_forward: Sessions,
}

impl Streams {
    /// Streams served at `address` by [`Streams::serve`].
    pub fn new(address: SocketAddr, limits: Limits, engine: Engine, index: Index) -> Self {
        let base = format!("http://{}", reachable(address));
        let (tokens, stopping, sessions) = (Tokens::default(), watch::Sender::new(false), OfEachKind::default());
        Streams { inner: Arc::new(Inner { tokens, base, limits, engine, index, stopping, sessions }) }
    }

    /// Of each kind, how many streams are open, and how many have been opened.
    pub fn counts(&self) -> [(&'static str, (u64, u64)); 3] {
        let OfEachKind { exec, attach, port_forward } = &self.inner.sessions;
        [("exec", exec.read()), ("attach", attach.read()), ("portforward", port_forward.read())]
    }

    /// Where the client is to go; good once and for a minute. `ResourceExhausted` when too many wait to be used.
    pub fn url(&self, grant: Grant) -> Result<String> {
        let kind = grant.kind();
        match self.inner.tokens.issue(grant) {
            Ok(token) => Ok(format!("{}/{kind}/{token}", self.inner.base)),
            Err(token::Refused::Full) => Err(Error::ResourceExhausted(format!(
                "{} streams have been asked for and not opened; try again in a minute",
                token::MOST
            ))),
            Err(token::Refused::Random(error)) => Err(Error::internal("make a token", error)),
        }
    }
}

impl Grant {
    /// The first part of its path.
    fn kind(&self) -> &'static str {
        match self {
            Grant::Exec(_) => "exec",
            Grant::Attach(_) => "attach",
            Grant::PortForward(_) => "portforward",
        }
    }
}

/// Kubelet and crictl run on this machine: where we listen on all addresses, they are sent to the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_sent_where_it_can_go() {
        let to = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(to("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(to("[::]:2"), "[::1]:2");
        assert_eq!(to("10.0.0.1:3"), "10.0.0.1:3");
    }
}
