//! Exec and attach: the streams of a client and those of a process, joined until the process has ended.
//!
//! ```text
//!   stdin  ──▶ input          its end is passed on, unless a terminal's: the Engine would end the output with it
//!   resize ──▶ resize call
//!   stdout, stderr ◀── output ── ends ──▶ exit code ──▶ error stream
//! ```
//!
//! Both directions wait for whoever is slower; nothing is collected. That the client has gone is seen by the caller, who drops
//! the session: with it goes the connection to the engine, which ends the process's stdin.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use tokio::time::timeout;

use super::channel::{Client, Sink, Source};
use super::status::Outcome;
use super::{Attach, Exec, Streams, Wants};
use crate::engine::{self, Engine, ExecOptions, Hijacked, Input, Output, Stream};
use crate::id::{ContainerId, ExecId};
use crate::index::ExecExit;

/// How long the output may pause once the process has ended and something it left behind holds the other end.
const LINGER: Duration = Duration::from_secs(3);
/// A size is a line of JSON; what is longer is none.
const LONGEST_SIZE: usize = 1024;
/// As for any inspect that holds up a client.
const INSPECT: Duration = Duration::from_secs(20);

impl Streams {
    /// Runs a process with the client's streams and tells the client how it ended. Ends with the process.
    pub(super) async fn exec(&self, exec: &Exec, mut client: Client) -> Client {
        let outcome = tokio::select! {
            outcome = self.run(exec, &mut client) => outcome.unwrap_or_else(failed("exec in", &exec.container)),
            cut_off = self.stopped() => cut_off,
        };
        client.end(&outcome).await;
        client
    }

    /// Joins the client's streams with those of a container's own process. Ends with the process.
    pub(super) async fn attach(&self, attach: &Attach, mut client: Client) -> Client {
        let outcome = tokio::select! {
            outcome = self.join(attach, &mut client) => outcome.unwrap_or_else(failed("attach to", &attach.container)),
            cut_off = self.stopped() => cut_off,
        };
        client.end(&outcome).await;
        client
    }

    /// Until we are about to end: clients take silence for success.
    async fn stopped(&self) -> Outcome {
        // the sender is ours: the wait can't fail
        let _ = self.inner.stopping.subscribe().wait_for(|stopping| *stopping).await;
        Outcome::Failed("dockershim was stopped".to_owned())
    }

    async fn run(&self, exec: &Exec, client: &mut Client) -> Result<Outcome, engine::Error> {
        let Exec { container, command, wants } = exec;
        let Wants { tty, stdin, stdout, stderr } = *wants;
        let engine = &self.inner.engine;
        let options = ExecOptions { command, tty, stdin, stdout, stderr };
        let id = engine.create_exec(container.as_str(), options).await?;
        let mut exit = self.inner.index.exec_exit(&id);
        let Hijacked { input, output } = engine.start_exec(&id, tty).await?;
        let ends = if tty { InputEnd::Kept } else { InputEnd::PassedOn };
        let Client { stdin, resize, stdout, stderr, .. } = client;
        tokio::select! {
            code = to_exit(output, stdout, stderr, &mut exit) => Ok(Outcome::Exit(code?)),
            never = feed(stdin, input, ends) => match never {},
            never = resizing(resize, engine, Terminal::Exec(&id)) => match never {},
        }
    }

    async fn join(&self, attach: &Attach, client: &mut Client) -> Result<Outcome, engine::Error> {
        let Attach { container, wants } = attach;
        let engine = &self.inner.engine;
        let config = engine.inspect(container.as_str(), INSPECT).await?.config;
        let has_input = wants.stdin && config.open_stdin;
        let Hijacked { input, output } = engine.attach(container.as_str(), config.tty, has_input).await?;
        let ends = match (has_input, config.stdin_once && !config.tty) {
            (false, _) => InputEnd::None,
            (true, true) => InputEnd::PassedOn,
            (true, false) => InputEnd::Kept,
        };
        let Client { stdin, resize, stdout, stderr, .. } = client;
        tokio::select! {
            ended = to_end(output, stdout, stderr) => ended.map(|()| Outcome::Exit(0)),
            never = feed(stdin, input, ends) => match never {},
            never = resizing(resize, engine, Terminal::Container(container)) => match never {},
        }
    }
}

/// Says why an act on a container failed.
fn failed(act: &'static str, container: &ContainerId) -> impl FnOnce(engine::Error) -> Outcome {
    move |error| Outcome::Failed(format!("{act} container {container}: {error}"))
}

/// What becomes of the process's input when the client's ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    /// It ends too.
    PassedOn,
    /// It stays open: the Engine takes its end for the client's leave.
    Kept,
    /// It has none: what the client says is dropped.
    None,
}

/// Passes the client's input on. Never ends: the session's end is the process's.
async fn feed(source: &mut Option<Source>, mut input: Input, end: InputEnd) -> Infallible {
    let mut broken = end == InputEnd::None;
    if let Some(source) = source {
        while let Ok(Some(bytes)) = source.next().await {
            // what nobody takes any more is dropped, so that the client isn't held up
            broken = broken || input.write(&bytes).await.is_err();
        }
        if end == InputEnd::PassedOn {
            drop(input);
            return pending().await;
        }
    }
    let _kept = input;
    pending().await
}

