//! `dockershim status`: how a running dockershim is, on one screen. Asked over its CRI socket, by the Status that the kubelet asks
//! too; there is no second protocol.
//!
//! It changes nothing, and what it can't make out it leaves out.

mod screen;
#[cfg(test)]
mod testing;
pub mod told;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cri;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::server::client::{connect, reply};
use crate::service::now_ns;
use screen::Screen;
use told::Told;

/// How long the daemon may take: it answers out of its memory.
const LIMIT: Duration = Duration::from_secs(5);

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A screen for people.
    Screen,
    /// An object.
    Json,
}

/// Shows in `out` how the daemon is that serves `socket`. Whether it can be reached and is ready; an error is one of writing.
pub async fn show(socket: &Path, form: Form, out: &mut dyn Write) -> io::Result<bool> {
    let status = match ask(socket).await {
        Ok(status) => status,
        Err(reason) => {
            match form {
                Form::Screen => {
                    writeln!(out, "dockershim can't be asked on {}: {reason}\n{NOT_RUNNING}", socket.display())?
                }
                Form::Json => write_json(out, &json!({ "ready": false, "socket": socket, "error": reason }))?,
            }
            return Ok(false);
        }
    };
    let cri::StatusResponse { status, info, runtime_handlers: _, features: _ } = status;
    let conditions = status.unwrap_or_default().conditions;
    let ready = !conditions.is_empty() && conditions.iter().all(|condition| condition.status);
    match form {
        Form::Screen => {
            let (told, now_ns) = (Told::from_info(&info), now_ns());
            let screen = Screen { socket, conditions: &conditions, ready, told: &told, now_ns };
            write!(out, "{screen}")?;
        }
        Form::Json => {
            let parts = info.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).unwrap_or(Value::Null)));
            let mut whole: Map<String, Value> = parts.collect();
            whole.insert("ready".to_owned(), ready.into());
            whole.insert("socket".to_owned(), json!(socket));
            whole.insert("conditions".to_owned(), conditions.iter().map(condition).collect());
            write_json(out, &Value::Object(whole))?;
        }
    }
    Ok(ready)
}

const NOT_RUNNING: &str = "is dockershim running? start it, or name its socket with --container-runtime-endpoint";

async fn ask(socket: &Path) -> Result<cri::StatusResponse, String> {
    let mut runtime = RuntimeServiceClient::new(connect(socket, LIMIT).await?);
    let status = reply(runtime.status(cri::StatusRequest { verbose: true })).await?;
    if status.info.contains_key("daemon") {
        return Ok(status);
    }
    Err("what answers is another runtime, or a dockershim older than this".to_owned())
}

fn condition(condition: &cri::RuntimeCondition) -> Value {
    let cri::RuntimeCondition { r#type, status, reason, message } = condition;
    json!({ "type": r#type, "status": status, "reason": reason, "message": message })
}

fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}
