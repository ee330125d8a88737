//! `dockershim migrate`, as an operator runs it: what it writes is a configuration, and means what cri-dockerd was told. No root.
#![expect(clippy::unwrap_used, reason = "what a test can't go on without fails it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("dockershim-migrate-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn file(&self) -> String {
        self.0.join("new/config.toml").display().to_string()
    }

    /// Names of what is in a directory of it.
    fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(dir)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dockershim")).args(arguments).output().unwrap()
}

/// What it said; it must have succeeded.
fn said(output: &Output) -> String {
    let text = String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a daemon would use that reads this file.
fn used(file: &str, key: &str) -> String {
    assert!(said(&run(&["config", "check", file])).contains("can be used"));
    let dumped = said(&run(&["config", "dump", "--config", file]));
    let line = dumped.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_owned();
    line[key.len() + 3..].rsplit_once(" # ").map_or("", |(value, _)| value.trim()).to_owned()
}

#[test]
fn a_unit_with_drop_in_and_variables_becomes_a_configuration() {
    let folder = Folder::new("unit");
    let unit = folder.put(
        "cri-docker.service",
        "[Service]\nType=notify\nExecStart=/usr/bin/cri-dockerd --container-runtime-endpoint fd://\nExecReload=/bin/kill -s HUP $MAINPID\n",
    );
    let variables = folder.put("default", "CNI=\"--cni-bin-dir=/usr/lib/cni,/opt/bin --hairpin-mode=none\"\n");
    folder.put(
        "cri-docker.service.d/10-cni.conf",
        &format!(
            "[Service]\nEnvironmentFile={variables}\nEnvironment=\"IMAGE=registry.example/pause:3.9\"\nExecStart=\n\
             ExecStart=/usr/bin/cri-dockerd --container-runtime-endpoint fd:// --network-plugin= $CNI \\\n  \
             --pod-infra-container-image=${{IMAGE}} \\\n  --runtime-cgroups=/docker --log-level info\n"
        ),
    );
    let told = said(&run(&["migrate", "--from", &unit, "--output", &folder.file()]));
    let fates = [
        "--container-runtime-endpoint=fd://: not written: dockershim.socket listens",
        "--network-plugin=: kept (network-plugin = \"bridge\")",
        "--cni-bin-dir=/usr/lib/cni,/opt/bin: kept",
        "--hairpin-mode=none: means nothing here: ",
        "--runtime-cgroups=/docker: means nothing here: ",
        "--log-level=info: not written: the default anyway",
        &format!("{variables}:\n"),
    ];
    for fate in fates {
        assert_eq!(told.matches(fate).count(), 1, "{fate}: {told}");
    }
    assert_eq!(used(&folder.file(), "network-plugin"), "\"bridge\"");
    assert_eq!(used(&folder.file(), "cni-bin-dir"), "[\"/usr/lib/cni\", \"/opt/bin\"]");
    assert_eq!(used(&folder.file(), "pod-infra-container-image"), "\"registry.example/pause:3.9\"");
    assert_eq!(folder.names("new"), ["config.toml"]);
}

#[test]
fn a_file_that_is_there_stays_unless_it_is_to_be_replaced() {
    let folder = Folder::new("there");
    let file = folder.put("new/config.toml", "log-level = \"error\"\n");
    let arguments = ["migrate", "--output", &file, "--", "--log-level=debug"];
    let why = refused(&run(&arguments));
    assert!(why.contains(&file) && why.contains("--force"), "{why}");
    assert_eq!(used(&file, "log-level"), "\"error\"");
    assert_eq!(folder.names("new"), ["config.toml"], "nothing beside it");
    said(&run(&["migrate", "--force", "--output", &file, "--", "--log-level=debug"]));
    assert_eq!(used(&file, "log-level"), "\"debug\"");
    assert_eq!(folder.names("new"), ["config.toml"]);
}

#[test]
fn what_cannot_be_taken_over_writes_nothing() {
    let folder = Folder::new("refused");
    let dockerd = folder.put("docker.service", "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n");
    let kubenet = folder.put("kubenet.service", "[Service]\nExecStart=/usr/bin/cri-dockerd --network-plugin=kubenet\n");
    let unknown = folder.put("unknown.service", "[Service]\nExecStart=/usr/bin/cri-dockerd --windows\n");
    for (unit, told) in [
        (dockerd.as_str(), "runs \"/usr/bin/dockerd\", not cri-dockerd"),
        (&kubenet, "--network-plugin: \"kubenet\" is neither cni nor bridge"),
        (&unknown, "unexpected argument '--windows' found"),
        ("/nowhere/cri-docker.service", "read /nowhere/cri-docker.service"),
        ("no-such-unit-of-this-test.service", "systemd has no unit"),
    ] {
        let why = refused(&run(&["migrate", "--from", unit, "--output", &folder.file()]));
        assert!(why.contains(told), "{why}");
        assert_eq!(why.trim_end().lines().count(), 1, "{why}");
        assert!(!Path::new(&folder.file()).exists());
    }
}
