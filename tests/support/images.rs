//! Test images, made from scratch of the machine's static busybox (package busybox-static): no registry and no build is needed.
//! Each is a docker-archive of one layer; variants differ in their configuration alone.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::docker::Docker;

/// A shell with the usual commands; root.
pub(crate) const BUSYBOX: &str = "dsh-busybox:1";
/// `USER 1000`.
pub(crate) const USER_NUMBER: &str = "dsh-user-number:1";
/// `USER 1000:3000`.
pub(crate) const USER_GROUP: &str = "dsh-user-group:1";
/// `USER daemon`.
pub(crate) const USER_NAME: &str = "dsh-user-name:1";
/// Entrypoint, command, environment, working directory, volume, labels and stop signal of its own.
pub(crate) const FULL: &str = "dsh-full:1";

/// Loads all images that the tests use.
pub(crate) fn load_all(docker: &Docker) {
    load(docker, &[BUSYBOX], json!({"Cmd": ["sh"]}));
    load(docker, &[USER_NUMBER], json!({"Cmd": ["sh"], "User": "1000"}));
    load(docker, &[USER_GROUP], json!({"Cmd": ["sh"], "User": "1000:3000"}));
    load(docker, &[USER_NAME], json!({"Cmd": ["sh"], "User": "daemon"}));
    let full = json!({
        "Entrypoint": ["/bin/echo", "entry"],
        "Cmd": ["command"],
        "Env": ["PATH=/bin", "FROM_IMAGE=yes"],
        "WorkingDir": "/tmp",
        "Volumes": {"/data": {}},
        "Labels": {"from.image": "hidden", "io.kubernetes.pod.name": "an image can lie"},
        "StopSignal": "SIGQUIT",
    });
    load(docker, &[FULL], full);
}

/// Loads an image of its own id under these names: a label makes its configuration unlike any other's.
pub(crate) fn load_unique(docker: &Docker, mark: &str, names: &[&str]) {
    load(docker, names, json!({"Cmd": ["sh"], "Labels": {"mark": mark}}));
}

/// Loads an image with this configuration under these names.
pub(crate) fn load(docker: &Docker, names: &[&str], config: Value) {
    docker.load(&archive(names, &config));
}

/// A docker-archive, as `docker save` would write it.
fn archive(names: &[&str], config: &Value) -> Vec<u8> {
    let layer = layer();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let image = json!({
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    });
    let image = image.to_string().into_bytes();
    let config_name = format!("{}.json", hex(&image));
    let manifest = json!([{"Config": config_name, "RepoTags": names, "Layers": ["layer.tar"]}]);
    let mut tar = Builder::new(Vec::new());
    file(&mut tar, &config_name, 0o644, &image);
    file(&mut tar, "layer.tar", 0o644, &layer);
    file(&mut tar, "manifest.json", 0o644, manifest.to_string().as_bytes());
    tar.into_inner().unwrap()
}

/// busybox under the names of all its commands, users, and a /tmp that all can write.
fn layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("/bin/busybox (package busybox-static) can't be read");
    let list = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
    let mut tar = Builder::new(Vec::new());
    for (name, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700)] {
        entry(&mut tar, EntryType::Directory, name, mode, &[]);
    }
    file(&mut tar, "bin/busybox", 0o755, &busybox);
    for command in String::from_utf8(list).unwrap().lines().filter(|command| *command != "busybox") {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{command}"), "busybox").unwrap();
    }
    file(
        &mut tar,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
    );
    file(&mut tar, "etc/group", 0o644, b"root:x:0:\ndaemon:x:1:\nextra:x:2000:user\n");
    tar.into_inner().unwrap()
}

fn file(tar: &mut Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) {
    entry(tar, EntryType::Regular, name, mode, content);
}

fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, mode: u32, content: &[u8]) {
    let mut header = header(kind, mode, content.len());
    tar.append_data(&mut header, name, content).unwrap();
}

fn header(kind: EntryType, mode: u32, length: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(length).unwrap());
    header.set_mtime(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
