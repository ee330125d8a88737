//! What is left of sandboxes and containers that were removed while no dockershim ran: network attachments, log
//! positions, and what pods may use.
//! Looked up before anything is served, so that nothing of a write under way is taken for a leftover.

use std::sync::Arc;

use super::Daemon;
use crate::id::ContainerId;

/// Records found at the start.
pub struct Leftovers {
    daemon: Arc<Daemon>,
    attachments: Vec<String>,
    positions: Vec<String>,
    resources: Vec<String>,
}

impl Leftovers {
    /// Notes the records that are there now.
    pub fn note(daemon: &Arc<Daemon>) -> Self {
        Leftovers {
            daemon: daemon.clone(),
            attachments: daemon.cni.attached(),
            positions: daemon.pumps.positions(),
            resources: daemon.pod_resources.names().unwrap_or_default(),
        }
    }

    /// Once the index is true, undoes what belongs to nothing in it.
    pub async fn clear(self) {
        let Leftovers { daemon, attachments, positions, resources } = self;
        while daemon.index.synced().await.is_err() {}
        let gone = |id: &String| !daemon.index.table().has(id);
        for id in attachments.into_iter().filter(|id| gone(id)) {
            match daemon.cni.del(&id, None).await {
                Ok(()) => tracing::info!(sandbox = id, "network of a sandbox that is gone taken down"),
                Err(error) => tracing::warn!(sandbox = id, %error, "network of a sandbox that is gone stays"),
            }
        }
        for id in positions.into_iter().filter(|id| gone(id)) {
            daemon.pumps.forget(&ContainerId::new(id)).await;
        }
        for id in resources.into_iter().filter(|id| gone(id)) {
            daemon.forget_resources(&id);
        }
    }
}
