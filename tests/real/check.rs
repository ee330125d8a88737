//! `dockershim check --run-pod`, as an operator runs it, and what the daemon says of itself.

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Stage, trials};
use crate::support::shim;

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        a_healthy_node_passes_and_is_left_as_it_was,
        a_dead_socket_fails_with_a_next_step,
        the_daemon_tells_version_status_and_cgroup_driver,
    ]
}

async fn check(socket: &str) -> (bool, String) {
    let endpoint = format!("--container-runtime-endpoint={socket}");
    let run = move || shim::run(&["check", "--run-pod", &endpoint]);
    let ended = tokio::task::spawn_blocking(run).await.unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8(said).unwrap())
}

async fn a_healthy_node_passes_and_is_left_as_it_was(case: Case) {
    let (passed, said) = check(&format!("unix://{}", case.lab.shim.socket().display())).await;
    assert!(passed, "{said}");
    for step in ["RunPodSandbox", "ContainerStatus", "ExecSync", "RemovePodSandbox"] {
        assert!(said.lines().any(|line| line.contains(step) && line.contains("ms")), "{step}: {said}");
    }
    let left = case.lab.engine.docker.containers();
    assert!(!left.iter().any(|(_, name)| name.contains("dockershim-check")), "{left:?}");
}

async fn a_dead_socket_fails_with_a_next_step(case: Case) {
    let (passed, said) = check(&format!("unix://{}", case.dir.join("nobody.sock").display())).await;
    assert!(!passed);
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
