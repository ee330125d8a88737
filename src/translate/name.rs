//! Docker names of sandboxes and containers, as dockershim has always written them. They are the record of an object's
//! metadata: log agents, cAdvisor and other adapters parse them, so they never change.
//!
//! ```text
//! k8s_POD_<pod>_<namespace>_<uid>_<attempt>
//! k8s_<container>_<pod>_<namespace>_<uid>_<attempt>      both may carry a seventh field from an old conflict
//! ```

use crate::cri;
use crate::error::{Error, Result};

const PREFIX: &str = "k8s";
const SANDBOX: &str = "POD";
/// File names end here, and Docker makes files of these names' parts.
const MAX_BYTES: usize = 1024;

/// What a name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A pause container's.
    Sandbox(SandboxFields),
    /// An application container's.
    Container {
        /// The container.
        name: String,
        /// The container's attempt.
        attempt: u32,
        /// The pod it belongs to; its attempt isn't in the name.
        pod: SandboxFields,
    },
}

/// The pod's part of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxFields {
    /// Pod.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// The sandbox's attempt, or the container's.
    pub attempt: u32,
}

/// The name of a pod's pause container.
pub fn sandbox_name(metadata: &cri::PodSandboxMetadata) -> Result<String> {
    let cri::PodSandboxMetadata { name, uid, namespace, attempt } = metadata;
    let pod = pod_fields("config.metadata", name, namespace, uid)?;
    bounded("config.metadata", format!("{PREFIX}_{SANDBOX}_{pod}_{attempt}"))
}

/// The name of a container in a pod.
pub fn container_name(metadata: &cri::ContainerMetadata, pod: &cri::PodSandboxMetadata) -> Result<String> {
    let cri::ContainerMetadata { name, attempt } = metadata;
    let container = field("config.metadata.name", name)?;
    if container == SANDBOX {
        return Err(Error::invalid("config.metadata.name", "POD is the sandbox's own name"));
    }
    let pod = pod_fields("pod", &pod.name, &pod.namespace, &pod.uid)?;
    bounded("config.metadata.name", format!("{PREFIX}_{container}_{pod}_{attempt}"))
}

/// Reads a Docker name, without the leading `/`; None when it isn't one of ours.
pub fn parse(text: &str) -> Option<Name> {
    let fields: Vec<&str> = text.split('_').collect();
    let (6 | 7, Some(&PREFIX)) = (fields.len(), fields.first()) else { return None };
    let attempt = fields[5].parse().ok()?;
    let owned = |index: usize| fields[index].to_owned();
    let pod = SandboxFields { name: owned(2), namespace: owned(3), uid: owned(4), attempt };
    Some(match fields[1] {
        SANDBOX => Name::Sandbox(pod),
        name => Name::Container { name: name.to_owned(), attempt, pod },
    })
}

fn pod_fields(at: &str, name: &str, namespace: &str, uid: &str) -> Result<String> {
    let name = field(&format!("{at}.name"), name)?;
    let namespace = field(&format!("{at}.namespace"), namespace)?;
    let uid = field(&format!("{at}.uid"), uid)?;
    Ok(format!("{name}_{namespace}_{uid}"))
}

/// Docker takes letters, digits, `_`, `.` and `-` in a name, and `_` is the separator.
fn field<'a>(at: &str, text: &'a str) -> Result<&'a str> {
    if text.is_empty() {
        return Err(Error::invalid(at, "is empty"));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))) {
        Some(c) => {
            Err(Error::invalid(at, format!("has {c:?}; only letters, digits, `.` and `-` can be in a Docker name")))
        }
        None => Ok(text),
    }
}

fn bounded(at: &str, name: String) -> Result<String> {
    if name.len() > MAX_BYTES {
        return Err(Error::invalid(
            at,
            format!("makes a Docker name of {} bytes, at most {MAX_BYTES} can be", name.len()),
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pod(name: &str, namespace: &str, uid: &str, attempt: u32) -> cri::PodSandboxMetadata {
        cri::PodSandboxMetadata { name: name.into(), namespace: namespace.into(), uid: uid.into(), attempt }
    }

    #[test]
    fn names_are_those_that_dockershim_wrote() {
        let pod = pod("web", "default", "0-1", 2);
        assert_eq!(sandbox_name(&pod).unwrap(), "k8s_POD_web_default_0-1_2");
        let nginx = cri::ContainerMetadata { name: "nginx".into(), attempt: u32::MAX };
        assert_eq!(container_name(&nginx, &pod).unwrap(), "k8s_nginx_web_default_0-1_4294967295");
    }

    #[test]
    fn names_of_the_old_conflict_path_are_read() {
        let Some(Name::Sandbox(fields)) = parse("k8s_POD_web_default_0-1_2_0011aabb") else { panic!() };
        assert_eq!((fields.name.as_str(), fields.attempt), ("web", 2));
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in ["", "web", "k8s_a_b_c_d", "k9s_a_b_c_d_0", "k8s_a_b_c_d_x", "k8s_a_b_c_d_-1", "k8s_a_b_c_d_0_e_f"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_docker_cannot_hold_is_refused_by_its_field() {
        let long = "x".repeat(64 << 10);
        for (bad, at) in [
            (pod("", "n", "u", 0), "config.metadata.name"),
            (pod("a_b", "n", "u", 0), "config.metadata.name"),
            (pod("a", "n/x", "u", 0), "config.metadata.namespace"),
            (pod("a", "n", "u\n", 0), "config.metadata.uid"),
            (pod("a", "n", "\0", 0), "config.metadata.uid"),
            (pod("ä", "n", "u", 0), "config.metadata.name"),
            (pod(&long, "n", "u", 0), "config.metadata"),
        ] {
            let error = sandbox_name(&bad).unwrap_err().to_string();
            assert!(error.starts_with(at), "{error}");
        }
        let named_pod = cri::ContainerMetadata { name: "POD".into(), attempt: 0 };
        assert!(container_name(&named_pod, &pod("a", "n", "u", 0)).is_err());
    }

    proptest! {
        #[test]
        fn every_accepted_name_reads_back(name in ".{0,12}", namespace in "[a-z_.-]{0,5}", uid in "[0-9a-f-]{0,9}", attempt: u32) {
            let metadata = pod(&name, &namespace, &uid, attempt);
            if let Ok(text) = sandbox_name(&metadata) {
                prop_assert_eq!(parse(&text), Some(Name::Sandbox(SandboxFields { name, namespace, uid, attempt })));
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}") {
            let _ = parse(&text);
        }
    }
}
