//! The pod's resolv.conf: the Engine's own file of the pause container is given the exact content asked for, before the first
//! container binds it. Written in place, so that whoever has bound it sees it.

use crate::cri;
use crate::error::{Error, Result};
use crate::translate::dns;

/// Writes what `dns_config` asks for; without one, or with an empty one, the Engine's content stays.
pub(super) async fn write(path: &str, dns_config: Option<&cri::DnsConfig>) -> Result<()> {
    let text = match dns_config {
        Some(dns_config) => dns::resolv_conf(dns_config)?,
        None => return Ok(()),
    };
    if text.is_empty() || path.is_empty() {
        return Ok(());
    }
    tokio::fs::write(path, text).await.map_err(|error| Error::internal(format!("write {path}"), error))
}
