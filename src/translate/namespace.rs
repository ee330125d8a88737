//! Which namespaces a container has of its own, shares with its pod, or with the node: CRI's modes and Docker's. Pure.

use crate::cri::{self, NamespaceMode};
use crate::error::{Error, Result};

/// Docker's modes of a pause container or a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) pid: Option<String>,
    pub(super) ipc: Option<String>,
    /// Set to `host` only.
    pub(super) uts: Option<String>,
    pub(super) userns: Option<String>,
}

/// A request's options, checked: unknown modes and user namespaces are refused.
pub(super) struct Options {
    pub(super) network: NamespaceMode,
    pub(super) pid: NamespaceMode,
    pub(super) ipc: NamespaceMode,
    pub(super) target_id: String,
}

/// Takes options apart; `at` is their path in the request. None means everything by pod, as the proto's zero values do.
pub(super) fn options(at: &str, options: Option<&cri::NamespaceOption>) -> Result<Options> {
    let none = cri::NamespaceOption::default();
    let cri::NamespaceOption { network, pid, ipc, target_id, userns_options } = options.unwrap_or(&none);
    let mode = |field: &str, value: i32| {
        NamespaceMode::try_from(value)
            .map_err(|_| Error::invalid(format!("{at}.{field}"), format!("{value} is unknown")))
    };
    if let Some(cri::UserNamespace { mode: userns, uids: _, gids: _ }) = userns_options
        && mode("userns_options.mode", *userns)? == NamespaceMode::Pod
    {
        return Err(Error::Unimplemented(format!(
            "{at}.userns_options: Docker has no user namespace per pod (hostUsers: false can't run here)"
        )));
    }
    Ok(Options {
        network: mode("network", *network)?,
        pid: mode("pid", *pid)?,
        ipc: mode("ipc", *ipc)?,
        target_id: target_id.clone(),
    })
}

/// The pause container's modes: it never joins, others join it.
pub(super) fn of_sandbox(options: &Options) -> Modes {
    let host = |mode: NamespaceMode| mode == NamespaceMode::Node;
    Modes {
        pid: host(options.pid).then(|| "host".to_owned()),
        ipc: Some(if host(options.ipc) { "host" } else { "shareable" }.to_owned()),
        uts: None,
        userns: None,
    }
}

/// Whose processes a container is to see: as the request names it, with pid TARGET.
pub fn target_of(context: Option<&cri::LinuxContainerSecurityContext>) -> Option<&str> {
    let options = context.and_then(|context| context.namespace_options.as_ref())?;
    (options.pid() == NamespaceMode::Target && !options.target_id.is_empty()).then_some(&options.target_id)
}

/// A container's modes. Network and ipc are the sandbox's whatever the container says, as the proto has it. `target` is the whole id
/// of the container that the options name: Docker would take a name for one too.
pub(super) fn of_container(
    at: &str,
    options: &Options,
    sandbox: &cri::NamespaceOption,
    sandbox_id: &str,
    target: Option<&str>,
) -> Result<Modes> {
    let join = |id: &str| format!("container:{id}");
    let pid = match options.pid {
        NamespaceMode::Pod => Some(join(sandbox_id)),
        NamespaceMode::Container => None,
        NamespaceMode::Node => Some("host".to_owned()),
        NamespaceMode::Target if options.target_id.is_empty() => {
            return Err(Error::invalid(format!("{at}.target_id"), "is empty, and pid is TARGET"));
        }
        NamespaceMode::Target => {
            Some(join(target.ok_or_else(|| Error::invalid(format!("{at}.target_id"), "was not looked for"))?))
        }
    };
    let ipc = if sandbox.ipc() == NamespaceMode::Node { "host".to_owned() } else { join(sandbox_id) };
    // names of the node's UTS namespace go with the node's network, as the kubelet expects
    let uts = (sandbox.network() == NamespaceMode::Node).then(|| "host".to_owned());
    Ok(Modes { pid, ipc: Some(ipc), uts, userns: None })
}

/// The modes that a pause container's Docker modes stand for.
pub(super) fn told(network: &str, pid: &str, ipc: &str) -> cri::NamespaceOption {
    let mode = |text: &str, own: NamespaceMode| i32::from(if text == "host" { NamespaceMode::Node } else { own });
    cri::NamespaceOption {
        network: mode(network, NamespaceMode::Pod),
        // a pause container's own pid namespace may or may not be shared: dockershim always told CONTAINER for it
        pid: mode(pid, NamespaceMode::Container),
        ipc: mode(ipc, NamespaceMode::Pod),
        target_id: String::new(),
        userns_options: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(network: NamespaceMode, pid: NamespaceMode, ipc: NamespaceMode) -> Options {
        let raw =
            cri::NamespaceOption { network: network.into(), pid: pid.into(), ipc: ipc.into(), ..Default::default() };
        options("ns", Some(&raw)).unwrap()
    }

    #[test]
    fn a_container_joins_its_sandbox() {
        let options = parsed(NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Pod);
        let modes = of_container("ns", &options, &cri::NamespaceOption::default(), "abc", None).unwrap();
        assert_eq!((modes.pid, modes.ipc.as_deref(), modes.uts), (None, Some("container:abc"), None));
    }

    #[test]
    fn the_nodes_namespaces_are_taken_as_they_are() {
        let node = parsed(NamespaceMode::Node, NamespaceMode::Node, NamespaceMode::Node);
        let sandbox = told("host", "host", "host");
        let modes = of_container("ns", &node, &sandbox, "abc", None).unwrap();
        assert_eq!(
            (modes.pid.as_deref(), modes.ipc.as_deref(), modes.uts.as_deref()),
            (Some("host"), Some("host"), Some("host"))
        );
        assert_eq!(of_sandbox(&node).ipc.as_deref(), Some("host"));
    }

    #[test]
    fn a_target_must_be_named_and_found() {
        let of = |target_id: &str, target: Option<&str>| {
            let raw = cri::NamespaceOption {
                pid: NamespaceMode::Target.into(),
                target_id: target_id.to_owned(),
                ..Default::default()
            };
            let modes =
                of_container("ns", &options("ns", Some(&raw))?, &cri::NamespaceOption::default(), "abc", target);
            modes.map(|modes| modes.pid)
        };
        assert_eq!(of("c0", Some("c0de")).unwrap().as_deref(), Some("container:c0de"));
        for (target_id, target) in [("", Some("c0de")), ("a-name", None)] {
            assert!(of(target_id, target).is_err_and(|error| error.to_string().starts_with("ns.target_id: ")));
        }
    }

    #[test]
    fn what_docker_has_not_is_refused() {
        let userns = cri::NamespaceOption { userns_options: Some(cri::UserNamespace::default()), ..Default::default() };
        assert!(matches!(options("ns", Some(&userns)), Err(Error::Unimplemented(_))));
        let unknown = cri::NamespaceOption { ipc: 9, ..Default::default() };
        assert!(options("ns", Some(&unknown)).is_err_and(|error| error.to_string().starts_with("ns.ipc: ")));
    }
}
