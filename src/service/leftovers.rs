//! What is left of sandboxes and containers that were removed while no dockershim ran: network attachments, files that containers
//! mounted, log positions, kept limits, what pods may use; and containers that were made to look into an image.
//! Looked up before anything is served, so that nothing of a write under way is taken for a leftover.

use std::sync::Arc;

use super::Daemon;
use crate::id::ContainerId;

/// Records found at the start.
pub struct Leftovers {
    daemon: Arc<Daemon>,
    attachments: Vec<String>,
    etc: Vec<String>,
    positions: Vec<String>,
    limits: Vec<String>,
    resources: Vec<String>,
}

impl Leftovers {
    /// Notes the records that are there now.
    pub fn note(daemon: &Arc<Daemon>) -> Self {
        let etc = daemon.etc.sandboxes().unwrap_or_else(|error| {
            tracing::warn!(%error, "files of sandboxes that are gone stay");
            Vec::new()
        });
        Leftovers {
            daemon: daemon.clone(),
            attachments: daemon.cni.attached(),
            etc,
            positions: daemon.pumps.positions(),
            limits: daemon.index.kept_limits(),
            resources: daemon.pod_resources.names().unwrap_or_default(),
        }
    }

    /// Once the index is true, undoes what belongs to nothing in it.
    pub async fn clear(self) {
        let Leftovers { daemon, attachments, etc, positions, limits, resources } = self;
        while daemon.index.synced().await.is_err() {}
        let gone = |id: &String| !daemon.index.table().has(id);
        for id in attachments.into_iter().filter(|id| gone(id)) {
            match daemon.cni.del(&id, None).await {
                Ok(()) => tracing::info!(sandbox = id, "network of a sandbox that is gone taken down"),
                Err(error) => {
                    tracing::warn!(sandbox = id, %error, "network of a sandbox that is gone stays; tried again until it is down");
                    tokio::spawn(daemon.cni.clone().del_in_the_end(id));
                }
            }
        }
        for id in etc.into_iter().filter(|id| gone(id)) {
            daemon.remove_etc(&id).await;
        }
        if daemon.config.cni_gc {
            let sandboxes = daemon.index.table().sandboxes().map(|sandbox| sandbox.id.to_string()).collect();
            daemon.cni.collect_garbage(sandboxes).await;
        }
        for id in positions.into_iter().filter(|id| gone(id)) {
            daemon.pumps.forget(&ContainerId::new(id)).await;
        }
        limits.iter().filter(|id| gone(id)).for_each(|id| daemon.index.forget_limits(id));
        daemon.clear_probes().await;
        for id in resources.into_iter().filter(|id| gone(id)) {
            daemon.forget_resources(&id);
        }
    }
}
