//! One forwarded connection: a client's pair of streams and a socket that was made inside the pod's network namespace.
//!
//! ```text
//!   client ── source ──▶ socket ──▶ 127.0.0.1:port, or [::1]:port, in the pod
//!   client ◀── sink ──── socket ◀──        each direction ends by itself
//!   client ◀── error: text, if it could not be made; its end says that all is over
//! ```
//!
//! A word on one connection's error stream makes kubectl end all of them. So a connection that was made and then breaks is told by
//! what it is, a stream that is reset; only channels of a WebSocket, which know no reset, are told by text.
//!
//! A socket stays in the namespace that it was made in, so only the making is done there, on a thread of its own that ends with
//! it: a thread that has entered a namespace must not serve anything else. Nor must it wait: a client that goes away ends the
//! connecting, but couldn't end a thread. No program is run in the pod or on the node.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Streams;
use super::channel::{Gone, Pair, Sink, Source};
use crate::engine::Turns;
use crate::id::SandboxId;

/// Loopback answers at once, unless whoever listens accepts no more.
const CONNECT: Duration = Duration::from_secs(10);
/// Room for one read.
const READ_BYTES: usize = 64 << 10;

impl Streams {
    /// Connects a pair to its port and stays with it until both directions have ended.
    pub(super) async fn forward(&self, sandbox: &SandboxId, pair: Pair) {
        let Pair { port, source, mut sink, mut error } = pair;
        let (broken, is_told) = match self.connect(sandbox, port).await {
            Ok(socket) => (join(socket, source, &mut sink).await, !sink.knows_reset()),
            Err(error) => (Err(Broken::Socket(error)), true),
        };
        if let Err(Broken::Socket(why)) = broken {
            let text = format!("port {port} of pod sandbox {sandbox}: {why}");
            tracing::debug!("{text}");
            if is_told {
                // a client that has gone needs no word
                let _ = error.send(text.into()).await;
            }
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
        let make = move || {
            // nobody listens when the client has gone
            let _ = tell.send(enter(&namespace).map(|()| Sockets::new()));
        };
        std::thread::Builder::new().name("port-forward".to_owned()).spawn(make)?;
        let sockets = told.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))?;
        let socket = sockets.dial(port).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    fn pause_pid(&self, sandbox: &SandboxId) -> io::Result<i32> {
        let known = self.inner.index.table().sandbox(sandbox.as_str()).map_err(io::Error::other)?;
        if known.pid > 0 { Ok(known.pid) } else { Err(io::Error::other("the pod does not run")) }
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Not connected yet, one for each family; a kernel may lack one.
struct Sockets {
    v4: io::Result<TcpSocket>,
    v6: io::Result<TcpSocket>,
}

impl Sockets {
    /// In the network namespace of the thread that makes them.
    fn new() -> Self {
        Sockets { v4: TcpSocket::new_v4(), v6: TcpSocket::new_v6() }
    }

    /// IPv4 first, and if both fail it is IPv4's failure that is told.
    async fn dial(self, port: u16) -> io::Result<TcpStream> {
        match connect(self.v4, Ipv4Addr::LOCALHOST.into(), port).await {
            Ok(stream) => Ok(stream),
            Err(error) => connect(self.v6, Ipv6Addr::LOCALHOST.into(), port).await.map_err(|_| error),
        }
    }
}

async fn connect(socket: io::Result<TcpSocket>, ip: IpAddr, port: u16) -> io::Result<TcpStream> {
    let connecting = socket?.connect(SocketAddr::new(ip, port));
    timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
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

/// Copies both ways until both have ended. A pod that takes no more, as a server that has refused a request before it was whole, may
/// still have something to say; one that can't be heard any more has nothing to take.
async fn join(socket: TcpStream, source: Source, sink: &mut Sink) -> Result<(), Broken> {
    let (read, write) = socket.into_split();
    let (uploaded, ()) = tokio::try_join!(async { Ok(upload(source, write).await) }, download(read, sink))?;
    uploaded
}

async fn upload(mut source: Source, mut socket: OwnedWriteHalf) -> Result<(), Broken> {
    while let Some(bytes) = source.next().await? {
        socket.write_all(&bytes).await?;
    }
    Ok(socket.shutdown().await?)
}

async fn download(mut socket: OwnedReadHalf, sink: &mut Sink) -> Result<(), Broken> {
    let mut input = Turns::default();
    loop {
        input.make_room(READ_BYTES / 2, READ_BYTES);
        let read = tokio::select! {
            read = socket.read_buf(&mut input.current) => read?,
            () = sink.gone() => return Err(Broken::Client),
        };
        if read == 0 {
            sink.finish();
            return Ok(());
        }
        sink.send(input.current.split().freeze()).await?;
    }
}
