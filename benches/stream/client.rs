//! Conversations, whatever they are spoken in: with the Engine itself, over SPDY/3.1, over WebSocket, through its tunnel, or with a
//! port directly.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use flate2::{Compress, Compression, FlushCompress};

use super::wire::{CHUNK, Framing, Inlet, Outlet, Socket, Tunnelled};

/// Silence that is taken for a failure.
const LIMIT: Duration = Duration::from_secs(60);
const SPDY: &str = "Upgrade: SPDY/3.1";
const WEBSOCKET: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// A conversation that is open.
pub(crate) struct Talk {
    inlet: Inlet,
    outlet: Outlet,
    /// Where input goes.
    input: Vec<u32>,
    /// What is counted.
    output: Vec<u32>,
    /// Its end is the conversation's.
    error: Option<u32>,
    headers: Compress,
    last: u32,
    /// Bytes that come before the first of each counted stream.
    preamble: usize,
}

/// What came.
pub(crate) struct Come {
    pub(crate) bytes: usize,
    /// When the first of them came, and the last.
    pub(crate) span: Option<(Instant, Instant)>,
}

/// When a conversation is over.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// When the other side ends it.
    End,
    /// When this much has come.
    Bytes(usize),
}

impl Talk {
    fn new(inlet: Inlet, outlet: Outlet) -> Talk {
        let headers = Compress::new(Compression::fast(), true);
        let (input, output) = (vec![0], vec![0]);
        Talk { inlet, outlet, input, output, error: None, headers, last: 0, preamble: 0 }
    }

    /// With who speaks SPDY on a bare connection, on its first stream.
    pub(crate) fn bare(stream: TcpStream) -> anyhow::Result<Talk> {
        let socket = Socket::Tcp(stream);
        let talk = Talk::new(Inlet::new(socket.again()?, Framing::Spdy), Outlet::new(socket, Framing::Spdy, false));
        Ok(Talk { input: vec![1], output: vec![1], ..talk })
    }

    /// With a port of this machine.
    pub(crate) fn direct(port: u16) -> anyhow::Result<Talk> {
        let socket = tcp("127.0.0.1", port)?;
        Ok(Talk::new(Inlet::new(socket.again()?, Framing::None), Outlet::new(socket, Framing::None, false)))
    }

    /// With the process of an exec that the Engine has created, on a connection to its socket.
    pub(crate) fn raw(docker: &Path, exec: &str) -> anyhow::Result<Talk> {
        let stream = UnixStream::connect(docker)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Talk::hijack(Socket::Unix(stream), exec)
    }

    /// The same by a port that leads to the Engine's socket.
    pub(crate) fn relayed(port: u16, exec: &str) -> anyhow::Result<Talk> {
        Talk::hijack(tcp("127.0.0.1", port)?, exec)
    }

