//! Just enough HTTP/1.1 for a scripted engine: whole requests in, whole or chunked answers out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// `/v1.41/containers/json?all=1`.
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The next one on a connection; None when the client has closed it.
    pub(crate) fn read(from: &mut BufReader<UnixStream>) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (mut length, mut chunked) = (0, false);
        loop {
            let mut header = String::new();
            from.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            match header.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().map_err(io::Error::other)?,
                Some(("transfer-encoding", _)) => chunked = true,
                Some(_) => {}
                None => break,
            }
        }
        let body = if chunked { read_chunks(from)? } else { read_exactly(from, length)? };
        Ok(Some(Request { method, target, body }))
    }

    /// Without version and query: `/containers/json`.
    pub(crate) fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        match path.strip_prefix("/v1.") {
            Some(versioned) => versioned.find('/').map_or("", |at| &versioned[at..]),
            None => path,
        }
    }

    /// Minor part of the API version in front of the path.
    pub(crate) fn version(&self) -> Option<u16> {
        self.target.strip_prefix("/v1.")?.split('/').next()?.parse().ok()
    }

    /// A value of the query, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let pairs = self.target.split_once('?')?.1.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).next()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn read_exactly(from: &mut BufReader<UnixStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(from: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        from.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        body.extend(read_exactly(from, size)?);
        read_exactly(from, 2)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// `%2F` → `/`.
pub(crate) fn decode(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.extend(piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()));
        bytes.extend(piece.as_bytes().iter().skip(2));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A whole answer. 204 and 304 have no body.
pub(crate) fn answer(mut to: &UnixStream, status: u16, body: &Value) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status} -\r\nApi-Version: 1.x\r\n");
    if [204, 304].contains(&status) {
        return to.write_all(format!("{head}\r\n").as_bytes());
    }
    let body = body.to_string();
    let length = body.len();
    to.write_all(format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
}

/// An answer that takes the connection over, for as long as these bytes take.
pub(crate) fn upgrade(mut to: &UnixStream, content_type: &str, bytes: &[u8]) -> io::Result<()> {
    let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp";
    to.write_all(format!("{head}\r\nContent-Type: {content_type}\r\n\r\n").as_bytes())?;
    to.write_all(bytes)
}

/// An answer that comes in lines, each a chunk.
pub(crate) struct Lines<'a>(&'a UnixStream);

impl<'a> Lines<'a> {
    pub(crate) fn begin(mut to: &'a UnixStream) -> io::Result<Self> {
        to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        Ok(Lines(to))
    }

    pub(crate) fn send(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes())
    }

    pub(crate) fn end(mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")
    }
}
