//! Status: the kubelet asks every 5 s, and turns the node NotReady after 30 s without a good answer.
//! Always answered, from memory: a lost or wedged engine shows as RuntimeReady false.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;

use crate::cri;
use crate::error::Result;
use crate::service::Daemon;
use crate::translate::node::Network;

/// Answers Status; `verbose` adds the configuration that kubeadm and the kubelet read (`sandboxImage`), and how we are doing, which
/// `dockershim status` shows.
pub fn status(daemon: &Daemon, request: cri::StatusRequest) -> Result<cri::StatusResponse> {
    let cri::StatusRequest { verbose } = request;
    let conditions = vec![runtime_ready(daemon), network_ready(daemon)];
    Ok(cri::StatusResponse {
        status: Some(cri::RuntimeStatus { conditions }),
        info: if verbose { info(daemon) } else { BTreeMap::new() },
        runtime_handlers: handlers(daemon),
        features: Some(cri::RuntimeFeatures { supplemental_groups_policy: true, user_namespaces_host_network: false }),
    })
}

fn runtime_ready(daemon: &Daemon) -> cri::RuntimeCondition {
    condition("RuntimeReady", "DockerDaemonNotReady", "DKR-01", daemon.index.health().trouble(Instant::now()))
}

fn network_ready(daemon: &Daemon) -> cri::RuntimeCondition {
    let trouble = match daemon.config.network {
        Network::Bridge => None,
        Network::Cni => daemon.cni.ready().err().map(|error| error.to_string()),
    };
    condition("NetworkReady", "NetworkPluginNotReady", "NET-01", trouble)
}

/// Reason and message only when something is wrong, as the kubelet's own texts expect; `check` is what looks closer at it.
fn condition(r#type: &str, reason: &str, check: &str, trouble: Option<String>) -> cri::RuntimeCondition {
    cri::RuntimeCondition {
        r#type: r#type.to_owned(),
        status: trouble.is_none(),
        reason: if trouble.is_some() { reason.to_owned() } else { String::new() },
        message: trouble.map(|trouble| format!("{trouble} (dockershim check: {check})")).unwrap_or_default(),
    }
}

/// The default handler (empty name) and every runtime that the engine knows.
fn handlers(daemon: &Daemon) -> Vec<cri::RuntimeHandler> {
    let Some(facts) = daemon.index.facts() else { return Vec::new() };
    let info = &facts.info;
    let recursive = |name: &str| {
        let spoken = info.runtimes.get(name).and_then(|runtime| {
            runtime.status.get("org.opencontainers.runtime-spec.features").map(|features| features.contains("\"rro\""))
        });
        spoken.unwrap_or(false)
            && daemon.engine.api().is_some_and(|api| api.has(crate::engine::feature::Feature::RecursiveReadOnly))
    };
    let handler = |name: &str, runtime: &str| cri::RuntimeHandler {
        name: name.to_owned(),
        features: Some(cri::RuntimeHandlerFeatures {
            recursive_read_only_mounts: recursive(runtime),
            user_namespaces: false,
        }),
    };
    let default = std::iter::once(handler("", &info.default_runtime));
    default.chain(info.runtimes.keys().map(|name| handler(name, name))).collect()
}

fn info(daemon: &Daemon) -> BTreeMap<String, String> {
    let config = json!({
        "sandboxImage": daemon.sandbox_image_name(),
        "dockerEndpoint": daemon.config.docker_socket,
        "rootDirectory": daemon.config.state_dir,
        "networkPlugin": if daemon.config.network == Network::Cni { "cni" } else { "bridge" },
        "cniConfDir": daemon.config.cni.conf,
        "restrictOomScoreAdj": daemon.config_restricts_oom(),
    });
    let mut info = daemon.told().into_info();
    info.insert("config".to_owned(), config.to_string());
    info
}

impl Daemon {
    fn config_restricts_oom(&self) -> bool {
        self.oom_score_floor.is_some()
    }
}
