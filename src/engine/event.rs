//! `GET /events`: the engine's own account of what happens, as a stream of slim events.
//! An event that can't be read is passed over: the reconcile sees what it was about.

use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::model::Event;
use super::{Engine, Error, encode, within};

/// What we want to hear of; `exec_die` carries exit codes of ExecSync.
const FILTERS: &str = r#"{"type":["container","image"],"event":["create","start","die","oom","destroy","rename","update","pause","unpause","exec_die","pull","load","import","tag","untag","delete"]}"#;

/// A line longer than this isn't an event.
const MAX_LINE_BYTES: usize = 16 << 20;

/// An open event stream.
pub struct Events {
    body: Incoming,
    buffer: BytesMut,
}

impl Engine {
    /// Opens the event stream; events from this moment on come through it.
    pub async fn events(&self) -> Result<Events, Error> {
        let path = format!("/events?filters={}", encode(FILTERS));
        let response = within("events", self.timeouts.read, self.send(Method::GET, &path, Vec::new())).await?;
        Ok(Events { body: response.into_body(), buffer: BytesMut::new() })
    }
}

impl Events {
    /// The next event; None when the stream has ended. Safe to drop while waiting.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                match serde_json::from_slice(&line) {
                    Ok(event) => return Some(event),
                    Err(error) => tracing::warn!(%error, "an event of the engine can't be read"),
                }
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}
