//! Limits that UpdateContainerResources has written beside the Engine: a small record for each container that has any, so that
//! they are known again after our own restart. What a container is created with is in its labels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Index;
use super::model::Container;
use crate::record;
use crate::translate::resources;

/// The record of one container, by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    wishes: BTreeMap<String, String>,
    oom_score_adj: Option<i64>,
}

impl Index {
    /// Keeps what the Engine can't tell of a container's limits.
    pub fn keep_limits(&self, container: &Container) -> Result<(), record::Error> {
        let kept = Kept { wishes: container.cgroup_wishes.to_map(), oom_score_adj: container.oom_score_wish };
        self.inner.limits.save_unsynced(container.id.as_str(), &kept)
    }

    /// Ids of the containers whose limits are kept.
    pub fn kept_limits(&self) -> Vec<String> {
        self.inner.limits.names().unwrap_or_else(|error| {
            tracing::warn!(%error, "kept limits can't be listed");
            Vec::new()
        })
    }

    /// Drops what is kept of a container that is gone.
    pub fn forget_limits(&self, id: &str) {
        if let Err(error) = self.inner.limits.remove(id) {
            tracing::warn!(id, %error, "kept limits stay");
        }
    }

    /// Takes over what is kept of a container that hasn't been seen yet.
    pub(super) fn recall_limits(&self, container: &mut Container) {
        let kept = self.inner.limits.load::<Kept>(container.id.as_str()).unwrap_or_else(|error| {
            tracing::warn!(container = %container.id, %error, "kept limits can't be read; those of its create count");
            None
        });
        let Some(Kept { wishes, oom_score_adj }) = kept else { return };
        container.resources.edit(|resources| {
            resources::tell_wishes(resources, &wishes);
            resources.oom_score_adj = oom_score_adj.unwrap_or(resources.oom_score_adj);
        });
        (container.cgroup_wishes, container.oom_score_wish) = (wishes.into(), oom_score_adj);
    }
}
