//! Bytes in and out of a connection, in the frames of whatever is spoken on it. Threads and blocking calls, large buffers, and payloads
//! that are only counted: the client must cost less than what it measures.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

/// Room for one read.
const BUFFER: usize = 256 << 10;
/// What Go's clients send at once.
pub(crate) const CHUNK: usize = 32 << 10;

/// A connection's socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) fn again(&self) -> io::Result<Socket> {
        Ok(match self {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone()?),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone()?),
        })
    }

    fn finish(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing but the bytes.
    None,
    /// The Engine's, of exec without a terminal: outputs in frames, input without.
    Docker,
    Spdy,
    /// Channels in messages.
    WebSocket,
}

/// A frame whose payload comes next.
pub(crate) struct Frame {
    /// Stream or channel; None of what is no data.
    pub(crate) stream: Option<u32>,
    pub(crate) length: usize,
    /// The stream's last; of a WebSocket, the connection's.
    pub(crate) last: bool,
}

/// What comes.
pub(crate) struct Inlet {
    from: Box<dyn Read + Send>,
    framing: Framing,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inlet {
    pub(crate) fn new(from: impl Read + Send + 'static, framing: Framing) -> Inlet {
        Inlet { from: Box::new(from), framing, buffer: vec![0; BUFFER], start: 0, end: 0 }
    }

    /// The next frame's head; None at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        if self.start == self.end && self.fill()? == 0 {
            return Ok(None);
        }
        Ok(Some(match self.framing {
            Framing::None => Frame { stream: Some(0), length: self.end - self.start, last: false },
            Framing::Docker => {
                let [stream, _, _, _, length @ ..] = self.take::<8>()?;
                Frame { stream: Some(u32::from(stream)), length: usize_of(length), last: false }
            }
            Framing::Spdy => {
                let [a, b, c, d, flags, length @ ..] = self.take::<8>()?;
                let stream = u32::from_be_bytes([a, b, c, d]);
                let data = stream >> 31 == 0;
                let [x, y, z] = length;
                Frame { stream: data.then_some(stream), length: usize_of([0, x, y, z]), last: data && flags & 1 == 1 }
            }
            Framing::WebSocket => self.message()?,
        }))
    }

    fn message(&mut self) -> io::Result<Frame> {
        let (opcode, length) = self.message_head()?;
        if opcode > 2 || length == 0 {
            return Ok(Frame { stream: None, length, last: opcode == 8 });
        }
        let [channel] = self.take::<1>()?;
        Ok(Frame { stream: Some(u32::from(channel)), length: length - 1, last: false })
    }

    /// Opcode and length.
    fn message_head(&mut self) -> io::Result<(u8, usize)> {
        let [kind, length] = self.take::<2>()?;
        let length = match length {
            126 => usize::from(u16::from_be_bytes(self.take()?)),
            127 => usize::try_from(u64::from_be_bytes(self.take()?)).unwrap_or(usize::MAX),
            short => usize::from(short),
        };
        Ok((kind & 15, length))
    }

    /// Drops payload.
    pub(crate) fn skip(&mut self, mut length: usize) -> io::Result<()> {
        while length > 0 {
            if self.start == self.end && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let here = length.min(self.end - self.start);
            self.start += here;
            length -= here;
        }
        Ok(())
    }

    /// Bytes as they stand, to the end of an HTTP head; never beyond it.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.take::<1>()?);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut taken = [0; N];
        for byte in &mut taken {
            if self.start == self.end && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *byte = self.buffer[self.start];
            self.start += 1;
        }
        Ok(taken)
    }

    fn fill(&mut self) -> io::Result<usize> {
        (self.start, self.end) = (0, self.from.read(&mut self.buffer)?);
        Ok(self.end)
    }
}

fn usize_of(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

/// The bytes in a WebSocket's messages: what a tunnel carries.
pub(crate) struct Tunnelled {
    inlet: Inlet,
    /// Of the message that is being read.
    left: usize,
}

impl Tunnelled {
    pub(crate) fn through(inlet: Inlet) -> Tunnelled {
        Tunnelled { inlet, left: 0 }
    }
}

impl Read for Tunnelled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inlet = &mut self.inlet;
        while self.left == 0 {
            let (opcode, length) = inlet.message_head()?;
            match opcode {
                0..=2 => self.left = length,
                8 => return Ok(0),
                _ => inlet.skip(length)?,
            }
        }
        if inlet.start == inlet.end && inlet.fill()? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let here = self.left.min(inlet.end - inlet.start).min(buffer.len());
        buffer[..here].copy_from_slice(&inlet.buffer[inlet.start..inlet.start + here]);
        inlet.start += here;
        self.left -= here;
        Ok(here)
    }
}

/// What goes.
pub(crate) struct Outlet {
    to: Socket,
    framing: Framing,
    /// SPDY inside a WebSocket's messages.
    tunnelled: bool,
}

impl Outlet {
    pub(crate) fn new(to: Socket, framing: Framing, tunnelled: bool) -> Outlet {
        Outlet { to, framing, tunnelled }
    }

    /// A frame of zeros or other bytes for a stream, to be sent any number of times.
    pub(crate) fn frame(&self, stream: u32, payload: &[u8]) -> Vec<u8> {
        let frame = match self.framing {
            Framing::None | Framing::Docker => payload.to_vec(),
            Framing::Spdy => spdy_data(stream, 0, payload),
            Framing::WebSocket => message(&[&stream.to_le_bytes()[..1], payload].concat()),
        };
        if self.tunnelled { message(&frame) } else { frame }
    }

    /// Sends bytes that are frames already.
    pub(crate) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.to.write_all(frame)
    }

    /// Sends a control frame of SPDY.
    pub(crate) fn send_control(&mut self, kind: u16, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80, 3];
        frame.extend(kind.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes());
        frame.extend(payload);
        let frame = if self.tunnelled { message(&frame) } else { frame };
        self.send(&frame)
    }

    /// Ends a stream. Channels of port-forward over a WebSocket can't be ended.
    pub(crate) fn finish(&mut self, stream: u32) -> io::Result<()> {
        match self.framing {
            Framing::None | Framing::Docker => self.to.finish(),
            Framing::Spdy if self.tunnelled => self.send(&message(&spdy_data(stream, 1, b""))),
            Framing::Spdy => self.send(&spdy_data(stream, 1, b"")),
            Framing::WebSocket => self.send(&message(&[&[255], &stream.to_le_bytes()[..1]].concat())),
        }
    }
}

fn spdy_data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&stream.to_be_bytes()[..], &[flags], &length, payload].concat()
}

/// A binary message, masked with zeros: the server can't tell, and the client saves the work.
fn message(payload: &[u8]) -> Vec<u8> {
    let length = u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes();
    let head: &[u8] = match payload.len() {
        short @ 0..126 => &[0x82, 0x80 | u8::try_from(short).unwrap_or_default()],
        126..65536 => &[0x82, 0xfe, length[6], length[7]],
        _ => &[&[0x82, 0xff][..], &length].concat(),
    };
    [head, &[0; 4], payload].concat()
}