    fn hijack(mut socket: Socket, exec: &str) -> anyhow::Result<Talk> {
        let body = r#"{"Detach":false,"Tty":false}"#;
        write!(
            socket,
            "POST /exec/{exec}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut inlet = Inlet::new(socket.again()?, Framing::Docker);
        upgraded(&mut inlet)?;
        let talk = Talk::new(inlet, Outlet::new(socket, Framing::Docker, false));
        Ok(Talk { output: vec![1], ..talk })
    }

    /// With a process, at an exec's URL.
    pub(crate) fn exec_over_spdy(url: &str, stdin: bool) -> anyhow::Result<Talk> {
        let mut talk = Talk::spdy(url, "v4.channel.k8s.io")?;
        talk.error = Some(talk.open(&[("streamtype", "error")])?);
        if stdin {
            talk.input = vec![talk.open(&[("streamtype", "stdin")])?];
        }
        talk.output = vec![talk.open(&[("streamtype", "stdout")])?];
        Ok(talk)
    }

    /// The same over WebSocket.
    pub(crate) fn exec_over_websocket(url: &str) -> anyhow::Result<Talk> {
        let (inlet, socket) = websocket(url, "v5.channel.k8s.io", Framing::WebSocket)?;
        let talk = Talk::new(inlet, Outlet::new(socket, Framing::WebSocket, false));
        Ok(Talk { output: vec![1], ..talk })
    }

    /// With a port, at a port-forward's URL, without connections yet.
    pub(crate) fn forward_over_spdy(url: &str) -> anyhow::Result<Talk> {
        let talk = Talk::spdy(url, "portforward.k8s.io")?;
        Ok(Talk { input: Vec::new(), output: Vec::new(), ..talk })
    }

    /// The same through the tunnel.
    pub(crate) fn forward_through_tunnel(url: &str) -> anyhow::Result<Talk> {
        let (inlet, socket) = websocket(url, "SPDY/3.1+portforward.k8s.io", Framing::WebSocket)?;
        let inlet = Inlet::new(Tunnelled::through(inlet), Framing::Spdy);
        let talk = Talk::new(inlet, Outlet::new(socket, Framing::Spdy, true));
        Ok(Talk { input: Vec::new(), output: Vec::new(), ..talk })
    }

    /// The same over WebSocket, with all connections that its URL was asked for.
    pub(crate) fn forward_over_websocket(url: &str, connections: usize) -> anyhow::Result<Talk> {
        let (inlet, socket) = websocket(url, "v4.channel.k8s.io", Framing::WebSocket)?;
        let talk = Talk::new(inlet, Outlet::new(socket, Framing::WebSocket, false));
        let channels: Vec<u32> = (0..).step_by(2).take(connections).collect();
        // each channel begins with its port
        Ok(Talk { input: channels.clone(), output: channels, preamble: 2, ..talk })
    }

    fn spdy(url: &str, protocol: &str) -> anyhow::Result<Talk> {
        let (mut socket, path) = connect(url)?;
        ask(&mut socket, "POST", path, &format!("{SPDY}\r\nX-Stream-Protocol-Version: {protocol}"))?;
        let mut inlet = Inlet::new(socket.again()?, Framing::Spdy);
        upgraded(&mut inlet)?;
        Ok(Talk::new(inlet, Outlet::new(socket, Framing::Spdy, false)))
    }

    /// Opens one more connection to a port, over SPDY.
    pub(crate) fn open_pair(&mut self, port: u16) -> anyhow::Result<()> {
        let (port, request) = (port.to_string(), self.last.to_string());
        let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", request.as_str())];
        let error = self.open(&headers("error"))?;
        self.outlet.finish(error)?;
        let data = self.open(&headers("data"))?;
        self.input.push(data);
        self.output.push(data);
        Ok(())
    }

    /// Ends and forgets the connections so far.
    pub(crate) fn finish_pairs(&mut self) -> anyhow::Result<()> {
        self.output.clear();
        for stream in self.input.drain(..) {
            self.outlet.finish(stream)?;
        }
        Ok(())
    }

    fn open(&mut self, headers: &[(&str, &str)]) -> anyhow::Result<u32> {
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let mut block = u32::try_from(headers.len())?.to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend(u32::try_from(text.len())?.to_be_bytes());
            block.extend(text.as_bytes());
        }
        let mut compressed = Vec::with_capacity(block.len() + 256);
        self.headers.compress_vec(&block, &mut compressed, FlushCompress::Sync)?;
        let payload = [&self.last.to_be_bytes()[..], &[0; 6], &compressed].concat();
        self.outlet.send_control(1, &payload)?;
        Ok(self.last)
    }

