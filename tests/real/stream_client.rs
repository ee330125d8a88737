//! Clients of the streaming server: SPDY/3.1 written from its specification and apart from the product's own, and WebSocket.
//! They read when they are asked to, so a test decides who stalls whom.

use std::collections::BTreeMap;

use flate2::{Compress, Compression, FlushCompress};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Sends a request as it stands and reads the head of the answer: the connection, and the head as text.
pub(crate) async fn ask(url: &str, method: &str, headers: &[&str]) -> (TcpStream, String) {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let mut request = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n");
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

/// What has come on a stream.
#[derive(Debug, Default)]
pub(crate) struct Come {
    pub(crate) bytes: Vec<u8>,
    /// The server ends it.
    pub(crate) finished: bool,
    /// The server broke it off.
    pub(crate) reset: bool,
}

impl Come {
    /// As text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn over(&self) -> bool {
        self.finished || self.reset
    }
}

/// What SPDY can be spoken on.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A SPDY/3.1 client.
pub(crate) struct Spdy {
    stream: Box<dyn Connection>,
    port: u16,
    compress: Compress,
    last: u32,
    /// By stream.
    pub(crate) come: BTreeMap<u32, Come>,
}

impl Spdy {
    /// Upgrades at a URL.
    pub(crate) async fn connect(url: &str, protocol: &str) -> Spdy {
        let protocol = format!("X-Stream-Protocol-Version: {protocol}");
        let (stream, head) = ask(url, "POST", &["Connection: Upgrade", "Upgrade: SPDY/3.1", &protocol]).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let port = stream.local_addr().unwrap().port();
        Spdy::on(Box::new(stream), port)
    }

    /// Upgrades to a WebSocket at a URL, and speaks SPDY in its messages, cut as it pleases.
    pub(crate) async fn through_tunnel(url: &str) -> Spdy {
        let WebSocket { socket, .. } = WebSocket::connect(url, "SPDY/3.1+portforward.k8s.io").await;
        let port = socket.get_ref().local_addr().unwrap().port();
        let (near, far) = duplex(64 << 10);
        tokio::spawn(carry(far, socket));
        Spdy::on(Box::new(near), port)
    }

    fn on(stream: Box<dyn Connection>, port: u16) -> Spdy {
        Spdy { stream, port, compress: Compress::new(Compression::default(), true), last: 0, come: BTreeMap::new() }
    }

