//! Packs the pause program as an image: one layer with one file, its configuration, and the archive around them. Pure.
//! Nothing here may depend on the time, the machine or the order of a map: the same program must give the same bytes.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::PROGRAM;

/// The program that `build.rs` compiled.
pub(super) const PROGRAM_FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The architecture as images name it; `build.rs` refuses any other.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Any fixed time will do; this one can't be taken for a build date.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The user and group of the program where the pod names none: nobody in particular, as it needs no right at all.
const USER: &str = "65535:65535";

/// Tells an operator what the image is; also a handle for `docker image prune --filter label!=io.dockershim.image`.
const LABEL: (&str, &str) =
    ("io.dockershim.image", "built-in pod sandbox image; dockershim loads it again when it is missing");

/// The image in its parts.
pub(super) struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    /// The configuration's SHA-256 as 64 hexadecimal digits: the image's id, but for the containerd image store.
    pub(super) id: String,
}

impl Image {
    /// Makes the layer and its configuration.
    pub(super) fn pack() -> Self {
        let layer = tar(&[(PROGRAM.trim_start_matches('/'), 0o755, PROGRAM_FILE)]);
        let config = json!({
            "architecture": ARCHITECTURE,
            "config": { "Entrypoint": [PROGRAM], "Labels": { LABEL.0: LABEL.1 }, "User": USER },
            "created": CREATED,
            "history": [{ "created": CREATED, "created_by": "dockershim" }],
            "os": "linux",
            "rootfs": { "diff_ids": [format!("sha256:{}", sha256(&layer))], "type": "layers" },
        });
        let config = config.to_string().into_bytes();
        let id = sha256(&config);
        Image { layer, config, id }
    }

    /// The docker-archive that gives the image to an engine under a name.
    pub(super) fn archive(&self, reference: &str) -> Vec<u8> {
        let (config, layer) = (format!("{}.json", self.id), "layer.tar");
        let manifest = json!([{ "Config": config, "Layers": [layer], "RepoTags": [reference] }]).to_string();
        tar(&[
            ("manifest.json", 0o644, manifest.as_bytes()),
            (&config, 0o644, &self.config),
            (layer, 0o644, &self.layer),
        ])
    }
}

/// A tar of files: name, mode and content. They belong to root and are as old as the epoch.
fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let write = || {
        let mut tar = tar::Builder::new(Vec::new());
        for &(name, mode, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(u64::try_from(content.len()).map_err(std::io::Error::other)?);
            tar.append_data(&mut header, name, content)?;
        }
        tar.into_inner()
    };
    write().expect("short names and small files always fit into a tar in memory")
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use serde_json::Value;

    use super::*;
    use crate::pause::{archive, reference};

    struct File {
        mode: u32,
        owner: (u64, u64),
        mtime: u64,
        content: Vec<u8>,
    }

    fn files_of(tar: &[u8]) -> BTreeMap<String, File> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            (name, File { mode: header.mode().unwrap(), owner, mtime: header.mtime().unwrap(), content })
        });
        entries.collect()
    }

    /// The archive's manifest, configuration and layer, found as an engine finds them.
    fn unpacked() -> (Value, Vec<u8>, Vec<u8>) {
        let mut files = files_of(&archive());
        let manifest: Value = serde_json::from_slice(&files.remove("manifest.json").unwrap().content).unwrap();
        let mut named = |name: &Value| files.remove(name.as_str().unwrap()).unwrap().content;
        let (config, layer) = (named(&manifest[0]["Config"]), named(&manifest[0]["Layers"][0]));
        assert!(files.is_empty(), "nothing else is in the archive");
        (manifest, config, layer)
    }

    #[test]
    fn the_archive_has_the_same_bytes_each_time() {
        assert!(archive() == archive());
        assert!(files_of(&archive()).values().all(|file| file.mtime == 0 && file.owner == (0, 0)));
    }

    #[test]
    fn the_archive_names_one_image_of_one_layer() {
        let (manifest, ..) = unpacked();
        assert_eq!(manifest.as_array().unwrap().len(), 1);
        assert_eq!(manifest[0]["RepoTags"], json!([reference()]));
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_configuration_has_the_layers_digest() {
        let (_, config, layer) = unpacked();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let digest = format!("sha256:{:x}", Sha256::digest(&layer));
        assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": [digest] }));
    }

    #[test]
    fn the_tag_is_the_beginning_of_the_configurations_digest() {
        let (_, config, _) = unpacked();
        let digest = format!("{:x}", Sha256::digest(&config));
        let (repository, tag) = reference().rsplit_once(':').unwrap();
        assert_eq!(tag.len(), 12);
        assert!(digest.starts_with(tag), "{digest} {tag}");
        assert!(repository.split('/').next().unwrap().ends_with(".invalid"), "can never be pulled");
    }

    #[test]
    fn the_layer_is_the_program_alone_and_anybody_can_run_it() {
        let (_, _, layer) = unpacked();
        let files = files_of(&layer);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["pause"]);
        let program = &files["pause"];
        assert_eq!((program.mode, program.owner), (0o755, (0, 0)));
        assert!(program.content == PROGRAM_FILE);
    }

    #[test]
    fn the_image_runs_the_program_for_this_architecture() {
        let (_, config, _) = unpacked();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/pause"]));
        assert_eq!(config["os"], "linux");
        // e_machine of the ELF header
        let machine = match &PROGRAM_FILE[18..20] {
            [0x3e, 0] => "amd64",
            [0xb7, 0] => "arm64",
            other => panic!("not a program for either architecture: {other:?}"),
        };
        assert_eq!(config["architecture"], machine);
    }

    #[test]
    fn the_program_is_small() {
        assert!(PROGRAM_FILE.len() < 16 * 1024, "{} bytes", PROGRAM_FILE.len());
    }
}
