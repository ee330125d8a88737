//! docs/migrate.md as it stands: its blocks are typed on a node of cri-dockerd, one after the other, and the pods are looked at in between. The
//! node is this machine, with places of its own where the page's commands read and write; for systemd there is a stand-in.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;

use crate::lab::{Case, Stage, trials};
use crate::support::client::Cri;
use crate::support::engine::Options;
use crate::takeover::{CriDockerd, process};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Own(Options::default());
        the_page_takes_a_node_over_and_hands_it_back,
        beside_another_adapter_it_does_not_start,
    ]
}

/// The heading between the two ways.
const BACK: &str = "\n## Back to cri-dockerd\n";

/// What cri-dockerd's package and an operator have left.
const UNIT: &str = "[Service]\nEnvironmentFile=/etc/default/cri-docker\n\
                    ExecStart=/usr/bin/cri-dockerd --container-runtime-endpoint fd:// $OPTIONS\n";
const OPTIONS: &str = "OPTIONS=--network-plugin= --log-level=debug\n";

/// Gives a mount namespace the node's places, and keeps it.
const HOLD: &str = r#"
mount -t tmpfs tmpfs "$NODE/own"
mkdir "$NODE"/own/{upper,work}
mount -t overlay -o "lowerdir=$NODE/etc:/etc,upperdir=$NODE/own/upper,workdir=$NODE/own/work" overlay /etc
rm -rf /etc/dockershim
mount --bind "$NODE/lib" /var/lib
mount --bind "$NODE/run" /run
echo ready
# by its name it is found, should nobody be left to end it
exec -a "$NODE/holder" sleep infinity
"#;

/// For systemd: starts and stops dockershim, which makes its sockets itself then, and takes down what is asked of cri-dockerd.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -euo pipefail
case "$*" in
"enable --now dockershim.socket dockershim.service")
    "${0%/*}/dockershim" --container-runtime-endpoint={unix:///run/dockershim.sock,unix:///run/cri-dockerd.sock} </dev/null >>/run/log 2>&1 &
    echo $! >/run/pid
    # its reader is slower than this machine
    timeout 20 sh -c 'until dockershim status >/run/status; do sleep 0.1; done' || { cat /run/log /run/status; exit 1; }
    ;;
"disable --now dockershim.socket dockershim.service")
    kill "$(cat /run/pid)"
    timeout 20 tail --pid="$(cat /run/pid)" -f /dev/null
    rm /run/pid
    ;;
"disable --now cri-docker.socket cri-docker.service" | "enable --now cri-docker.socket cri-docker.service")
    echo "$1" >>/run/cri-dockerd
    ;;
*)
    echo "the stand-in knows no systemctl $*" >&2
    exit 1
    ;;
esac
"#;

/// A node of cri-dockerd; dropping it ends what was started there.
struct Node {
    dir: PathBuf,
    holder: Child,
}

