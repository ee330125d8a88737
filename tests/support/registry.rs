//! Debian's docker-registry on 127.0.0.1, on two ports of the kernel's choice: one open, one with a password, over the same
//! images. What is pushed through the open one is pulled through either. (Engines take 127.0.0.0/8 as plain HTTP.)

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::docker::Docker;
use super::{images, tail, wait_for, workspace};

/// The closed registry's user.
pub(crate) const USER: &str = "kubelet";
/// The closed registry's password.
pub(crate) const PASSWORD: &str = "correct horse";
/// `PASSWORD` as htpasswd hashes it (bcrypt).
const HASH: &str = "$2b$04$IHxL8.CIyz0Uo8INGPlvBuWATkvPTy.A6zxTwbb15WvOAanhl.jaq";

/// Both registries; dropping it ends them.
pub(crate) struct Registry {
    /// `127.0.0.1:port` of the one that asks for nothing.
    pub(crate) open: String,
    /// `127.0.0.1:port` of the one that asks for `USER` and `PASSWORD`.
    pub(crate) closed: String,
    children: Vec<Child>,
}

impl Registry {
    /// Starts both.
    pub(crate) fn start() -> Registry {
        let dir = workspace::new_dir("r");
        std::fs::write(dir.join("htpasswd"), format!("{USER}:{HASH}\n")).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n", dir.display());
        let (open, first) = serve(&dir, "open", "");
        let (closed, second) = serve(&dir, "closed", &auth);
        Registry { open, closed, children: vec![first, second] }
    }

    /// Puts an image of its own id in the registry as `repository:1`, and takes it off the engine again.
    pub(crate) fn fill(&self, docker: &Docker, repository: &str) {
        let local = format!("dsh-to-push-{repository}:1");
        images::load_unique(docker, repository, &[&local]);
        let name = format!("{}/{repository}", self.open);
        docker.tag(&local, &name, "1");
        docker.push(&name, "1");
        docker.remove_image(&format!("{name}:1"));
        docker.remove_image(&local);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts one, and reads from its log which port it was given.
fn serve(dir: &Path, name: &str, auth: &str) -> (String, Child) {
    let config = dir.join(format!("{name}.yml"));
    let store = format!("storage: {{filesystem: {{rootdirectory: {}/store}}}}\n", dir.display());
    std::fs::write(&config, format!("version: 0.1\n{store}http: {{addr: \"127.0.0.1:0\"}}\n{auth}")).unwrap();
    let path = dir.join(format!("{name}.log"));
    let log = std::fs::File::create(&path).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn().expect("docker-registry (package docker-registry) can't be started");
    let address = wait_for("the registry listens", Duration::from_secs(20), || {
        let text = tail(&path, 100);
        let (_, after) = text.split_once("listening on ")?;
        let end = after.find(|letter: char| !letter.is_ascii_digit() && !".:".contains(letter))?;
        Some(after[..end].to_owned())
    });
    (address, child)
}