    /// Sends a few bytes on every stream of input.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for stream in &self.input {
            let frame = self.outlet.frame(*stream, bytes);
            self.outlet.send(&frame)?;
        }
        Ok(())
    }

    /// Sends zeros on every stream of input, this many on each, and takes in what comes meanwhile and after it.
    pub(crate) fn feed(&mut self, bytes: usize, finish: bool, until: Until) -> anyhow::Result<Come> {
        let Talk { inlet, outlet, input, output, error, preamble, .. } = self;
        let (input, zeros) = (&*input, vec![0; CHUNK.min(bytes)]);
        thread::scope(|scope| {
            let feeding = scope.spawn(move || -> anyhow::Result<()> {
                let frames: Vec<_> = input.iter().map(|stream| outlet.frame(*stream, &zeros)).collect();
                for _ in 0..bytes / zeros.len() {
                    frames.iter().try_for_each(|frame| outlet.send(frame))?;
                }
                input.iter().filter(|_| finish).try_for_each(|stream| outlet.finish(*stream))?;
                Ok(())
            });
            let come = take_in(inlet, output, *error, until, *preamble);
            feeding.join().map_err(|_| anyhow::anyhow!("the input's thread"))??;
            come
        })
    }

    /// Takes in what comes.
    pub(crate) fn take_in(&mut self, until: Until) -> anyhow::Result<Come> {
        take_in(&mut self.inlet, &self.output, self.error, until, self.preamble)
    }
}

fn take_in(
    inlet: &mut Inlet,
    output: &[u32],
    error: Option<u32>,
    until: Until,
    preamble: usize,
) -> anyhow::Result<Come> {
    let before = preamble * output.len();
    let (mut bytes, mut span) = (0, None);
    loop {
        if matches!(until, Until::Bytes(enough) if bytes >= enough + before) {
            break;
        }
        let Some(frame) = inlet.next()? else { break };
        inlet.skip(frame.length)?;
        if frame.stream.is_some_and(|stream| output.contains(&stream)) {
            bytes += frame.length;
            if bytes > before {
                let now = Instant::now();
                span = Some((span.map_or(now, |(first, _)| first), now));
            }
        }
        if frame.last && (frame.stream == error || frame.stream.is_none()) {
            break;
        }
    }
    Ok(Come { bytes: bytes.saturating_sub(before), span })
}

fn tcp(host: &str, port: u16) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect((host, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(Socket::Tcp(stream))
}

/// To where a URL points; some adapters leave out its scheme, or say on which address they listen.
fn connect(url: &str) -> anyhow::Result<(Socket, &str)> {
    let (_, rest) = url.split_once("//").with_context(|| format!("no URL: {url}"))?;
    let (authority, path) = rest.split_once('/').with_context(|| format!("no path in {url}"))?;
    let (host, port) = authority.rsplit_once(':').with_context(|| format!("no port in {url}"))?;
    let host = if matches!(host, "" | "[::]" | "0.0.0.0") { "127.0.0.1" } else { host };
    Ok((tcp(host, port.parse()?)?, path))
}

fn ask(socket: &mut Socket, method: &str, path: &str, headers: &str) -> anyhow::Result<()> {
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n{headers}\r\nContent-Length: 0\r\n\r\n"
    );
    Ok(socket.write_all(request.as_bytes())?)
}

fn upgraded(inlet: &mut Inlet) -> anyhow::Result<()> {
    let head = inlet.head()?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "no upgrade: {head}");
    Ok(())
}

fn websocket(url: &str, protocol: &str, framing: Framing) -> anyhow::Result<(Inlet, Socket)> {
    let (mut socket, path) = connect(url)?;
    ask(&mut socket, "GET", path, &format!("{WEBSOCKET}\r\nSec-WebSocket-Protocol: {protocol}"))?;
    let mut inlet = Inlet::new(socket.again()?, framing);
    let head = inlet.head()?;
    let agreed =
        head.starts_with("HTTP/1.1 101 ") && head.to_ascii_lowercase().contains(&protocol.to_ascii_lowercase());
    if !agreed {
        bail!("{protocol} is not spoken: {head}");
    }
    Ok((inlet, socket))
}
