//! The cache of results that CNI's own library keeps. Other tools read it; we write it for them and go by our own record.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Saved;
use super::args::INTERFACE;

/// The file's form, as the library writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cached<'a> {
    kind: &'static str,
    container_id: &'a str,
    config: String,
    if_name: &'static str,
    network_name: &'a str,
    netns: &'a str,
    cni_args: &'a [(String, String)],
    #[serde(skip_serializing_if = "Map::is_empty")]
    capability_args: &'a Map<String, Value>,
    result: Option<&'a Map<String, Value>>,
}

/// Writes an attachment's file; replaced whole, so that no reader sees a part of it.
pub(super) fn write(dir: &Path, saved: &Saved, netns: &str) -> io::Result<()> {
    let path = path(dir, saved);
    let config = serde_json::to_vec(&saved.list.json)?;
    let content = serde_json::to_vec(&Cached {
        kind: "cniCacheV1",
        container_id: &saved.parameters.container_id,
        config: STANDARD.encode(config),
        if_name: INTERFACE,
        network_name: &saved.list.name,
        netns,
        cni_args: &saved.parameters.args,
        capability_args: &saved.parameters.capabilities,
        result: saved.added.as_ref().map(|added| &added.result),
    })?;
    let results = path.parent().unwrap_or(dir);
    DirBuilder::new().recursive(true).mode(0o700).create(results)?;
    let beside = results.join(format!(".{}", saved.parameters.container_id));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&content)?;
    fs::rename(beside, path)
}

/// Removes an attachment's file; one that isn't there is removed already.
pub(super) fn remove(dir: &Path, saved: &Saved) -> io::Result<()> {
    match fs::remove_file(path(dir, saved)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Both names are ids, so the file is in the directory.
fn path(dir: &Path, saved: &Saved) -> PathBuf {
    dir.join("results").join(format!("{}-{}-{INTERFACE}", saved.list.name, saved.parameters.container_id))
}
