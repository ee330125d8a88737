//! The cache of results that CNI's own library keeps. Other tools read it; we write it for them and go by our own record. Only a
//! pod that another adapter has joined, which we have no record of, is known from here.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::args::{INTERFACE, Parameters};
use super::convert::convert;
use super::{Added, Saved, conflist, result};

/// The only form of the file there is.
const KIND: &str = "cniCacheV1";
/// The network that cri-dockerd brings a pod's `lo` up with: no network to us.
const LOOPBACK: &str = "cni-loopback";
/// Larger files are no results.
const FILE_LIMIT: u64 = 4 << 20;

/// The file, as the library writes it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    netns: String,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    capability_args: Map<String, Value>,
    #[serde(default)]
    result: Option<Map<String, Value>>,
}

/// Writes an attachment's file; replaced whole, so that no reader sees a part of it.
pub(super) fn write(dir: &Path, saved: &Saved, netns: &str) -> io::Result<()> {
    let path = path(dir, saved);
    let config = serde_json::to_vec(&saved.list.json)?;
    let content = serde_json::to_vec(&Cached {
        kind: KIND.to_owned(),
        container_id: saved.parameters.container_id.clone(),
        config: STANDARD.encode(config),
        if_name: INTERFACE.to_owned(),
        network_name: saved.list.name.clone(),
        netns: netns.to_owned(),
        cni_args: saved.parameters.args.clone(),
        capability_args: saved.parameters.capabilities.clone(),
        result: saved.added.as_ref().map(|added| added.result.clone()),
    })?;
    let results = path.parent().unwrap_or(dir);
    DirBuilder::new().recursive(true).mode(0o700).create(results)?;
    let beside = results.join(format!(".{}", saved.parameters.container_id));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&content)?;
    fs::rename(beside, path)
}

/// What another adapter has left of a sandbox's attachment; `container_id` is an id. What can't be read counts as not there, and
/// is logged.
pub(super) fn read(dir: &Path, container_id: &str) -> Option<Saved> {
    let ending = format!("-{container_id}-{INTERFACE}");
    // without a directory nothing was left
    let entries = fs::read_dir(dir.join("results")).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(&ending)));
    let mut attachments = files.filter_map(|entry| match read_file(&entry.path(), container_id) {
        Ok(saved) => saved,
        Err(reason) => {
            tracing::warn!(file = %entry.path().display(), reason, "CNI cache of another adapter can't be used");
            None
        }
    });
    attachments.next()
}

/// Reads a file; None if it is about something else.
fn read_file(path: &Path, container_id: &str) -> Result<Option<Saved>, String> {
    let mut content = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut content));
    read.map_err(|error| error.to_string())?;
    let cached: Cached = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
    if cached.network_name == LOOPBACK || cached.container_id != container_id || cached.if_name != INTERFACE {
        return Ok(None);
    }
    if cached.kind != KIND {
        return Err(format!("its kind is {:?}", cached.kind));
    }
    let config = STANDARD.decode(&cached.config).map_err(|error| format!("its config is not base64: {error}"))?;
    let list = conflist::read("configuration in the CNI cache.conflist", &config);
    let list = list.map_err(|reason| format!("its config {reason}"))?;
    let added = cached.result.map(|result| {
        let result = convert(result, &list.version);
        // the pod can be taken down without any
        let addresses = result::addresses(&result).unwrap_or_default();
        Added { result, addresses }
    });
    let Cached { container_id, cni_args: args, capability_args: capabilities, .. } = cached;
    let parameters = Parameters { container_id, args, capabilities };
    Ok(Some(Saved { list, parameters, netns: None, added, absences: 0 }))
}

/// Removes an attachment's file, and the one that another adapter has for its `lo`; what isn't there is removed already.
pub(super) fn remove(dir: &Path, saved: &Saved) -> io::Result<()> {
    let id = &saved.parameters.container_id;
    let loopback = dir.join("results").join(format!("{LOOPBACK}-{id}-{INTERFACE}"));
    for path in [path(dir, saved), loopback] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Both names are ids, so the file is in the directory.
fn path(dir: &Path, saved: &Saved) -> PathBuf {
    dir.join("results").join(format!("{}-{}-{INTERFACE}", saved.list.name, saved.parameters.container_id))
}
