//! PortForward: checks what is asked for and tells where the client may get it. Connections are made when the client asks for them.

use crate::cri;
use crate::error::{Error, Result};
use crate::service::{Daemon, required};
use crate::stream::{Grant, PortForward};

/// Answers PortForward with a URL that is good once.
pub async fn port_forward(daemon: &Daemon, request: cri::PortForwardRequest) -> Result<cri::PortForwardResponse> {
    let cri::PortForwardRequest { pod_sandbox_id, port } = request;
    let id = required("pod_sandbox_id", &pod_sandbox_id)?;
    let ports = port.iter().map(|port| number(*port)).collect::<Result<_>>()?;
    daemon.index.synced().await?;
    let sandbox = daemon.index.table().sandbox(id)?;
    if !sandbox.ready {
        return Err(Error::FailedPrecondition(format!("pod sandbox {} is not ready", sandbox.docker_name)));
    }
    let grant = PortForward { sandbox: sandbox.id.clone(), ports };
    Ok(cri::PortForwardResponse { url: daemon.streams.url(Grant::PortForward(grant))? })
}

fn number(port: i32) -> Result<u16> {
    let refused = || Error::invalid("port", format!("{port} is not a number from 1 to 65535"));
    u16::try_from(port).ok().filter(|port| *port != 0).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_from_1_to_65535() {
        assert_eq!(number(1).unwrap(), 1);
        assert_eq!(number(65535).unwrap(), 65535);
        for wrong in [0, -1, 65536, i32::MIN] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