    /// The client's own.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Opens a stream and gives its number.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let mut block = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            block.extend(text.as_bytes());
        }
        let mut payload = self.last.to_be_bytes().to_vec();
        payload.extend([0; 6]);
        let mut compressed = Vec::with_capacity(block.len() + 256);
        self.compress.compress_vec(&block, &mut compressed, FlushCompress::Sync).unwrap();
        payload.extend(compressed);
        self.control(1, &payload).await;
        self.come.insert(self.last, Come::default());
        self.last
    }

    /// Opens the streams of exec or attach by their types: their numbers.
    pub(crate) async fn open_all<const N: usize>(&mut self, types: [&str; N]) -> [u32; N] {
        let mut opened = [0; N];
        for (number, kind) in opened.iter_mut().zip(types) {
            *number = self.open(&[("streamtype", kind)]).await;
        }
        opened
    }

    /// Opens a pair for port-forward: error and data.
    pub(crate) async fn open_pair(&mut self, port: u16, request: &str) -> (u32, u32) {
        let port = port.to_string();
        let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", request)];
        let error = self.open(&headers("error")).await;
        (error, self.open(&headers("data")).await)
    }

    /// Sends bytes on a stream.
    pub(crate) async fn send(&mut self, stream: u32, bytes: &[u8]) {
        for bytes in bytes.chunks(32 << 10) {
            self.data(stream, 0, bytes).await;
        }
    }

    /// Ends our half of a stream.
    pub(crate) async fn finish(&mut self, stream: u32) {
        self.data(stream, 1, b"").await;
    }

    /// Breaks a stream off.
    pub(crate) async fn reset(&mut self, stream: u32) {
        let mut payload = stream.to_be_bytes().to_vec();
        payload.extend(5u32.to_be_bytes());
        self.control(3, &payload).await;
    }

    /// Sends bytes that need not mean anything.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn data(&mut self, stream: u32, flags: u8, bytes: &[u8]) {
        let mut head = stream.to_be_bytes().to_vec();
        head.extend((u32::from(flags) << 24 | u32::try_from(bytes.len()).unwrap()).to_be_bytes());
        self.stream.write_all(&head).await.unwrap();
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn control(&mut self, kind: u16, payload: &[u8]) {
        let mut frame = vec![0x80, 3];
        frame.extend(kind.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Takes in a frame; false at the connection's end.
    pub(crate) async fn read_frame(&mut self) -> bool {
        let Ok(first) = self.stream.read_u32().await else { return false };
        let Ok(second) = self.stream.read_u32().await else { return false };
        let mut payload = vec![0; usize::try_from(second & 0x00ff_ffff).unwrap()];
        if self.stream.read_exact(&mut payload).await.is_err() {
            return false;
        }
        if first & 0x8000_0000 == 0 {
            let come = self.come.entry(first).or_default();
            come.bytes.extend(payload);
            come.finished |= second >> 24 & 1 == 1;
        } else if first & 0xffff == 3 {
            let stream = u32::from_be_bytes(payload[..4].try_into().unwrap());
            self.come.entry(stream).or_default().reset = true;
        }
        true
    }

    /// Reads until the server has ended a stream: all that came on it.
    pub(crate) async fn read_to_end(&mut self, stream: u32) -> String {
        while !self.come[&stream].over() {
            assert!(self.read_frame().await, "the connection ended before stream {stream}: {:?}", self.come);
        }
        self.come[&stream].text()
    }

    /// Reads until something has come on a stream.
    pub(crate) async fn read_until(&mut self, stream: u32, what: &str) {
        while !self.come[&stream].text().contains(what) {
            assert!(self.read_frame().await, "the connection ended before {what:?}: {:?}", self.come);
        }
    }
}

/// Carries bytes in a WebSocket's messages until either side ends.
async fn carry(bytes: DuplexStream, socket: WebSocketStream<TcpStream>) {
    let (mut reader, mut writer) = split(bytes);
    let (mut messages, mut incoming) = socket.split();
    let mut buffer = vec![0; 5000];
    let up = async {
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            if messages.send(Message::Binary(Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        while let Some(Ok(message)) = incoming.next().await {
            if message.is_binary() && writer.write_all(&message.into_data()).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// A WebSocket client.
pub(crate) struct WebSocket {
    socket: WebSocketStream<TcpStream>,
    /// By channel.
    pub(crate) come: BTreeMap<u8, Vec<u8>>,
    /// Pongs' payloads.
    pub(crate) pongs: Vec<Bytes>,
    /// Code of the server's close.
    pub(crate) closed: Option<u16>,
}

impl WebSocket {
    /// Upgrades at a URL.
    pub(crate) async fn connect(url: &str, protocol: &str) -> WebSocket {
        let authority = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(authority).await.unwrap();
        let mut request = url.replacen("http://", "ws://", 1).into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocol).unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        WebSocket { socket, come: BTreeMap::new(), pongs: Vec::new(), closed: None }
    }

    /// The client's own.
    pub(crate) fn port(&self) -> u16 {
        self.socket.get_ref().local_addr().unwrap().port()
    }

    /// Sends a binary message.
    pub(crate) async fn send(&mut self, payload: &[u8]) {
        self.socket.send(Message::Binary(Bytes::copy_from_slice(payload))).await.unwrap();
    }

    /// Asks for a pong.
    pub(crate) async fn ping(&mut self, payload: &'static [u8]) {
        self.socket.send(Message::Ping(payload.into())).await.unwrap();
    }

    /// Sends a text message.
    pub(crate) async fn send_text(&mut self, payload: &str) {
        self.socket.send(Message::Text(payload.into())).await.unwrap();
    }

    /// Takes in a message; false at the end.
    pub(crate) async fn read_message(&mut self) -> bool {
        let payload = match self.socket.next().await {
            Some(Ok(Message::Binary(payload))) => payload,
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Close(frame))) => {
                self.closed = frame.map(|frame| frame.code.into());
                return false;
            }
            Some(Ok(Message::Pong(payload))) => {
                self.pongs.push(payload);
                return true;
            }
            Some(Ok(_)) => return true,
            Some(Err(_)) | None => return false,
        };
        self.come.entry(payload[0]).or_default().extend(&payload[1..]);
        true
    }

    /// Reads until the server closes.
    pub(crate) async fn read_to_end(&mut self) {
        while self.read_message().await {}
    }

    /// Reads until something has come on a channel.
    pub(crate) async fn read_until(&mut self, channel: u8, what: &str) {
        while !self.text(channel).contains(what) {
            assert!(self.read_message().await, "the connection ended before {what:?}: {:?}", self.come);
        }
    }

    /// What has come on a channel, as text.
    pub(crate) fn text(&self, channel: u8) -> String {
        self.come.get(&channel).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }
}
