//! What a plugin's call costs beside the plugin: ADD and DEL of a network whose plugins do nothing, and the same program started
//! and waited for by hand, turn by turn in one run. `cargo bench --bench cni` (root, busybox-static).
//!
//! The plugin is busybox's `cat`: it answers with its request, and the configuration has the addresses in it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench speaks to who runs it, and stops at what it can't do"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dockershim::cni::{self, Attachment, Cni};
use dockershim::config::CniDirs;
use dockershim::record::Records;
use serde_json::json;

const ROUNDS: usize = 101;
/// In the network.
const PLUGINS: usize = 4;

fn main() {
    let dir = std::env::temp_dir().join(format!("dockershim-bench-cni-{}", std::process::id()));
    let pod = Pod::new(&dir);
    tokio::runtime::Runtime::new().unwrap().block_on(measure(&dir, &pod));
    drop(pod);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A process with a network namespace of its own.
struct Pod(Child);

impl Pod {
    fn new(dir: &Path) -> Self {
        for name in ["conf", "bin"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        symlink("/bin/busybox", dir.join("bin/cat")).unwrap();
        let plugin = json!({"type": "cat", "ips": [{"address": "198.18.0.5/24"}]});
        let list = json!({"cniVersion": "1.0.0", "name": "bench", "plugins": vec![plugin; PLUGINS]});
        std::fs::write(dir.join("conf/10-bench.conflist"), list.to_string()).unwrap();
        let mut child = Command::new("unshare")
            .args(["--net", "/bin/busybox", "sh", "-c", "echo; exec /bin/busybox sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // it has its namespace once it speaks
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Pod(child)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(dir: &Path, pod: &Pod) {
    let dirs = CniDirs { conf: dir.join("conf"), bin: vec![dir.join("bin")], cache: dir.join("cache") };
    let cni = Cni::new(dirs, Records::open(dir.join("records")).unwrap());
    let netns = format!("/proc/{}/ns/net", pod.0.id());
    let (mut add, mut del, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let attachment = Attachment {
            container_id: format!("bench{round}"),
            netns: netns.clone(),
            pod: cni::Pod {
                name: "bench".to_owned(),
                namespace: "bench".to_owned(),
                uid: "bench".to_owned(),
                port_mappings: Vec::new(),
                annotations: BTreeMap::new(),
                dns: None,
            },
        };
        let began = Instant::now();
        cni.add(&attachment, async |_| Ok::<_, Infallible>(())).await.unwrap().unwrap();
        add.push(began.elapsed());
        let began = Instant::now();
        cni.del(&attachment.container_id, Some(&netns)).await.unwrap();
        del.push(began.elapsed());
        let began = Instant::now();
        for _ in 0..PLUGINS {
            run(&dir.join("bin/cat"));
        }
        bare.push(began.elapsed());
    }
    let (add, del, bare) = (median(add), median(del), median(bare));
    println!("{PLUGINS} plugins, median of {ROUNDS}: ADD {add:?}, DEL {del:?}, the programs alone {bare:?}");
    for (name, time) in [("ADD", add), ("DEL", del)] {
        let beside = time.saturating_sub(bare) / u32::try_from(PLUGINS).unwrap();
        println!(
            "{name}: {beside:?} of ours for each plugin, {:.2} × the program alone",
            time.as_secs_f64() / bare.as_secs_f64()
        );
    }
}

/// Starts the program with a request as large as a plugin's, and reads its answer.
fn run(path: &Path) {
    let mut child =
        Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&[b'x'; 300]).unwrap();
    let answer = child.wait_with_output().unwrap();
    assert_eq!(answer.stdout.len(), 300);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
