//! What is measured, by which ways, and how.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde_json::json;

use super::client::{Come, Talk, Until};
use super::world::{Side, World, command, order};

/// Streams at once, where there is more than one.
const MANY: usize = 8;
/// Short connections of one measurement.
const SHORT: usize = 100;

/// A quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Measure {
    /// What a process prints.
    ExecOut,
    /// What it is given.
    ExecIn,
    /// Eight processes that print.
    ExecOut8,
    /// Eight that are given.
    ExecIn8,
    /// From the request to the first byte of output.
    ExecFirst,
    /// From the request to the exit code.
    ExecWhole,
    /// One ExecSync.
    ExecSync,
    /// From the pod.
    ForwardDown,
    /// To the pod.
    ForwardUp,
    /// Eight connections at once from the pod.
    ForwardDown8,
    /// Eight to it.
    ForwardUp8,
    /// A connection that carries one byte.
    ForwardShort,
}

use Measure::*;

impl Measure {
    pub(crate) const ALL: [Measure; 12] = [
        ExecOut,
        ExecIn,
        ExecOut8,
        ExecIn8,
        ExecFirst,
        ExecWhole,
        ExecSync,
        ForwardDown,
        ForwardUp,
        ForwardDown8,
        ForwardUp8,
        ForwardShort,
    ];

    /// Whether it is a rate in MB/s; else it is a time in ms.
    pub(crate) fn is_rate(self) -> bool {
        !matches!(self, ExecFirst | ExecWhole | ExecSync | ForwardShort)
    }

    fn is_forward(self) -> bool {
        matches!(self, ForwardDown | ForwardUp | ForwardDown8 | ForwardUp8 | ForwardShort)
    }

    fn streams(self) -> usize {
        if matches!(self, ExecOut8 | ExecIn8 | ForwardDown8 | ForwardUp8) { MANY } else { 1 }
    }

    /// Whether a way leads there.
    pub(crate) fn goes(self, way: Way) -> bool {
        match way {
            // what the client itself can do
            Way::Alone => matches!(self, ExecOut | ExecIn),
            Way::Relay => self.is_rate() && !self.is_forward(),
            Way::Raw => !self.is_forward(),
            Way::Direct => self.is_forward(),
            Way::Spdy => self != ExecSync,
            Way::WebSocket => !matches!(self, ExecSync | ForwardShort),
            Way::Tunnel => self.is_forward(),
            Way::Grpc => self == ExecSync,
        }
    }
}

/// How one gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// To nobody: a thread that speaks SPDY and does nothing else.
    Alone,
    /// To the Engine.
    Raw,
    /// To the Engine by TCP, through threads that copy and do nothing else: what any process in between costs.
    Relay,
    /// To the port.
    Direct,
    Spdy,
    WebSocket,
    Tunnel,
    Grpc,
}

impl Way {
    /// Through an adapter.
    pub(crate) const THROUGH: [Way; 4] = [Way::Spdy, Way::WebSocket, Way::Tunnel, Way::Grpc];
}

/// One who is measured.
pub(crate) struct Runner<'a> {
    pub(crate) world: &'a World,
    /// Whose pod it is.
    pub(crate) side: &'a Side,
    pub(crate) way: Way,
    /// Bytes to move.
    pub(crate) bytes: usize,
}

