//! Ports of the node that pods on Docker's network ask for: each is claimed before the create and until its pod is in the index, so
//! that of two pods that ask for one, also at the same time, the second is refused before anything is made, in words that name the
//! first. The Engine would find it at the start alone, in words that don't.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::run::has_host_network;
use crate::cri;
use crate::error::{Error, Result};
use crate::index::model::HostPort;
use crate::service::Daemon;
use crate::translate::node::Network;
use crate::translate::port;
use crate::translate::sandbox::pod_name;

/// What pods that are being made have claimed.
#[derive(Default)]
pub(in crate::service) struct Claims {
    all: Mutex<Vec<Weak<Claim>>>,
}

/// Holds a pod's ports until it is dropped.
pub(super) struct Claim {
    pod: String,
    ports: Vec<HostPort>,
}

impl Claims {
    /// Takes a claim, unless one that is still held is in its way. What `others` hold is asked for meanwhile: a pod is one of them
    /// before its claim is dropped.
    fn take(&self, claim: Claim, others: impl FnOnce() -> Vec<(String, Vec<HostPort>)>) -> Result<Arc<Claim>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        for other in all.iter().filter_map(Weak::upgrade) {
            claim.make_way(&other.pod, &other.ports)?;
        }
        for (pod, ports) in others() {
            claim.make_way(&pod, &ports)?;
        }
        let claim = Arc::new(claim);
        all.push(Arc::downgrade(&claim));
        Ok(claim)
    }
}

impl Claim {
    fn make_way(&self, holder: &str, held: &[HostPort]) -> Result<()> {
        match self.ports.iter().find(|port| held.iter().any(|held| held.overlaps(port))) {
            Some(taken) => Err(Error::FailedPrecondition(format!("host port {taken} is held by pod {holder}"))),
            None => Ok(()),
        }
    }
}

/// Claims what a pod asks for; None where it isn't the Engine that publishes ports.
pub(super) fn claim(daemon: &Daemon, config: &cri::PodSandboxConfig) -> Result<Option<Arc<Claim>>> {
    if daemon.config.network != Network::Bridge || has_host_network(config) {
        return Ok(None);
    }
    let ports = port::host_ports(&config.port_mappings)?;
    let others = || {
        let table = daemon.index.table();
        let holders = table.sandboxes().filter(|other| !other.has_ended() && !other.host_ports.is_empty());
        holders.map(|other| (pod_name(Some(&other.metadata)), other.host_ports.clone())).collect()
    };
    daemon.host_ports.take(Claim { pod: pod_name(config.metadata.as_ref()), ports }, others).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pod: &str, port: u16) -> Claim {
        Claim { pod: pod.to_owned(), ports: vec![HostPort { protocol: "tcp".to_owned(), ip: String::new(), port }] }
    }

    #[test]
    fn a_claim_holds_until_it_is_dropped_and_what_is_there_always() {
        let claims = Claims::default();
        let nobody = Vec::new;
        let refusal = |claim: Claim| claims.take(claim, nobody).err().unwrap().to_string();
        let first = claims.take(claim("default/a", 80), nobody).unwrap();
        assert!(refusal(claim("default/b", 80)).ends_with("host port 80/tcp is held by pod default/a"));
        let _other = claims.take(claim("default/b", 81), nobody).unwrap();
        drop(first);
        let there = || vec![("default/c".to_owned(), claim("", 80).ports)];
        let refused = claims.take(claim("default/b", 80), there).err().unwrap().to_string();
        assert!(refused.ends_with("host port 80/tcp is held by pod default/c"), "{refused}");
        assert!(claims.take(claim("default/b", 80), nobody).is_ok());
    }
}