/// Passes output on until there is no more and the process has ended; its exit code.
async fn to_exit(
    mut output: Output,
    stdout: &mut Option<Sink>,
    stderr: &mut Option<Sink>,
    exit: &mut ExecExit,
) -> Result<i32, engine::Error> {
    let ended = {
        // asked for once: each chunk would otherwise set its timers anew
        let mut code = pin!(exit.code());
        loop {
            tokio::select! {
                chunk = output.next() => match chunk? {
                    Some((stream, bytes)) => deliver(stream, bytes, stdout, stderr).await,
                    None => break None,
                },
                code = &mut code => break Some(code?),
            }
        }
    };
    let Some(code) = ended else {
        exit.is_near();
        return exit.code().await;
    };
    while let Ok(Ok(Some((stream, bytes)))) = timeout(LINGER, output.next()).await {
        deliver(stream, bytes, stdout, stderr).await;
    }
    Ok(code)
}

/// Passes output on until there is no more.
async fn to_end(mut output: Output, stdout: &mut Option<Sink>, stderr: &mut Option<Sink>) -> Result<(), engine::Error> {
    while let Some((stream, bytes)) = output.next().await? {
        deliver(stream, bytes, stdout, stderr).await;
    }
    Ok(())
}

/// Sends a chunk where it belongs; what nobody asked for, or reads any more, is dropped: the process must not wait for it.
async fn deliver(stream: Stream, bytes: Bytes, stdout: &mut Option<Sink>, stderr: &mut Option<Sink>) {
    let sink = match stream {
        Stream::Stdout => stdout,
        Stream::Stderr => stderr,
    };
    let Some(open) = sink else { return };
    if open.send(bytes).await.is_err() {
        *sink = None;
    }
}

/// Whose terminal it is.
enum Terminal<'a> {
    Exec(&'a ExecId),
    Container(&'a ContainerId),
}

/// Passes sizes on as they come. Never ends.
async fn resizing(source: &mut Option<Source>, engine: &Engine, terminal: Terminal<'_>) -> Infallible {
    let Some(source) = source else { return pending().await };
    let mut sizes = Sizes::default();
    while let Ok(Some(bytes)) = source.next().await {
        let Some(Size { width, height }) = sizes.last_of(&bytes) else { continue };
        let resized = match terminal {
            Terminal::Exec(exec) => engine.resize_exec(exec, width, height).await,
            Terminal::Container(container) => engine.resize_container(container.as_str(), width, height).await,
        };
        if let Err(error) = resized {
            tracing::debug!(%error, "a terminal could not be resized");
        }
    }
    pending().await
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Sizes as they come, one JSON object after the other, cut anywhere.
#[derive(Default)]
struct Sizes {
    pending: BytesMut,
}

impl Sizes {
    /// The last whole size so far, if there is a new one. What can't be read is dropped.
    fn last_of(&mut self, bytes: &[u8]) -> Option<Size> {
        self.pending.extend_from_slice(bytes);
        let mut values = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Size>();
        let (mut last, mut broken) = (None, false);
        for value in &mut values {
            match value {
                Ok(size) => last = Some(size),
                Err(error) => {
                    broken = !error.is_eof();
                    break;
                }
            }
        }
        let read = values.byte_offset();
        self.pending.advance(read);
        if broken || self.pending.len() > LONGEST_SIZE {
            self.pending.clear();
        }
        last
    }
}

impl Client {
    /// Tells how it ended, after all output. A client that has gone meanwhile doesn't need to know.
    async fn end(&mut self, outcome: &Outcome) {
        for sink in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            sink.finish();
        }
        let told = outcome.told_as(self.form);
        if told.is_empty() || self.error.send(told.into()).await.is_ok() {
            self.error.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_size_counts_and_a_torn_one_waits() {
        let mut sizes = Sizes::default();
        let size = |width, height| Some(Size { width, height });
        assert_eq!(sizes.last_of(br#"{"Width":80,"Height":24}{"Width":81,"Height":25}{"Wid"#), size(81, 25));
        assert_eq!(sizes.last_of(br#"th":90,"Hei"#), None);
        assert_eq!(sizes.last_of(b"ght\":30}\n"), size(90, 30));
    }

    #[test]
    fn what_is_no_size_is_dropped_and_the_next_one_is_taken() {
        let mut sizes = Sizes::default();
        for wrong in [r#"{"Width":-1,"Height":2}"#, r#"{"Width":70000,"Height":2}"#, "]", "\0"] {
            assert_eq!(sizes.last_of(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(sizes.last_of(&[b' '; 2000]), None);
        assert_eq!(sizes.last_of(br#"{"Width":1,"Height":2}"#), Some(Size { width: 1, height: 2 }));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_last_size(sizes in prop::collection::vec((any::<u16>(), any::<u16>()), 1..5), cut in 1usize..40) {
            let wire: String = sizes.iter().map(|(w, h)| format!("{{\"Width\":{w},\"Height\":{h}}}")).collect();
            let mut reader = Sizes::default();
            let seen = wire.as_bytes().chunks(cut).filter_map(|chunk| reader.last_of(chunk)).last();
            let (width, height) = *sizes.last().unwrap();
            prop_assert_eq!(seen, Some(Size { width, height }));
        }

        #[test]
        fn nothing_makes_it_panic_or_grow(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut sizes = Sizes::default();
            for chunk in chunks {
                sizes.last_of(&chunk);
                prop_assert!(sizes.pending.len() <= LONGEST_SIZE);
            }
        }
    }
}