impl Runner<'_> {
    /// MB/s or ms.
    pub(crate) fn measure(&self, measure: Measure) -> anyhow::Result<f64> {
        let each = self.bytes / measure.streams();
        if measure.is_rate() {
            let time = match measure {
                _ if self.way == Way::Alone => alone(measure == ExecIn, each)?,
                ExecOut | ExecOut8 => self.exec_out(measure.streams(), each)?,
                ExecIn | ExecIn8 => self.exec_in(measure.streams(), each)?,
                ForwardDown | ForwardDown8 => self.forward(measure.streams(), each, 0)?,
                _ => self.forward(measure.streams(), 1, each)?,
            };
            return Ok(self.bytes as f64 / 1e6 / time.as_secs_f64());
        }
        let begun = Instant::now();
        let time = match measure {
            ExecFirst | ExecWhole => {
                let (mut talk, exec) = self.exec("echo x", false)?;
                let come = talk.take_in(Until::End)?;
                self.see_exit(exec)?;
                let (first, _) = come.span.context("no output")?;
                if measure == ExecFirst { first - begun } else { begun.elapsed() }
            }
            ExecSync => {
                self.exec_sync()?;
                begun.elapsed()
            }
            _ => self.short()? / u32::try_from(SHORT)?,
        };
        Ok(time.as_secs_f64() * 1000.0)
    }

    /// A process, and the Engine's id of it where it is ours to look after.
    pub(crate) fn exec(&self, script: &str, stdin: bool) -> anyhow::Result<(Talk, Option<String>)> {
        if matches!(self.way, Way::Raw | Way::Relay) {
            let exec = self.create(script, stdin, false)?;
            let relayed = self.way == Way::Relay;
            let talk = if relayed { Talk::relayed(self.world.relay, &exec)? } else { self.raw(&exec)? };
            return Ok((talk, Some(exec)));
        }
        let url = self.world.runtime.block_on(self.side.exec_url(script, stdin))?;
        let talk =
            if self.way == Way::Spdy { Talk::exec_over_spdy(&url, stdin)? } else { Talk::exec_over_websocket(&url)? };
        Ok((talk, None))
    }

    fn raw(&self, exec: &str) -> anyhow::Result<Talk> {
        Talk::raw(&self.world.engine.socket(), exec)
    }

    fn create(&self, script: &str, stdin: bool, stderr: bool) -> anyhow::Result<String> {
        let path = format!("/containers/{}/exec", self.side.container);
        let body = json!({
            "AttachStdin": stdin, "AttachStdout": true, "AttachStderr": stderr, "Tty": false, "Cmd": command(script)
        });
        let answer = self.world.engine.docker.json("POST", &path, &body);
        Ok(answer["Id"].as_str().context("no exec id")?.to_owned())
    }

    /// Waits for the exit code, which others are told at the end.
    fn see_exit(&self, exec: Option<String>) -> anyhow::Result<()> {
        let Some(exec) = exec else { return Ok(()) };
        loop {
            let state = self.world.engine.docker.get(&format!("/exec/{exec}/json"));
            if state["Running"] == false {
                ensure!(state["ExitCode"] == 0, "exit code {}", state["ExitCode"]);
                return Ok(());
            }
        }
    }

    fn exec_out(&self, streams: usize, each: usize) -> anyhow::Result<Duration> {
        at_once(streams, |ready| {
            let (mut talk, exec) = self.exec(&print(each), false)?;
            ready.wait();
            let come = talk.take_in(Until::End)?;
            ensure!(come.bytes == each, "{} bytes came of {each}", come.bytes);
            self.see_exit(exec)?;
            come.span.context("no output")
        })
    }

    fn exec_in(&self, streams: usize, each: usize) -> anyhow::Result<Duration> {
        at_once(streams, |ready| {
            let (mut talk, exec) = self.exec("echo up; cat >/dev/null; echo end", true)?;
            let up = talk.take_in(Until::Bytes(3))?;
            ensure!(up.bytes == 3, "{} bytes came for a greeting", up.bytes);
            ready.wait();
            let begun = Instant::now();
            let Come { bytes, span } = talk.feed(each, true, Until::End)?;
            ensure!(bytes == 4, "{bytes} bytes came at the end");
            self.see_exit(exec)?;
            Ok((begun, span.context("no output")?.1))
        })
    }

    fn exec_sync(&self) -> anyhow::Result<()> {
        if self.way == Way::Grpc {
            let answer = self.side.cri.exec(&self.side.container, &["/bin/sh", "-c", "true"], 10);
            ensure!(self.world.runtime.block_on(answer)?.exit_code == 0, "it fails");
            return Ok(());
        }
        let exec = self.create("true", false, true)?;
        self.raw(&exec)?.take_in(Until::End)?;
        self.see_exit(Some(exec))
    }

    /// Connections that are open: on one connection of the client's, but for direct ones.
    pub(crate) fn connections(&self, number: usize) -> anyhow::Result<Talk> {
        let port = self.world.port;
        if self.way == Way::Direct {
            return Talk::direct(port);
        }
        let ports = if self.way == Way::WebSocket { vec![port; number] } else { Vec::new() };
        let url = self.world.runtime.block_on(self.side.forward_url(ports))?;
        let mut talk = match self.way {
            Way::WebSocket => return Talk::forward_over_websocket(&url, number),
            Way::Tunnel => Talk::forward_through_tunnel(&url)?,
            _ => Talk::forward_over_spdy(&url)?,
        };
        (0..number).try_for_each(|_| talk.open_pair(port))?;
        Ok(talk)
    }

    fn forward(&self, streams: usize, down: usize, up: usize) -> anyhow::Result<Duration> {
        // direct connections have no connection in common
        let (talks, streams) = if self.way == Way::Direct { (streams, 1) } else { (1, streams) };
        at_once(talks, |ready| {
            let mut talk = self.connections(streams)?;
            ready.wait();
            let begun = Instant::now();
            talk.say(&order(down, up))?;
            let until = Until::Bytes(down * streams);
            let come = if up > 0 { talk.feed(up, false, until)? } else { talk.take_in(until)? };
            ensure!(come.bytes == down * streams, "{} bytes came of {}", come.bytes, down * streams);
            Ok((begun, come.span.context("nothing came")?.1))
        })
    }

    /// One connection after the other.
    fn short(&self) -> anyhow::Result<Duration> {
        let mut talk = self.connections(0)?;
        let begun = Instant::now();
        for _ in 0..SHORT {
            if self.way == Way::Direct {
                talk = self.connections(1)?;
            } else {
                talk.open_pair(self.world.port)?;
            }
            talk.say(&order(1, 0))?;
            ensure!(talk.take_in(Until::Bytes(1))?.bytes == 1, "nothing came");
            talk.finish_pairs()?;
        }
        Ok(begun.elapsed())
    }
}

