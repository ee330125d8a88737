//! A network of a test's own, in the place of the machine's: whatever plugins do to bridges, sysctls and the firewall ends with it.
//! Only the thread that enters is in it, and what is started from there. Engines stay outside.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The process's own: threads inherit another one only from a thread that has entered it.
const OF_THE_MACHINE: &str = "/proc/self/ns/net";

/// While it is there, the thread that has entered is in a network namespace that has nothing but the loopback interface. To be dropped
/// by that thread.
pub(crate) struct Netns(());

impl Netns {
    /// Makes one and enters it.
    pub(crate) fn enter() -> Netns {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo && exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        holder.stdout.take().unwrap().read_exact(&mut [0]).expect("a network namespace needs root, and ip (iproute2)");
        go_to(&format!("/proc/{}/ns/net", holder.id()));
        holder.kill().unwrap();
        holder.wait().unwrap();
        Netns(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        go_to(OF_THE_MACHINE);
    }
}

/// Does something in the machine's network, wherever the calling thread is.
pub(crate) fn outside<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let in_it = move || {
        go_to(OF_THE_MACHINE);
        act()
    };
    std::thread::scope(|scope| scope.spawn(in_it).join().unwrap())
}

fn go_to(namespace: &str) {
    let namespace = File::open(namespace).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
