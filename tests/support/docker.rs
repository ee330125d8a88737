//! Plain calls to the engine over HTTP/1.0, where every answer ends with its connection: to prepare a test and to look
//! behind the shim's back. Slow and simple on purpose; it shares no code with what it checks.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

/// An engine's socket.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    socket: PathBuf,
}

impl Docker {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Docker { socket }
    }

    /// One call: status and body.
    pub(crate) fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let length = body.len();
        let mut request =
            format!("{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Length: {length}\r\n{headers}\r\n")
                .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        let answer = read_answer(&mut stream)?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        match (status, end) {
            (Some(status), Some(end)) => Ok((status, answer[end + 4..].to_vec())),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer")),
        }
    }

    /// A call that must succeed, and its answer's JSON (Null when there is none).
    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        self.checked(method, path, "Content-Type: application/json\r\n", &body)
    }

    /// `GET`.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.json("GET", path, &Value::Null)
    }

    /// Loads a docker-archive.
    pub(crate) fn load(&self, archive: &[u8]) {
        self.checked("POST", "/images/load?quiet=1", "Content-Type: application/x-tar\r\n", archive);
    }

    /// Gives an image one more name.
    pub(crate) fn tag(&self, image: &str, repository: &str, tag: &str) {
        self.json("POST", &format!("/images/{image}/tag?repo={repository}&tag={tag}"), &Value::Null);
    }

    /// Pushes `repository:tag`.
    pub(crate) fn push(&self, repository: &str, tag: &str) {
        let nobody = base64::engine::general_purpose::STANDARD.encode("{}");
        let headers = format!("X-Registry-Auth: {nobody}\r\n");
        let (status, body) = self.call("POST", &format!("/images/{repository}/push?tag={tag}"), &headers, b"").unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(status == 200 && !text.contains("errorDetail"), "push {repository}:{tag}: {status} {text}");
    }

    /// Removes an image's name, or the image.
    pub(crate) fn remove_image(&self, image: &str) {
        self.json("DELETE", &format!("/images/{image}?force=1"), &Value::Null);
    }

    /// Whether the engine answers.
    pub(crate) fn answers(&self) -> bool {
        self.call("GET", "/_ping", "", b"").is_ok_and(|(status, _)| status == 200)
    }

    /// Ids and first names of all containers.
    pub(crate) fn containers(&self) -> Vec<(String, String)> {
        let list = self.get("/containers/json?all=1");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.as_array().unwrap().iter().map(|item| (text(&item["Id"]), text(&item["Names"][0]))).collect()
    }

    /// Removes all containers by force; what goes wrong is left to those who kill the processes.
    pub(crate) fn remove_all_containers(&self) {
        let Ok((200, body)) = self.call("GET", "/containers/json?all=1", "", b"") else { return };
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        for id in list.as_array().into_iter().flatten().filter_map(|item| item["Id"].as_str()) {
            let _ = self.call("DELETE", &format!("/containers/{id}?force=1&v=1"), "", b"");
        }
    }

    fn checked(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Value {
        let (status, body) =
            self.call(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(status < 300, "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or_default()
    }
}

/// All that comes. An engine that answers before it has read the whole request closes with a reset, behind the answer.
fn read_answer(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset || answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}
