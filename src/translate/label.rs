//! Docker labels of sandboxes and containers: the kubelet's labels and annotations, those that dockershim has always written,
//! and ours under `io.dockershim.`. Pure.
//!
//! A container inherits its image's labels, and an image can say anything: what we create records which keys the kubelet gave
//! (`io.dockershim.keys`), and only those are told back. Of what another adapter made, all but the internal keys are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::name::Name;
use crate::error::{Error, Result};

/// Says what a Docker container is to us.
pub const TYPE: &str = "io.kubernetes.docker.type";
/// [`TYPE`] of a pause container.
pub(super) const TYPE_SANDBOX: &str = "podsandbox";
/// [`TYPE`] of an application container.
pub(super) const TYPE_CONTAINER: &str = "container";
/// A container's sandbox.
pub(super) const SANDBOX_ID: &str = "io.kubernetes.sandbox.id";
/// Where a container's CRI log is, absolute.
pub(super) const LOG_PATH: &str = "io.kubernetes.container.logpath";
/// `POD` on a pause container; the kubelet gives it to containers itself.
pub(super) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Tells an equal request from a different one.
pub(super) const FINGERPRINT: &str = "io.dockershim.fingerprint";
/// When we made it, nanoseconds since the epoch: known before the Engine tells its own time, and the same ever after.
pub(super) const CREATED: &str = "io.dockershim.created";
/// The runtime handler that RunPodSandbox named.
pub(super) const HANDLER: &str = "io.dockershim.handler";
/// What the pod's resolv.conf is to hold, as JSON text; `null` for what the node's holds.
pub(super) const RESOLV_CONF: &str = "io.dockershim.resolv-conf";
/// What the pod may use in all, as RunPodSandbox was told (`PodResources`), as JSON; `null` where it was told nothing.
pub(super) const POD_RESOURCES: &str = "io.dockershim.pod-resources";
/// The image as the request named it (`super::container::ImageRecord`).
pub(super) const IMAGE: &str = "io.dockershim.image-spec";
/// On a container that only looks into an image.
pub const PROBE: &str = "io.dockershim.look";
/// What Docker's API can't say of the container's cgroup: file name to value, as JSON.
pub(super) const WISHES: &str = "io.dockershim.cgroup";

const ANNOTATION: &str = "annotation.";
const OURS: &str = "io.dockershim.";
const KEYS: &str = "io.dockershim.keys";

/// Whether it was made for a pod, but not by us.
pub fn is_of_another_adapter(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(TYPE) && !labels.keys().any(|key| key.starts_with(OURS))
}

/// Whether labels agree with a Docker name.
pub fn agrees_with(labels: &BTreeMap<String, String>, name: &Name) -> bool {
    let kind = match name {
        Name::Sandbox(_) => TYPE_SANDBOX,
        Name::Container { .. } => TYPE_CONTAINER,
    };
    labels.get(TYPE).is_some_and(|told| told == kind)
}

/// Which label keys and annotation keys came from the kubelet.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Keys {
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
}

/// The kubelet's labels and annotations, told back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// The Docker labels of a new object: the kubelet's, and `internal` ones of ours. A key that would hide another is refused.
pub(super) fn write(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    internal: &[(&str, String)],
) -> Result<HashMap<String, String>> {
    let mut all: HashMap<String, String> = HashMap::new();
    for (key, value) in internal {
        all.insert((*key).to_owned(), value.clone());
    }
    let keys = Keys { labels: labels.keys().cloned().collect(), annotations: annotations.keys().cloned().collect() };
    all.insert(
        KEYS.to_owned(),
        serde_json::to_string(&keys).map_err(|error| Error::internal("record label keys", error))?,
    );
    for (key, value) in labels {
        if all.contains_key(key) || key.starts_with(OURS) {
            return Err(Error::invalid(format!("config.labels[{key:?}]"), "is a key that dockershim itself writes"));
        }
        all.insert(key.clone(), value.clone());
    }
    for (key, value) in annotations {
        if all.insert(format!("{ANNOTATION}{key}"), value.clone()).is_some() {
            return Err(Error::invalid(
                format!("config.annotations[{key:?}]"),
                format!("and the label {ANNOTATION}{key} can't be told apart in Docker"),
            ));
        }
    }
    Ok(all)
}

/// Takes the kubelet's labels and annotations out of a container's Docker labels.
pub(super) fn read(all: &BTreeMap<String, String>) -> Told {
    let keys = all.get(KEYS).and_then(|text| serde_json::from_str::<Keys>(text).ok());
    let mut told = Told::default();
    for (key, value) in all {
        let annotation = key.strip_prefix(ANNOTATION);
        match (&keys, annotation) {
            (Some(keys), _) if keys.labels.contains(key) => told.labels.insert(key.clone(), value.clone()),
            (Some(keys), Some(annotation)) if keys.annotations.contains(annotation) => {
                told.annotations.insert(annotation.to_owned(), value.clone())
            }
            (Some(_), _) => None,
            (None, Some(annotation)) => told.annotations.insert(annotation.to_owned(), value.clone()),
            (None, None) if is_internal(key, value) => None,
            (None, None) => told.labels.insert(key.clone(), value.clone()),
        };
    }
    told
}

/// What cri-dockerd adds beside the kubelet's labels.
fn is_internal(key: &str, value: &str) -> bool {
    matches!(key, TYPE | SANDBOX_ID | LOG_PATH) || (key == CONTAINER_NAME && value == "POD") || key.starts_with(OURS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(items: &[(&str, &str)]) -> BTreeMap<String, String> {
        items.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn written(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        write(labels, annotations, &[(TYPE, TYPE_CONTAINER.to_owned())]).unwrap().into_iter().collect()
    }

    #[test]
    fn labels_of_the_image_stay_hidden() {
        let mut all = written(&map(&[("app", "web")]), &map(&[("note", "x")]));
        all.extend(map(&[("maintainer", "somebody"), ("annotation.evil", "1"), ("io.kubernetes.pod.name", "fake")]));
        assert_eq!(read(&all), Told { labels: map(&[("app", "web")]), annotations: map(&[("note", "x")]) });
    }

    #[test]
    fn what_another_adapter_made_is_told_without_its_internal_keys() {
        let all = map(&[
            (TYPE, "podsandbox"),
            (CONTAINER_NAME, "POD"),
            ("io.kubernetes.pod.name", "web"),
            ("annotation.kubernetes.io/config.source", "api"),
        ]);
        let told = read(&all);
        assert_eq!(told.labels, map(&[("io.kubernetes.pod.name", "web")]));
        assert_eq!(told.annotations, map(&[("kubernetes.io/config.source", "api")]));
    }

    #[test]
    fn keys_of_our_own_are_refused() {
        for key in [TYPE, "io.dockershim.keys", "io.dockershim.anything"] {
            let error = write(&map(&[(key, "x")]), &map(&[]), &[(TYPE, String::new())]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(write(&map(&[("annotation.a", "1")]), &map(&[("a", "2")]), &[]).is_err());
    }

    proptest! {
        #[test]
        fn labels_and_annotations_come_back_unaltered(
            labels in prop::collection::btree_map("[a-z./]{0,6}|annotation\\.[a-z]{0,2}", ".{0,8}", 0..6),
            annotations in prop::collection::btree_map(".{0,6}", ".{0,8}", 0..6),
        ) {
            if let Ok(all) = write(&labels, &annotations, &[(TYPE, String::new())]) {
                prop_assert_eq!(read(&all.into_iter().collect()), Told { labels, annotations });
            }
        }
    }
}
