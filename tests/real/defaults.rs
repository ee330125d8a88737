//! Nothing of the operator's daemon.json reaches a pod, but for ulimits, which CRI has no field for.

use std::collections::BTreeMap;

use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::json;

use crate::lab::{Case, Stage, sh, sleeper, trials};
use crate::support::engine::Options;
use crate::support::images::BUSYBOX;
use crate::{container, security, stop};

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

/// Options of the driver that dockershim asks for: the Engine adds each that a container doesn't have.
const HOSTILE_LOG: &str = r#"{
    "log-driver": "json-file",
    "log-opts": {
        "max-size": "1k", "max-file": "2", "compress": "true", "mode": "non-blocking",
        "labels": "io.kubernetes.pod.name", "labels-regex": "io.*", "env": "LEAK", "env-regex": "L.*", "tag": "{{.Name}}"
    }
}"#;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Own(Options { daemon_json: HOSTILE, ..Options::default() });
        a_hostile_daemon_json_reaches_no_pod,
        what_other_engines_show_of_containers_holds_beside_it,
    ];
    all.extend(trials![Stage::Own(Options { daemon_json: HOSTILE_LOG, ..Options::default() });
        no_option_of_the_engines_own_logs_reaches_a_container,
    ]);
    all.extend(trials![Stage::Own(Options { daemon_json: BUFFERED, ..Options::default() });
        the_one_option_that_cannot_be_put_aside_is_told,
    ]);
    all
}

/// The Engine adds the buffer's size to the options of each container, and wants none where writing blocks.
const BUFFERED: &str = r#"{"log-driver": "json-file", "log-opts": {"mode": "non-blocking", "max-buffer-size": "1m"}}"#;

async fn the_one_option_that_cannot_be_put_aside_is_told(case: Case) {
    let pod = case.run_pod("buffered").await;
    let refused = case.cri.create(&pod.id, &sleeper("main"), &pod.config).await.unwrap_err();
    assert!(refused.message().contains("max-buffer-size option is only supported with"), "{}", refused.message());
}

async fn no_option_of_the_engines_own_logs_reaches_a_container(case: Case) {
    // the Engine does as it is told where nobody says otherwise
    let engine = &case.lab.engine.docker;
    let body = json!({ "Image": BUSYBOX, "Cmd": ["true"] });
    let plain = engine.json("POST", "/containers/create?name=plain", &body)["Id"].as_str().unwrap().to_owned();
    let options = |id: &str| engine.get(&format!("/containers/{id}/json"))["HostConfig"]["LogConfig"].clone();
    assert_eq!(options(&plain)["Config"]["mode"], "non-blocking");
    let pod = case.run_pod("logs").await;
    let mut config = sh("main", "seq 1 5000");
    config.envs.push(cri::KeyValue { key: "LEAK".to_owned(), value: b"1".to_vec() });
    let id = case.start(&pod, &config).await;
    let empty = ["labels", "labels-regex", "env", "env-regex", "tag"].map(|option| (option, ""));
    let told = [("max-size", "16777216"), ("max-file", "4"), ("mode", "blocking"), ("compress", "false")];
    let wanted: BTreeMap<_, _> = empty.into_iter().chain(told).collect();
    assert_eq!(options(&id), json!({ "Type": "json-file", "Config": wanted }));
    assert_eq!(options(&pod.id), json!({ "Type": "none", "Config": {} }), "a sandbox has no log");
    case.exited(&id).await;
    assert_eq!(std::fs::read_to_string(pod.log(&config)).unwrap().lines().count(), 5000, "every line of the log");
    let spool = engine.get(&format!("/containers/{id}/json"))["LogPath"].as_str().unwrap().to_owned();
    let spool = std::fs::read_to_string(spool).unwrap();
    assert!(spool.lines().count() == 5000 && !spool.contains("attrs"), "{}", spool.lines().next().unwrap_or_default());
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

/// Trials of other files, which run there on an engine with Docker's own defaults.
async fn what_other_engines_show_of_containers_holds_beside_it(case: Case) {
    security::each_wish_holds_in_the_container(case.clone()).await;
    security::a_privileged_container_may_mount(case.clone()).await;
    security::both_policies_of_supplementary_groups_hold_and_are_told(case.clone()).await;
    security::a_seccomp_profile_of_a_file_holds(case.clone()).await;
    security::nothing_is_masked_when_nothing_is_to_be(case.clone()).await;
    security::devices_and_directories_of_devices_are_there_as_asked(case.clone()).await;
    container::exit_codes_have_their_reasons(case.clone()).await;
    container::command_and_args_override_the_image_as_kubernetes_says(case.clone()).await;
    container::users_come_from_the_request_or_the_image(case.clone()).await;
    container::mounts_are_in_the_container_and_in_its_status(case.clone()).await;
    container::stdin_that_nobody_writes_to_is_open_or_empty_as_asked(case.clone()).await;
    stop::the_signal_that_was_asked_for_arrives_and_is_told(case).await;
}
