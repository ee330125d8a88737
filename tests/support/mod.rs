//! What the real-engine suite and the benches stand on: a private engine, the real `dockershim` binary, clients, images, a registry.
//! Nothing here touches an engine, a bridge or a directory that it did not make.
//!
//! - `workspace`  one directory per run, and the janitor that clears it whatever happens to the run
//! - `engine`     a dockerd with its own containerd, socket, roots and bridge
//! - `runc`       the runc wrapper for machines without CAP_SYS_RESOURCE
//! - `docker`     plain calls to the engine, to prepare and to look behind the shim's back
//! - `proxy`      counts the engine calls that the shim makes
//! - `netns`      a network of a test's own
//! - `images`     test images made of the machine's static busybox
//! - `registry`   Debian's docker-registry on 127.0.0.1, open and with a password
//! - `shim`       the `dockershim` binary, started, killed and started again
//! - `client`     the CRI as a kubelet calls it

pub(crate) mod client;
pub(crate) mod docker;
pub(crate) mod engine;
pub(crate) mod images;
pub(crate) mod netns;
pub(crate) mod proxy;
pub(crate) mod registry;
mod runc;
pub(crate) mod shim;
pub(crate) mod workspace;

use std::path::Path;
use std::time::{Duration, Instant};

/// To be called first in `main`: the test binary is also its own janitor and its engine's runc wrapper.
/// Returns only when it runs as neither.
pub(crate) fn run_as_helper() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default();
    if name == "runc" {
        runc::run(&arguments[1..]);
    }
    if let [_, mode, dir] = arguments.as_slice()
        && mode == workspace::JANITOR
    {
        workspace::clear_when_stdin_ends(Path::new(dir));
    }
}

/// Asks again and again until there is an answer; panics with `what` when there is none in time.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The end of a log file, for a failure's message.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
