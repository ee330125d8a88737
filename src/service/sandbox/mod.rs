//! Verbs about pod sandboxes.

mod etc;
mod host_ports;
mod list;
mod pause_image;
mod port_forward;
mod remove;
mod run;
mod stop;
mod update;

pub(super) use host_ports::Claims;
pub use list::{list_pod_sandbox, pod_sandbox_status, stream_pod_sandboxes};
pub use port_forward::port_forward;
pub use remove::remove_pod_sandbox;
pub use run::run_pod_sandbox;
pub use stop::stop_pod_sandbox;
pub use update::update_pod_sandbox_resources;
