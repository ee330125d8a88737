//! `/containers/{id}/archive`: files of a container, running or not, as tar.

use std::io::Read;
use std::time::Duration;

use base64::Engine as _;
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;

use super::{Engine, Error, encode, within};

/// What tar adds to one small file: its header, padding, and the end of the archive.
const TAR_BYTES: usize = 16 << 10;

/// `X-Docker-Container-Path-Stat`, as far as we use it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PathStat {
    /// Of a link: where it ends, within the container, all links resolved.
    link_target: String,
}

impl Engine {
    /// `GET /containers/{id}/archive?path=`: the content of one file, links followed. None when there is none, or something that
    /// isn't a file; more than `most_bytes` is [`Error::Unreadable`].
    pub async fn read_file(&self, id: &str, path: &str, most_bytes: usize) -> Result<Option<Vec<u8>>, Error> {
        within("read file", self.timeouts.read, async {
            match self.archive(id, path, most_bytes).await? {
                Archive::Link(target) => match self.archive(id, &target, most_bytes).await? {
                    Archive::Content(content) => Ok(Some(content)),
                    Archive::Link(_) | Archive::NoFile => Ok(None),
                },
                Archive::Content(content) => Ok(Some(content)),
                Archive::NoFile => Ok(None),
            }
        })
        .await
    }

    /// `HEAD /containers/{id}/archive?path=`: whether there is something by that path.
    pub async fn has_path(&self, id: &str, path: &str, limit: Duration) -> Result<bool, Error> {
        let path = format!("/containers/{id}/archive?path={}", encode(path));
        match within("look at path", limit, self.send(Method::HEAD, &path, Vec::new())).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn archive(&self, id: &str, path: &str, most_bytes: usize) -> Result<Archive, Error> {
        let path = format!("/containers/{id}/archive?path={}", encode(path));
        let response = match self.send(Method::GET, &path, Vec::new()).await {
            Err(error) if error.is_not_found() => return Ok(Archive::NoFile),
            response => response?,
        };
        let stat = response.headers().get("X-Docker-Container-Path-Stat");
        let stat = stat.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).ok());
        let stat: PathStat = stat.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        if !stat.link_target.is_empty() {
            return Ok(Archive::Link(stat.link_target));
        }
        let (mut body, mut tar) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::Unreachable { source: Box::new(error) })?;
            tar.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            if tar.len() > most_bytes + TAR_BYTES {
                let reason = format!("more than {most_bytes} bytes");
                return Err(Error::Unreadable { call: "read file", reason });
            }
        }
        Ok(first_file(&tar).map_or(Archive::NoFile, Archive::Content))
    }
}

/// What is by a path.
enum Archive {
    Content(Vec<u8>),
    Link(String),
    NoFile,
}

/// The content of an archive's first entry, if that is a file.
fn first_file(tar: &[u8]) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    if !entry.header().entry_type().is_file() {
        return None;
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tar_of(kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(u64::try_from(content.len()).unwrap());
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut header, "passwd", content).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn only_a_file_has_content() {
        assert_eq!(first_file(&tar_of(tar::EntryType::Regular, b"root")), Some(b"root".to_vec()));
        assert_eq!(first_file(&tar_of(tar::EntryType::Fifo, b"")), None);
        assert_eq!(first_file(&tar_of(tar::EntryType::Directory, b"")), None);
        assert_eq!(first_file(b""), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read(tar: Vec<u8>) {
            let _ = first_file(&tar);
        }
    }
}
