//! The pod's network namespace: which one a path leads to, and its loopback interface.
//!
//! A path under `/proc/<pid>` leads somewhere else once the pid is another process's, in the worst case to the node's own network,
//! whose `eth0` a plugin would then take away. So a namespace is known by its [`Identity`], never by its path alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::error::Error;

/// Tells a network namespace from all others that exist at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of the namespace that a path leads to now.
    pub(super) fn of(path: impl AsRef<Path>) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
    }

    /// Of the pod's namespace at a path; the node's own is refused.
    pub(super) fn of_pod(path: &str) -> Result<Self, Error> {
        let failed = |source| Error::Netns { path: path.to_owned(), source };
        let found = Identity::of(path).map_err(failed)?;
        let own = Identity::of("/proc/self/ns/net").map_err(failed)?;
        if found == own { Err(Error::HostNetns { path: path.to_owned() }) } else { Ok(found) }
    }

    /// Whether the path still leads to this namespace.
    pub(super) fn is_at(self, path: &str) -> bool {
        Identity::of(path).is_ok_and(|found| found == self)
    }
}

/// Sets the namespace's `lo` up. Once it is, this changes nothing.
///
/// The work is done on a thread of its own that ends with it: a thread that has entered a namespace must not serve anything else.
pub(super) async fn bring_up_loopback(path: &str) -> Result<(), Error> {
    let failed = |source| Error::Netns { path: path.to_owned(), source };
    let namespace = File::open(path).map_err(failed)?;
    let (tell, told) = oneshot::channel();
    let work = move || {
        // nobody listens when the daemon is ending
        let _ = tell.send(enter(&namespace).and_then(|()| set_loopback_up()));
    };
    std::thread::Builder::new().name("netns".to_owned()).spawn(work).map_err(failed)?;
    told.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(failed)
}

fn enter(namespace: &File) -> io::Result<()> {
    use std::os::fd::AsFd;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// rtnetlink(7), in the kernel's own byte order.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;
/// The index that `lo` has in every namespace.
const LOOPBACK_INDEX: i32 = 1;
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = HEADER_BYTES + 16;

fn set_loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    send(&socket, &loopback_up_message(), SendFlags::empty())?;
    let mut reply = [0; 256];
    let (length, _) = recv(&socket, &mut reply, RecvFlags::empty())?;
    read_acknowledgement(&reply[..length])
}

/// "Of interface 1, set the flag IFF_UP and leave the others."
fn loopback_up_message() -> Vec<u8> {
    let length: u32 = 32;
    let mut message = Vec::with_capacity(MESSAGE_BYTES);
    message.extend(length.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // sequence number and sender: one question, one answer
    message.extend([0; 8]);
    // family, padding and type: any
    message.extend([0; 4]);
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message
}

/// An acknowledgement is an error message with the number 0; failures have a negative one.
fn read_acknowledgement(reply: &[u8]) -> io::Result<()> {
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's reply can't be understood");
    let kind = reply.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let number = reply.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok());
    match (kind, number.map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(number)) => Err(io::Error::from_raw_os_error(number.wrapping_neg())),
        _ => Err(unreadable()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Dir;
    use super::*;

    #[test]
    fn the_nodes_own_namespace_is_no_pods() {
        let refused = Identity::of_pod("/proc/self/ns/net");
        assert!(matches!(refused, Err(Error::HostNetns { .. })), "{refused:?}");
        assert!(matches!(Identity::of_pod("/proc/0/ns/net"), Err(Error::Netns { .. })));
    }

    #[test]
    fn a_namespace_is_known_again_and_told_from_others() {
        let dir = Dir::new();
        for name in ["a", "b"] {
            std::fs::write(dir.path(name), "").unwrap();
        }
        let at = |name: &str| dir.path(name).display().to_string();
        let a = Identity::of_pod(&at("a")).unwrap();
        assert!(a.is_at(&at("a")));
        assert!(!a.is_at(&at("b")));
        assert!(!a.is_at(&at("gone")));
    }

    #[tokio::test]
    async fn what_is_no_namespace_is_an_error_that_names_it() {
        let dir = Dir::new();
        std::fs::write(dir.path("a"), "").unwrap();
        let path = dir.path("a").display().to_string();
        let error = bring_up_loopback(&path).await.unwrap_err().to_string();
        assert!(error.contains(&path), "{error}");
    }

    #[test]
    fn the_kernels_answer_is_read() {
        let reply = |kind: u16, number: i32| {
            let mut reply = vec![0; 4];
            reply.extend(kind.to_ne_bytes());
            reply.extend([0; 10]);
            reply.extend(number.to_ne_bytes());
            reply
        };
        assert!(read_acknowledgement(&reply(NLMSG_ERROR, 0)).is_ok());
        let refused = read_acknowledgement(&reply(NLMSG_ERROR, -1)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(1));
        assert!(read_acknowledgement(&reply(RTM_NEWLINK, 0)).is_err());
        assert!(read_acknowledgement(&[]).is_err());
        assert_eq!(loopback_up_message().len(), MESSAGE_BYTES);
    }
}
