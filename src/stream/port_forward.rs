//! One forwarded connection: a client's pair of streams and a socket that was made inside the pod's network namespace.
//!
//! ```text
//!   client ── source ──▶ socket ──▶ 127.0.0.1:port, or [::1]:port, in the pod
//!   client ◀── sink ──── socket ◀──        each direction ends by itself
//!   client ◀── error: text, if it failed; its end says that all is over
//! ```
//!
//! A socket stays in the namespace that it was made in, so only the connecting is done there, on a thread of its own that ends
//! with it: a thread that has entered a namespace must not serve anything else. No program is run in the pod or on the node.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as BlockingStream};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::BytesMut;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::Streams;
use super::channel::{Gone, Pair, Sink, Source};
use crate::id::SandboxId;

/// Loopback answers at once, unless whoever listens accepts no more.
const CONNECT: Duration = Duration::from_secs(10);
/// Room for one read.
const READ_BYTES: usize = 64 << 10;

impl Streams {
    /// Connects a pair to its port and stays with it until both directions have ended.
    pub(super) async fn forward(&self, sandbox: &SandboxId, pair: Pair) {
        let Pair { port, source, mut sink, mut error } = pair;
        let joined = match self.connect(sandbox, port).await {
            Ok(socket) => join(socket, source, &mut sink).await,
            Err(error) => Err(Broken::Socket(error)),
        };
        if let Err(Broken::Socket(why)) = joined {
            let text = format!("port {port} of pod sandbox {sandbox}: {why}");
            tracing::debug!("{text}");
            // a client that has gone needs no word
            let _ = error.send(text.into()).await;
        }
        error.finish();
    }

    /// A connection to a port of the pod, from inside it.
    async fn connect(&self, sandbox: &SandboxId, port: u16) -> io::Result<TcpStream> {
        let pid = self.pause_pid(sandbox)?;
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        // had the process ended before the file was opened, its number could be another's by then
        if self.pause_pid(sandbox)? != pid {
            return Err(io::Error::other("the pod was stopped"));
        }
        let (tell, told) = oneshot::channel();
        let dial = move || {
            // nobody listens when the client has gone
            let _ = tell.send(enter(&namespace).and_then(|()| dial(port)));
        };
        std::thread::Builder::new().name("port-forward".to_owned()).spawn(dial)?;
        let socket = told.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        TcpStream::from_std(socket)
    }

    fn pause_pid(&self, sandbox: &SandboxId) -> io::Result<i32> {
        let known = self.inner.index.table().sandbox(sandbox.as_str()).map_err(io::Error::other)?;
        if known.pid > 0 { Ok(known.pid) } else { Err(io::Error::other("the pod does not run")) }
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// IPv4 first, and if both fail it is IPv4's failure that is told.
fn dial(port: u16) -> io::Result<BlockingStream> {
    let to = |ip: IpAddr| BlockingStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT);
    to(Ipv4Addr::LOCALHOST.into()).or_else(|error| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))
}

/// Why a connection ended before both directions had.
enum Broken {
    /// The pod's side.
    Socket(io::Error),
    /// The client's side, which nothing can be told any more.
    Client,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken::Socket(error)
    }
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Broken::Client
    }
}

/// Copies both ways until both have ended. A direction that breaks takes the other with it.
async fn join(socket: TcpStream, source: Source, sink: &mut Sink) -> Result<(), Broken> {
    let (read, write) = socket.into_split();
    tokio::try_join!(upload(source, write), download(read, sink)).map(drop)
}

async fn upload(mut source: Source, mut socket: OwnedWriteHalf) -> Result<(), Broken> {
    while let Some(bytes) = source.next().await? {
        socket.write_all(&bytes).await?;
    }
    Ok(socket.shutdown().await?)
}

async fn download(mut socket: OwnedReadHalf, sink: &mut Sink) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let read = tokio::select! {
            read = socket.read_buf(&mut buffer) => read?,
            () = sink.gone() => return Err(Broken::Client),
        };
        if read == 0 {
            sink.finish();
            return Ok(());
        }
        sink.send(buffer.split().freeze()).await?;
    }
}