/// A process that prints this much, in pieces so large that it is not the one that is measured.
fn print(bytes: usize) -> String {
    const PIECE: usize = 64 << 10;
    format!("dd if=/dev/zero bs={PIECE} count={} 2>/dev/null", bytes / PIECE)
}

/// Does a thing several times at once: from the first's begin to the last's end.
fn at_once(
    times: usize,
    act: impl Fn(&Barrier) -> anyhow::Result<(Instant, Instant)> + Sync,
) -> anyhow::Result<Duration> {
    let ready = Barrier::new(times);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..times).map(|_| scope.spawn(|| act(&ready))).collect();
        let mut whole: Option<(Instant, Instant)> = None;
        for thread in threads {
            let (begin, end) = thread.join().map_err(|_| anyhow::anyhow!("a thread of the client"))??;
            whole = Some(whole.map_or((begin, end), |(first, last)| (first.min(begin), last.max(end))));
        }
        let (begin, end) = whole.context("nothing was done")?;
        Ok(end - begin)
    })
}

/// What the client can do: SPDY frames from or to a thread that has nothing else to do.
fn alone(up: bool, bytes: usize) -> anyhow::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        if up { swallow(&mut stream, bytes) } else { emit(&mut stream, bytes) }
    });
    let begun = Instant::now();
    let mut talk = Talk::bare(TcpStream::connect(address)?)?;
    let come = if up { talk.feed(bytes, true, Until::Bytes(1))? } else { talk.take_in(Until::Bytes(bytes))? };
    server.join().map_err(|_| anyhow::anyhow!("the other thread"))??;
    Ok(come.span.context("nothing came")?.1 - begun)
}

const FRAME: usize = 32 << 10;

fn emit(stream: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
    let frame = [&[0, 0, 0, 1, 0, 0, 0x80, 0][..], &[0; FRAME]].concat();
    (0..bytes / FRAME).try_for_each(|_| stream.write_all(&frame))
}

fn swallow(stream: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
    let (mut buffer, mut left) = (vec![0; FRAME], bytes);
    while left > 0 {
        left = left.saturating_sub(stream.read(&mut buffer)?);
    }
    stream.write_all(&[0, 0, 0, 1, 0, 0, 0, 1, 0])
}
