//! Nothing of the operator's daemon.json reaches a pod, but for ulimits, which CRI has no field for.

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Stage, sh, sleeper, trials};
use crate::support::engine::Options;

/// Each default that a daemon.json can set for containers, set to something that would be noticed. `@` stands for the engine's own
/// directory, which has a profile that forbids to chmod.
const HOSTILE: &str = r#"{
    "init": true,
    "no-new-privileges": true,
    "seccomp-profile": "@/forbidding.json",
    "log-driver": "local",
    "log-opts": {"max-size": "1k", "max-file": "1", "mode": "non-blocking"},
    "default-shm-size": "1M",
    "default-ipc-mode": "private",
    "default-cgroupns-mode": "private",
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 333, "Soft": 333}},
    "runtimes": {"other": {"path": "runc"}},
    "default-runtime": "other"
}"#;

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Own(Options { daemon_json: HOSTILE, ..Options::default() });
        a_hostile_daemon_json_reaches_no_pod,
    ]
}

async fn a_hostile_daemon_json_reaches_no_pod(case: Case) {
    let pod = case.run_pod("defaults").await;
    let printed = |lines: Vec<crate::lab::Line>| {
        let texts = lines.into_iter().filter(|line| line.0 == "stdout").map(|line| line.2);
        texts.collect::<Vec<_>>()
    };
    let script = "grep PPid /proc/$$/status; grep NoNewPrivs /proc/self/status; chmod 700 /tmp && echo free; \
                  df -k /dev/shm | tail -1 | tr -s ' ' | cut -d ' ' -f 2; ulimit -n";
    let (status, lines) = case.run_to_end(&pod, &sh("main", script)).await;
    assert_eq!(status.exit_code, 0, "{lines:?}");
    // an init of the Engine's would be the parent; the last is the exception that ARCHITECTURE.md tells of
    assert_eq!(printed(lines), ["PPid:\t0", "NoNewPrivs:\t0", "free", "65536", "333"]);
    // far more than the operator's 1 KiB of logs
    let (_, lines) = case.run_to_end(&pod, &sh("talker", "seq 1 5000")).await;
    assert_eq!(lines.len(), 5000, "every line of the log");
    let one = case.start(&pod, &sleeper("one")).await;
    let two = case.start(&pod, &sleeper("two")).await;
    let inspect = |id: &str| case.lab.engine.docker.get(&format!("/containers/{id}/json"));
    let namespace = |id: &str, kind: &str| {
        let pid = inspect(id)["State"]["Pid"].as_i64().unwrap();
        std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
    };
    for other in [&two, &pod.id] {
        assert_eq!(namespace(&one, "ipc"), namespace(other, "ipc"), "a pod shares its ipc");
        assert_eq!(inspect(&one)["HostConfig"]["Runtime"], inspect(other)["HostConfig"]["Runtime"], "and its runtime");
    }
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let ours = std::fs::read_link("/proc/self/ns/cgroup").unwrap();
    assert_eq!(namespace(&one, "cgroup") == ours, !unified, "private on the unified hierarchy alone");
    assert_eq!(inspect(&one)["HostConfig"]["LogConfig"]["Type"], "json-file");
    let listed = case.cri.runtime().status(cri::StatusRequest::default()).await.unwrap().into_inner().runtime_handlers;
    let names: Vec<_> = listed.iter().map(|handler| handler.name.as_str()).collect();
    assert!(names.contains(&"") && names.contains(&"other"), "{names:?}");
}
