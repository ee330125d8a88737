//! Clients that speak SPDY/3.1: which of their streams is which, by the headers that open them.
//!
//! ```text
//!   exec, attach   streamtype: error | stdin | stdout | stderr | resize   one of each that was asked for
//!   port-forward   streamtype: error | data, port, requestid              any number of pairs
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::channel::{Client, Pair, Sink, Source};
use super::spdy::{Incoming, Reader, Session, Writer};
use super::status::Form;
use super::{Grant, PortForward, Streams, Wants};

/// How long a client may take to hang up once it has been told how it ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// Streams that may wait for the other one of their pair.
const MOST_HALVES: usize = 256;

/// Serves a grant on an upgraded connection until the client or the process has ended.
pub(super) async fn serve(
    streams: &Streams,
    grant: Grant,
    protocol: &str,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) {
    let mut session = Session::serve(reader, writer, streams.inner.limits.idle);
    match grant {
        Grant::PortForward(grant) => pairs(streams, &grant, &mut session).await,
        Grant::Exec(exec) => {
            if let Some(client) = streams.client(&mut session, exec.wants, protocol).await {
                talk(&mut session, streams.exec(&exec, client)).await;
            }
        }
        Grant::Attach(attach) => {
            if let Some(client) = streams.client(&mut session, attach.wants, protocol).await {
                talk(&mut session, streams.attach(&attach, client)).await;
            }
        }
    }
    session.close().await;
}

/// Stays with a conversation until it or its client ends. The client hangs up first, or it might lose what is on its way.
async fn talk(session: &mut Session, conversation: impl Future<Output = Client>) {
    let _told = tokio::select! {
        client = conversation => client,
        () = gone(session) => return tracing::debug!("the client of a stream went away"),
    };
    // a slow one is not waited for
    let _ = timeout(FAREWELL, gone(session)).await;
}

/// Until the client has gone; streams that it opens meanwhile are refused.
async fn gone(session: &mut Session) {
    while session.accept().await.is_ok() {}
}

/// Streams of exec and attach as they arrive.
#[derive(Default)]
struct Arrived {
    error: Option<(Reader, Writer)>,
    stdin: Option<(Reader, Writer)>,
    stdout: Option<(Reader, Writer)>,
    stderr: Option<(Reader, Writer)>,
    resize: Option<(Reader, Writer)>,
}

impl Arrived {
    /// Takes a stream in by its type; one that has come already, or has no type, is refused.
    fn take(&mut self, incoming: Incoming) {
        let place = match incoming.headers().get("streamtype") {
            Some("error") => &mut self.error,
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("resize") => &mut self.resize,
            other => return tracing::debug!(?other, "a stream of no known type is refused"),
        };
        if place.is_none() {
            *place = Some(incoming.reply());
        }
    }

    /// Whether all have come that the request and the protocol promise.
    fn has(&self, wants: Wants, resize: bool) -> bool {
        self.error.is_some()
            && (self.stdin.is_some() || !wants.stdin)
            && (self.stdout.is_some() || !wants.stdout)
            && (self.stderr.is_some() || !wants.stderr)
            && (self.resize.is_some() || !resize)
    }
}

impl Streams {
    /// The client's side of exec or attach; None when the client doesn't open its streams in time.
    async fn client(&self, session: &mut Session, wants: Wants, protocol: &str) -> Option<Client> {
        let resize = wants.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
        let mut arrived = Arrived::default();
        let arriving = async {
            while !arrived.has(wants, resize) {
                arrived.take(session.accept().await?);
            }
            Ok::<(), super::spdy::Error>(())
        };
        match timeout(self.inner.limits.creation, arriving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client went away before it had opened its streams");
                return None;
            }
            Err(_) => {
                tracing::info!(limit = ?self.inner.limits.creation, "a client did not open its streams in time");
                return None;
            }
        }
        let form = if protocol == "v4.channel.k8s.io" { Form::Json } else { Form::Text };
        let source = |halves: Option<(Reader, Writer)>| {
            halves.map(|(reader, writer)| Source::Spdy { reader, _unwritten: Some(writer) })
        };
        let sink = |halves: Option<(Reader, Writer)>| {
            halves.map(|(reader, writer)| Sink::Spdy { writer: Some(writer), _unread: Some(reader) })
        };
        Some(Client {
            stdin: source(arrived.stdin),
            stdout: sink(arrived.stdout),
            stderr: sink(arrived.stderr),
            resize: source(arrived.resize),
            error: sink(arrived.error)?,
            form,
        })
    }
}

/// Serves pairs of streams as the client opens them, each in a task of its own, until the client has gone.
async fn pairs(streams: &Streams, grant: &PortForward, session: &mut Session) {
    let (mut running, mut half) = (JoinSet::new(), Halves::default());
    let creation = streams.inner.limits.creation;
    loop {
        let incoming = tokio::select! {
            incoming = session.accept() => incoming,
            Some(_) = running.join_next() => continue,
            () = sleep(creation / 4), if !half.waiting.is_empty() => {
                half.forget_older_than(creation);
                continue;
            }
        };
        let Ok(incoming) = incoming else { return };
        if let Some(pair) = half.take(incoming) {
            let (streams, sandbox) = (streams.clone(), grant.sandbox.clone());
            running.spawn(async move { streams.forward(&sandbox, pair).await });
        }
    }
}

/// Which of a pair a stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Data,
    Error,
}

/// Streams whose other one hasn't come yet, by request id.
#[derive(Default)]
struct Halves {
    waiting: HashMap<String, Half>,
}

struct Half {
    since: Instant,
    role: Role,
    port: u16,
    reader: Reader,
    writer: Writer,
}

impl Halves {
    /// Takes a stream in; the pair, if it is the second of one. What can't be one of a pair is refused.
    fn take(&mut self, incoming: Incoming) -> Option<Pair> {
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
        if known.is_some_and(|known| known.role == role || known.port != port) || self.waiting.len() >= MOST_HALVES {
            tracing::debug!(request, "a stream that makes no pair is refused");
            return None;
        }
        let (reader, writer) = incoming.reply();
        let here = Half { since: Instant::now(), role, port, reader, writer };
        let Some(other) = self.waiting.remove(&request) else {
            self.waiting.insert(request, here);
            return None;
        };
        let (data, error) = if role == Role::Data { (here, other) } else { (other, here) };
        Some(Pair {
            port,
            source: Source::Spdy { reader: data.reader, _unwritten: None },
            sink: Sink::Spdy { writer: Some(data.writer), _unread: None },
            error: Sink::Spdy { writer: Some(error.writer), _unread: Some(error.reader) },
        })
    }

    /// Drops, and so resets, what waits in vain.
    fn forget_older_than(&mut self, limit: Duration) {
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