impl Node {
    fn new(case: &Case) -> Node {
        let dir = case.dir.join("node");
        for made in ["own", "lib", "run", "bin", "etc/default", "etc/systemd/system"] {
            fs::create_dir_all(dir.join(made)).unwrap();
        }
        fs::write(dir.join("etc/systemd/system/cri-docker.service"), UNIT).unwrap();
        fs::write(dir.join("etc/default/cri-docker"), OPTIONS).unwrap();
        symlink(case.lab.engine.socket(), dir.join("run/docker.sock")).unwrap();
        symlink(env!("CARGO_BIN_EXE_dockershim"), dir.join("bin/dockershim")).unwrap();
        fs::write(dir.join("bin/systemctl"), SYSTEMCTL).unwrap();
        fs::set_permissions(dir.join("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "bash", "-euc", HOLD]).env("NODE", &dir).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the node has no places of its own");
        Node { dir, holder }
    }

    /// Types a block, as root on the node: what is told.
    fn types(&self, block: &str) -> String {
        let path = format!("{}:{}", self.dir.join("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("nsenter");
        shell.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        shell.args(["bash", "-euo", "pipefail", "-c", block]).env("PATH", path).env_remove("DOCKER_HOST");
        let ended = shell.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        // what this machine lacks for service as a node is no fault of the page's
        let worst = if block.contains("dockershim check") { 2 } else { 0 };
        let fine = ended.status.code().is_some_and(|code| code <= worst);
        assert!(fine, "{block}ended with {}:\n{told}", ended.status);
        told
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(self.read("run/pid").split_whitespace()).stderr(Stdio::null()).status();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The blocks of sh.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

async fn the_page_takes_a_node_over_and_hands_it_back(mut case: Case) {
    case.lab.shim.stop();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrate.md")).unwrap();
    let (there, back) = page.split_once(BACK).unwrap();
    let node = Node::new(&case);
    case.cri = Cri::new(&node.dir.join("run/dockershim.sock"));
    let theirs = CriDockerd { case: &case, root: node.dir.join("lib/cri-dockerd"), network_mode: "default" };
    let left = theirs.run_pod("bridged", |_, _, _| {});
    let processes = || [&left.pod.id, &left.counter, &left.server].map(|id| process(&case, id));
    let before = processes();
    let inspect = case.lab.engine.docker.get(&format!("/containers/{}/json", left.pod.id));
    let address = inspect["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap();

    let told: Vec<_> = blocks(there).into_iter().map(|block| node.types(block)).collect();
    let [checked, migrated, _disabled, _enabled, seen] = &told[..] else { panic!("the page has other blocks") };
    assert!(checked.contains("DKR-01"), "{checked}");
    assert!(migrated.contains("network-plugin") && migrated.contains("can be used"), "{migrated}");
    assert_eq!(node.read("run/cri-dockerd"), "disable\n");
    assert!(seen.contains("steps passed in"), "{seen}");
    left.is_told(&case, address).await;
    left.is_served(&case, address).await;
    assert!(!left.is_linked(&case), "its log is a file");

    let told: Vec<_> = blocks(back).into_iter().map(|block| node.types(block)).collect();
    let [would, _released, _enabled] = &told[..] else { panic!("the page has other blocks") };
    assert!(would.contains(&left.pod.id[..12]), "{would}");
    assert_eq!(node.read("run/cri-dockerd"), "disable\nenable\n");
    assert!(left.is_linked(&case) && left.checkpoint.exists());
    assert_eq!(processes(), before, "nothing was restarted");
    case.lab.engine.docker.remove_all_containers();
}

/// Starts dockershim where cri-dockerd serves, and expects it to give up at once.
const STARTS: &str = r#"
code=0
timeout 20 dockershim --network-plugin=bridge --container-runtime-endpoint="$1" </dev/null || code=$?
[ "$code" = 1 ]
"#;

/// A process of cri-dockerd's name.
const RUNS: &str = "(echo cri-dockerd >/proc/self/comm; sleep 60; true) &
until grep -qx cri-dockerd /proc/[0-9]*/comm; do sleep 0.1; done
";

async fn beside_another_adapter_it_does_not_start(case: Case) {
    let node = Node::new(&case);
    let starts = |endpoint: &str| format!("set -- unix://{endpoint}\n{STARTS}");
    // this case's own dockershim has the name, and tells of the runtime docker
    let theirs = node.dir.join("run/cri-dockerd.sock");
    symlink(case.lab.shim.socket(), &theirs).unwrap();
    let told = node.types(&starts("/run/dockershim.sock"));
    assert!(
        told.contains("another CRI adapter for docker") && told.contains("answers on /run/cri-dockerd.sock"),
        "{told}"
    );
    assert!(told.contains("--allow-other-adapter"), "{told}");
    fs::remove_file(theirs).unwrap();
    // the name is our own, as under the socket unit, and its process runs: in a namespace of its own, so that no other node here has it
    fs::write(node.dir.join("run/beside"), format!("{RUNS}{}", starts("/run/cri-dockerd.sock"))).unwrap();
    let told = node.types("unshare --pid --fork --mount-proc bash -euo pipefail /run/beside");
    assert!(
        told.contains("cri-dockerd runs on this node (process ") && told.contains("--allow-other-adapter"),
        "{told}"
    );
    assert!(!node.dir.join("run/dockershim.sock").exists() && !node.dir.join("run/cri-dockerd.sock").exists());
}
