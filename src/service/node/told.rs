//! What the kubelet has told of the node, in a record: it tells it again when it starts or when that changes, not when we start.
//! Being newer, it counts more than what a flag says.

use std::path::Path;

use crate::cni::PodCidrs;
use crate::record::Records;

/// The record of pod CIDRs: one CIDR, or several with commas.
const POD_CIDRS: &str = "pod-cidrs";

/// The records; None when they can't be kept, which is logged: the kubelet's word then holds for as long as we live.
pub(in crate::service) struct Told(Option<Records>);

impl Told {
    /// Opens the records below the state directory.
    pub(in crate::service) fn open(state_dir: &Path) -> Self {
        let opened = Records::open(state_dir.join("node"));
        Told(opened.inspect_err(|error| tracing::warn!(%error, "what the kubelet tells of the node is not kept")).ok())
    }

    /// The node's pod CIDRs, if it has told any.
    pub(in crate::service) fn pod_cidrs(&self) -> Option<PodCidrs> {
        let loaded = self.0.as_ref()?.load::<String>(POD_CIDRS);
        let text = loaded.unwrap_or_else(|error| {
            tracing::warn!(%error, "pod CIDRs that the kubelet has told are not known any more");
            None
        })?;
        let parsed = PodCidrs::parse(&text);
        parsed.inspect_err(|reason| tracing::warn!(reason, "record of pod CIDRs can't be used")).ok()
    }

    /// Keeps them.
    pub(super) fn keep_pod_cidrs(&self, pod_cidrs: &str) {
        let kept = self.0.as_ref().map_or(Ok(()), |records| records.save(POD_CIDRS, &pod_cidrs));
        if let Err(error) = kept {
            tracing::warn!(%error, "pod CIDRs that the kubelet has told are known until our end only");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_cidrs_are_known_to_the_next_process_and_nonsense_is_not() {
        let dir = std::env::temp_dir().join(format!("dockershim-told-{}", std::process::id()));
        assert_eq!(Told::open(&dir).pod_cidrs(), None);
        Told::open(&dir).keep_pod_cidrs("10.1.0.0/24,fd00::/64");
        let told = PodCidrs::parse("10.1.0.0/24,fd00::/64").unwrap();
        assert_eq!(Told::open(&dir).pod_cidrs(), Some(told));
        for nonsense in ["\"10.1.0.0\"", "7", "{"] {
            std::fs::write(dir.join("node").join(POD_CIDRS), nonsense).unwrap();
            assert_eq!(Told::open(&dir).pod_cidrs(), None, "{nonsense}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::write(&dir, "").unwrap();
        let unkept = Told::open(&dir);
        unkept.keep_pod_cidrs("10.1.0.0/24");
        assert_eq!(unkept.pod_cidrs(), None);
        std::fs::remove_file(&dir).unwrap();
    }
}
