//! The sandbox image that is built in: no registry is needed to start a pod.
//!
//! ```text
//!   program.rs ──build.rs──▶ the program, a static file of a few KiB
//!                                └──image.rs──▶ archive() ──POST /images/load──▶ the image reference() on the engine
//! ```
//!
//! It must not talk to the engine nor decide when to load: `service/sandbox` does. `program.rs` is no module of the crate, and the
//! only file of the house with `unsafe`.

mod image;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

/// Where the program is in the image; also the image's entrypoint. Its modes: `wait [TEXT...]` (the default: prints TEXT if there
/// is any, then stays until it is told to end), `say [TEXT...]` and `exit N`.
pub const PROGRAM: &str = "/pause";

/// The image's name without its tag. No registry can ever answer to it: the top-level domain `invalid` is reserved for names
/// that don't resolve (RFC 6761), where a short name would be pulled from Docker Hub.
const REPOSITORY: &str = "dockershim.invalid/pause";

/// The image's name, with a tag that changes whenever anything in the image does: so an engine that has the name has the image
/// of this build. The tag is the first 12 digits of the image's id, as `docker image ls` shows it (with the containerd image store
/// an image's id is something else).
pub fn reference() -> &'static str {
    static REFERENCE: LazyLock<String> = LazyLock::new(|| format!("{REPOSITORY}:{:.12}", image::Image::pack().id));
    &REFERENCE
}

/// The image as a docker-archive, what `POST /images/load` takes; the same bytes at each call.
pub fn archive() -> Vec<u8> {
    image::Image::pack().archive(reference())
}
