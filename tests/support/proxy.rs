//! Stands between a shim and its engine, passes every byte on as it is, and counts the calls by method and path.
//! It reads just enough HTTP to know where one request ends and the next begins.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::workspace;

/// How often each call was made: `POST /containers/{}/start` → 2.
pub(crate) type Calls = BTreeMap<String, usize>;

/// A counting proxy; it serves until the process ends.
pub(crate) struct Proxy {
    socket: PathBuf,
    calls: Arc<Mutex<Calls>>,
}

impl Proxy {
    /// Starts one in front of an engine's socket.
    pub(crate) fn start(engine: &Path) -> Proxy {
        let socket = workspace::new_dir("p").join("proxy.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let calls = Arc::new(Mutex::new(Calls::new()));
        let (counter, engine) = (calls.clone(), engine.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (counter, engine) = (counter.clone(), engine.clone());
                std::thread::spawn(move || carry(client, &engine, &counter));
            }
        });
        Proxy { socket, calls }
    }

    /// Where the shim is to connect.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The calls since the last time of asking.
    pub(crate) fn take(&self) -> Calls {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

/// One connection, both directions. A dead engine looks as it would without the proxy: the connection ends at once.
fn carry(client: UnixStream, engine: &Path, calls: &Mutex<Calls>) {
    let Ok(server) = UnixStream::connect(engine) else { return };
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let _ = requests(&mut BufReader::new(client), &server, calls);
    let _ = server.shutdown(Shutdown::Write);
}

/// Passes requests on until the client ends; after an upgrade, bytes.
fn requests(client: &mut BufReader<UnixStream>, mut server: &UnixStream, calls: &Mutex<Calls>) -> std::io::Result<()> {
    loop {
        let head = head(client)?;
        if head.is_empty() {
            return Ok(());
        }
        let first = head.lines().next().unwrap_or_default();
        *calls.lock().unwrap().entry(template(first)).or_default() += 1;
        server.write_all(head.as_bytes())?;
        if header(&head, "upgrade").is_some() {
            return std::io::copy(client, &mut server).map(drop);
        }
        if header(&head, "transfer-encoding").is_some() {
            chunks(client, server)?;
        } else if let Some(length) = header(&head, "content-length").and_then(|value| value.parse().ok()) {
            std::io::copy(&mut client.by_ref().take(length), &mut server)?;
        }
    }
}

/// Request line and headers with their empty line; empty at the end of the connection.
fn head(client: &mut BufReader<UnixStream>) -> std::io::Result<String> {
    let mut head = String::new();
    while client.read_line(&mut head)? > 0 {
        if head.ends_with("\r\n\r\n") {
            return Ok(head);
        }
    }
    Ok(String::new())
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
}

/// A chunked body, up to and with its last chunk.
fn chunks(client: &mut BufReader<UnixStream>, mut server: &UnixStream) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        server.write_all(line.as_bytes())?;
        let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).unwrap_or(0);
        std::io::copy(&mut client.by_ref().take(size + 2), &mut server)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// The daemon's own question whether the engine still lists, every few seconds whatever else happens.
pub(crate) const HEARTBEAT: &str = "GET /containers/json?limit=1";

/// `POST /v1.41/containers/0af3…/start?x=y HTTP/1.1` → `POST /containers/{}/start`.
fn template(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    if method == "GET" && target.ends_with("/containers/json?limit=1") {
        return HEARTBEAT.to_owned();
    }
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.first().is_some_and(|part| part.starts_with("v1.")) {
        parts.remove(0);
    }
    let words_of_the_api = ["json", "create", "load", "prune", "search"];
    if let [kind, name, ..] = parts.as_mut_slice()
        && ["containers", "images", "exec"].contains(kind)
        && !words_of_the_api.contains(name)
    {
        *name = "{}";
        if *kind == "images" {
            // an image's name has slashes of its own; a verb can only come last
            let verb = parts.last().filter(|last| words_of_the_api.contains(last) || ["push", "tag"].contains(last));
            parts = ["images", "{}"].into_iter().chain(verb.copied()).collect();
        }
    }
    format!("{method} /{}", parts.join("/"))
}
