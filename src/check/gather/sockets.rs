//! Sockets of the CRI: ours, and those that kubeadm looks for. Who is behind ours and cri-dockerd's is asked, but not while systemd
//! may hold it and start somebody to answer.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;

use super::Root;
use crate::check::facts::{Answer, Node, Socket, SocketFile, Sockets, canonical};
use crate::config::{Config, Endpoint, cli};
use crate::cri;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::server::CRI_DOCKERD;
use crate::server::client::{connect, reply};

/// Where kubeadm looks for runtimes.
const KNOWN: [&str; 3] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock", CRI_DOCKERD];
/// The key of a verbose Status that only we tell.
const OUR_KEY: &str = "index";
/// Who doesn't answer for so long isn't waited for.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn look(root: Root<'_>, config: &Config, node: &Node, pre: bool) -> Sockets {
    let told = config.endpoints.iter().map(|endpoint| match endpoint {
        Endpoint::Path(path) => path.clone(),
        // those of our socket unit
        Endpoint::Passed => canonical(cli::DEFAULT_ENDPOINT).to_owned(),
    });
    let mut ours: Vec<Socket> = told.map(|path| look_at(root, path)).collect();
    let is_ours = |path: &Path| ours.iter().any(|ours| canonical(&ours.path.to_string_lossy()) == path);
    let known = KNOWN.iter().map(PathBuf::from).filter(|path| !is_ours(path));
    let others = known.map(|path| look_at(root, path));
    let mut others: Vec<Socket> =
        others.filter(|socket| socket.file.as_ref().is_some_and(|file| file.is_socket)).collect();
    if pre {
        return Sockets { ours, others };
    }
    if !root.at("/run/systemd/system").exists() || ["dockershim", "cri-dockerd"].iter().any(|name| node.runs(name)) {
        join_all(ours.iter_mut().map(Socket::ask)).await;
    }
    // our daemon has asked there before it began to serve
    let is_safe = node.runs("cri-dockerd")
        || ours.iter().any(|socket| matches!(socket.answer, Answer::Runtime { ours: true, .. }));
    let adapter = others.iter_mut().find(|socket| socket.path.as_os_str() == CRI_DOCKERD);
    if let Some(adapter) = adapter.filter(|_| is_safe) {
        adapter.ask().await;
    }
    Sockets { ours, others }
}

fn look_at(root: Root<'_>, path: PathBuf) -> Socket {
    let at = root.at(&path);
    // a link to a socket is one
    let file = fs::metadata(&at).or_else(|_| fs::symlink_metadata(&at)).ok().map(|metadata| SocketFile {
        is_socket: metadata.file_type().is_socket(),
        mode: metadata.permissions().mode() & 0o777,
        owner: metadata.uid(),
    });
    Socket { path, at, file, answer: Answer::NotAsked }
}

impl Socket {
    async fn ask(&mut self) {
        self.answer = ask(&self.at).await;
    }
}

async fn ask(socket: &Path) -> Answer {
    let asked = tokio::time::timeout(LIMIT, async {
        let mut runtime = RuntimeServiceClient::new(connect(socket, LIMIT).await?);
        let version = reply(runtime.version(cri::VersionRequest { version: "v1".to_owned() })).await?;
        // others may have no Status to tell
        let status = reply(runtime.status(cri::StatusRequest { verbose: true })).await;
        let info: BTreeMap<String, String> = status.map(|status| status.info).unwrap_or_default();
        Ok::<_, String>((version, info.contains_key(OUR_KEY)))
    });
    match asked.await {
        Ok(Ok((version, ours))) => {
            Answer::Runtime { name: version.runtime_name, version: version.runtime_version, ours }
        }
        Ok(Err(cause)) => Answer::Nobody(cause),
        Err(_) => Answer::Nobody(format!("no answer within {LIMIT:?}")),
    }
}
