//! ImageFsInfo: where images are and what they take. The kubelet asks at its start, where an error ends it, and every 10 s:
//! always answered from memory, with one look at the file system.
//!
//! Bytes are the sum of the images' sizes, so that layers which images share count once for each of them.

use rustix::fs::statvfs;

use crate::cri;
use crate::error::Result;
use crate::service::{Daemon, now_ns};

/// Where the Engine keeps its data while it hasn't said otherwise.
const DEFAULT_ROOT: &str = "/var/lib/docker";

/// Answers ImageFsInfo; images and containers are on one file system.
pub async fn image_fs_info(daemon: &Daemon, request: cri::ImageFsInfoRequest) -> Result<cri::ImageFsInfoResponse> {
    let cri::ImageFsInfoRequest {} = request;
    let facts = daemon.index.facts();
    let root = facts.map(|facts| facts.info.docker_root_dir.clone()).filter(|root| !root.is_empty());
    let root = root.unwrap_or_else(|| DEFAULT_ROOT.to_owned());
    let images = daemon.index.images().all();
    let images_bytes = images.iter().fold(0u64, |sum, image| sum.saturating_add(image.size_bytes));
    let inodes = statvfs(root.as_str()).map(|stat| stat.f_files.saturating_sub(stat.f_ffree));
    let usage = |bytes: u64| cri::FilesystemUsage {
        timestamp: now_ns(),
        fs_id: Some(cri::FilesystemIdentifier { mountpoint: root.clone() }),
        used_bytes: Some(cri::UInt64Value { value: bytes }),
        inodes_used: inodes.ok().map(|value| cri::UInt64Value { value }),
    };
    Ok(cri::ImageFsInfoResponse { image_filesystems: vec![usage(images_bytes)], container_filesystems: vec![usage(0)] })
}
