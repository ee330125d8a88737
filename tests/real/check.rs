//! `dockershim check`, as an operator runs it, and what the daemon says of itself.

use std::path::Path;
use std::process::{Command, Stdio};

use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::{Case, Stage, trials};
use crate::support::shim;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Shared;
        a_healthy_node_passes_and_is_left_as_it_was,
        a_real_engine_is_told_as_it_is,
        a_dead_socket_fails_with_a_next_step,
        the_daemon_tells_version_status_and_cgroup_driver,
    ];
    // not beside the first one, which looks whether the check's pod is gone
    all.extend(trials![Stage::With(&[]);
        the_pages_commands_do_as_it_says,
    ]);
    all
}

/// What docs/troubleshooting.md has its reader type first, line by line. The daemon's configuration comes by the environment.
async fn the_pages_commands_do_as_it_says(case: Case) {
    let (_, rest) = include_str!("../../docs/troubleshooting.md").split_once("```sh\n").unwrap();
    let commands: Vec<_> = rest.split_once("```").unwrap().0.lines().collect();
    let mut said = Vec::new();
    for command in &commands {
        let shell = typed(&case, command);
        let ended = tokio::task::spawn_blocking(move || { shell }.output()).await.unwrap().unwrap();
        assert!(matches!(ended.status.code(), Some(0..=2)), "{command}: {ended:?}");
        said.push(String::from_utf8(ended.stdout).unwrap());
    }
    let [plain, pre, run_pod, json] = &said[..] else { panic!("the page has other commands: {commands:?}") };
    let socket = case.lab.shim.socket().display().to_string();
    assert!(plain.contains(&format!("{socket}, mode 0660: docker ")), "{plain}");
    assert!(pre.contains("DKR-01") && !pre.contains(&format!("{socket}, mode 0660: docker ")), "{pre}");
    assert!(run_pod.contains("steps passed in"), "{run_pod}");
    assert_eq!(verdict(json, "DKR-01"), "ok");
}

/// A shell in which `dockershim` is ours, and configured as the daemon is.
fn typed(case: &Case, command: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_dockershim")).parent().unwrap().display();
    let mut shell = Command::new("bash");
    shell.args(["-euc", command]).stdin(Stdio::null()).env_remove("DOCKER_HOST");
    shell.env("PATH", format!("{program}:{}", std::env::var("PATH").unwrap()));
    for flag in case.lab.shim.arguments() {
        let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
        let variable = name.trim_start_matches("--").replace('-', "_").to_uppercase();
        shell.env(format!("DOCKERSHIM_{variable}"), value);
    }
    shell
}

/// With the flags of the case's dockershim, and more.
async fn check(case: &Case, more: &[&str]) -> String {
    let mut arguments: Vec<String> = vec!["check".to_owned()];
    arguments.extend_from_slice(case.lab.shim.arguments());
    arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
    let run = move || shim::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let ended = tokio::task::spawn_blocking(run).await.unwrap();
    // what the machine itself lacks is no fault of ours
    assert!(matches!(ended.status.code(), Some(0..=2)), "{ended:?}");
    String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap()
}

async fn a_healthy_node_passes_and_is_left_as_it_was(case: Case) {
    let said = check(&case, &["--run-pod"]).await;
    assert!(said.contains("steps passed in"), "{said}");
    for step in ["RunPodSandbox", "ContainerStatus", "ExecSync", "RemovePodSandbox"] {
        assert!(said.lines().any(|line| line.contains(step) && line.contains("ms")), "{step}: {said}");
    }
    assert_eq!(verdict(&check(&case, &["--run-pod", "--json"]).await, "POD-01"), "ok");
    let left = case.lab.engine.docker.containers();
    assert!(!left.iter().any(|(_, name)| name.contains("dockershim-check")), "{left:?}");
}

/// Of one check, in a report for programs.
fn verdict(said: &str, id: &str) -> String {
    let report: Value = serde_json::from_str(said).unwrap();
    let found = report["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap();
    found["verdict"].as_str().unwrap().to_owned()
}

async fn a_real_engine_is_told_as_it_is(case: Case) {
    let said = check(&case, &["--json"]).await;
    let verdict = |id: &str| verdict(&said, id);
    for id in ["DKR-01", "DKR-02", "DKR-03", "DKR-07", "DKR-09", "IMG-01", "SOCK-01", "SOCK-04", "STATE-01"] {
        assert_eq!(verdict(id), "ok", "{id}: {said}");
    }
    let info = case.lab.engine.docker.get("/info");
    assert_eq!(verdict("DKR-05"), if info["LiveRestoreEnabled"] == true { "ok" } else { "warning" });
    assert_eq!(verdict("DKR-06"), if info["Driver"] == "vfs" { "warning" } else { "ok" });
    assert_ne!(verdict("DKR-08"), "skipped");
    assert_eq!(verdict("NET-01"), "skipped");
}

async fn a_dead_socket_fails_with_a_next_step(case: Case) {
    let dead = format!("--container-runtime-endpoint=unix://{}", case.dir.join("nobody.sock").display());
    let ended = tokio::task::spawn_blocking(move || shim::run(&["check", "--run-pod", &dead])).await.unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("nobody.sock") && said.contains("is dockershim running?"), "{said}");
}

async fn the_daemon_tells_version_status_and_cgroup_driver(case: Case) {
    let version = case.cri.runtime().version(cri::VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!(version.runtime_name, "docker");
    assert!(!version.version.is_empty() && !version.runtime_version.is_empty());
    let conditions = case.cri.conditions().await.unwrap();
    for name in ["RuntimeReady", "NetworkReady"] {
        assert_eq!(conditions.get(name), Some(&(true, String::new())), "{conditions:?}");
    }
    let status = case.cri.runtime().status(cri::StatusRequest { verbose: true }).await.unwrap().into_inner();
    assert!(status.info["config"].contains("\"sandboxImage\""), "{:?}", status.info);
    assert!(status.runtime_handlers.iter().any(|handler| handler.name.is_empty()));
    let driver = case.cri.runtime().runtime_config(cri::RuntimeConfigRequest {}).await.unwrap().into_inner();
    let driver = driver.linux.unwrap().cgroup_driver();
    let engines = case.lab.engine.docker.get("/info")["CgroupDriver"].as_str().unwrap().to_owned();
    assert_eq!(driver.as_str_name().to_lowercase(), engines);
}
