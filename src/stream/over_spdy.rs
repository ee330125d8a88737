//! Clients that speak SPDY/3.1: which of their streams is which, by the headers that open them.
//!
//! ```text
//!   exec, attach   streamtype: error | stdin | stdout | stderr | resize   one of each that was asked for
//!   port-forward   streamtype: error | data, port, requestid              any number of pairs
//! ```

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::channel::{Client, Pair, Sink, Source};
use super::pairs::{Halves, Paired};
use super::spdy::{Incoming, Reader, Session, Writer};
use super::status::Form;
use super::{Grant, PortForward, Streams, Wants};

/// How long a client may take to hang up once it has been told how it ended.
const FAREWELL: Duration = Duration::from_secs(2);

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

    /// Whether all have come that the request and the protocol promise. Who attaches to a terminal without having one that is raw
    /// opens stderr instead of sending sizes.
    fn has(&self, wants: Wants, resize: bool) -> bool {
        self.error.is_some()
            && (self.stdin.is_some() || !wants.stdin)
            && (self.stdout.is_some() || !wants.stdout)
            && (self.stderr.is_some() || !wants.stderr)
            && (self.resize.is_some() || self.stderr.is_some() || !resize)
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
    let (mut running, mut halves) = (JoinSet::new(), Halves::default());
    let creation = streams.inner.limits.creation;
    loop {
        let incoming = tokio::select! {
            incoming = session.accept() => incoming,
            Some(_) = running.join_next() => continue,
            () = sleep(creation / 4), if halves.any() => {
                halves.forget_older_than(creation);
                continue;
            }
        };
        let Ok(incoming) = incoming else { return };
        // with a client that opens them all the time, the pause above never passes
        halves.forget_older_than(creation);
        if let Some(Paired { port, data, error }) = halves.take(incoming) {
            let (streams, sandbox) = (streams.clone(), grant.sandbox.clone());
            let pair = Pair {
                port,
                source: Source::Spdy { reader: data.0, _unwritten: None },
                sink: Sink::Spdy { writer: Some(data.1), _unread: None },
                error: Sink::Spdy { writer: Some(error.1), _unread: Some(error.0) },
            };
            running.spawn(async move { streams.forward(&sandbox, pair).await });
        }
    }
}
