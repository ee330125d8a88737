//! Sandboxes: a whole life on the bridge, exact round trips of what the request says, filters, idempotence, equal requests.

use std::collections::HashSet;
use std::time::Duration;

use dockershim::cri;
use futures_util::future::join_all;
use libtest_mimic::Trial;
use tonic::Code;

use crate::lab::{Case, Stage, by_uid, eventually, sleeper, texts, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        a_pod_lives_from_run_to_removal,
        each_start_is_one_line_of_the_log_with_its_steps,
        what_a_pod_is_given_comes_back_exactly,
        lists_filter_by_id_state_and_label,
        reads_see_what_was_just_written,
        stop_and_remove_can_be_repeated_and_take_unknown_ids,
        status_of_an_unknown_id_is_not_found,
        an_equal_request_finds_the_pod_it_has_made,
        equal_requests_at_once_make_one_pod,
        a_different_request_for_a_held_name_is_refused,
        the_next_attempt_runs_beside_the_last_one,
        the_name_of_a_dead_pod_is_free_again,
        a_pause_container_that_dies_makes_the_pod_not_ready,
        removal_takes_running_containers_along,
    ]
}

async fn a_pod_lives_from_run_to_removal(case: Case) {
    let pod = case.run_pod("life").await;
    let status = case.cri.pod_status(&pod.id).await.unwrap();
    assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
    assert_eq!(status.id, pod.id);
    assert_eq!(status.metadata, pod.config.metadata);
    assert!(status.created_at > 1_600_000_000_000_000_000, "{}", status.created_at);
    let ip: std::net::Ipv4Addr = status.network.unwrap().ip.parse().unwrap();
    assert_eq!(ip.octets()[..2], [198, 18], "{ip}");
    let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(options.network(), cri::NamespaceMode::Pod);

    let container = case.start(&pod, &sleeper("main")).await;
    assert_eq!(case.output(&container, "hostname").await, "life\n");
    assert!(case.output(&container, "ip addr show eth0").await.contains(&ip.to_string()));

    case.cri.stop(&container, 5).await.unwrap();
    case.cri.stop_pod(&pod.id).await.unwrap();
    let status = case.cri.pod_status(&pod.id).await.unwrap();
    assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
    case.cri.remove(&container).await.unwrap();
    case.cri.remove_pod(&pod.id).await.unwrap();
    assert!(case.cri.list_pods(by_uid(&case.uid)).await.unwrap().is_empty());
    let left = case.lab.engine.docker.containers();
    assert!(!left.iter().any(|(_, name)| name.contains(&case.uid)), "{left:?}");
}

async fn each_start_is_one_line_of_the_log_with_its_steps(case: Case) {
    let pod = case.run_pod("told").await;
    let name = r#"pod="real/told""#;
    let said = case.lab.shim.log(usize::MAX);
    let lines = || said.lines().filter(|line| line.contains("pod started") && line.contains(&pod.id));
    assert_eq!(lines().count(), 1, "{said}");
    let line = lines().next().unwrap();
    let steps = ["wait ", "create ", "start ", "inspect ", "files ", "total "];
    assert!(line.contains("INFO") && line.contains(name) && steps.iter().all(|step| line.contains(step)), "{line}");
}

async fn what_a_pod_is_given_comes_back_exactly(case: Case) {
    let mut config = case.pod("round-trip.7");
    config.metadata.as_mut().unwrap().attempt = u32::MAX;
    config.labels.extend(texts(&[("empty", ""), ("a.b/c_d", "ünïcödé – 漢字"), ("annotation.x", "a label")]));
    let long = "x".repeat(64 << 10);
    config.annotations = texts(&[
        ("quotes", "\"'\\\n\t$(x)"),
        ("long", &long),
        ("", "an empty key"),
        ("io.kubernetes.docker.type", "as a label it would be dockershim's own"),
    ]);
    let pod = case.run(config.clone()).await;
    let status = case.cri.pod_status(&pod.id).await.unwrap();
    assert_eq!(status.metadata, config.metadata);
    assert_eq!(status.labels, config.labels);
    assert_eq!(status.annotations, config.annotations);
    assert_eq!(status.runtime_handler, "");
    let listed = case.cri.list_pods(by_uid(&case.uid)).await.unwrap();
    let [listed] = listed.as_slice() else { panic!("{} pods", listed.len()) };
    assert_eq!(listed.metadata, config.metadata);
    assert_eq!(listed.labels, config.labels);
    assert_eq!(listed.annotations, config.annotations);
    assert_eq!(listed.created_at, status.created_at);
    let names = case.lab.engine.docker.containers();
    let name = format!("/k8s_POD_round-trip.7_real_{}_{}", case.uid, u32::MAX);
    assert!(names.contains(&(pod.id, name)), "{names:?}");
}

async fn lists_filter_by_id_state_and_label(case: Case) {
    let mut first = case.pod("first");
    first.labels.insert("tier".to_owned(), "front".to_owned());
    let first = case.run(first).await;
    let second = case.run_pod("second").await;
    case.cri.stop_pod(&second.id).await.unwrap();
    let ids = |pods: Vec<cri::PodSandbox>| pods.into_iter().map(|pod| pod.id).collect::<HashSet<_>>();
    let list = |change: &dyn Fn(&mut cri::PodSandboxFilter)| {
        let mut filter = by_uid(&case.uid);
        change(&mut filter);
        let cri = case.cri.clone();
        async move { ids(cri.list_pods(filter).await.unwrap()) }
    };
    let state = |state: cri::PodSandboxState| Some(cri::PodSandboxStateValue { state: state.into() });
    let (one, two) = (HashSet::from([first.id.clone()]), HashSet::from([second.id.clone()]));
    assert_eq!(list(&|_| {}).await, &one | &two);
    assert_eq!(list(&|filter| filter.id = first.id.clone()).await, one);
    assert_eq!(list(&|filter| filter.id = first.id[..12].to_owned()).await, one);
    assert_eq!(list(&|filter| filter.state = state(cri::PodSandboxState::SandboxReady)).await, one);
    assert_eq!(list(&|filter| filter.state = state(cri::PodSandboxState::SandboxNotready)).await, two);
    assert_eq!(list(&|filter| filter.label_selector.extend(texts(&[("tier", "front")]))).await, one);
    assert_eq!(list(&|filter| filter.label_selector.extend(texts(&[("tier", "back")]))).await, HashSet::new());
}

async fn reads_see_what_was_just_written(case: Case) {
    for round in 0..5 {
        let pod = case.run_pod(&format!("round-{round}")).await;
        assert_eq!(case.cri.pod_status(&pod.id).await.unwrap().state(), cri::PodSandboxState::SandboxReady);
        let container = case.create(&pod, &sleeper("main")).await;
        let state = || async { case.cri.status(&container).await.unwrap().state() };
        assert_eq!(state().await, cri::ContainerState::ContainerCreated);
        case.cri.start(&container).await.unwrap();
        assert_eq!(state().await, cri::ContainerState::ContainerRunning);
        case.cri.stop(&container, 5).await.unwrap();
        assert_eq!(state().await, cri::ContainerState::ContainerExited);
        case.cri.remove(&container).await.unwrap();
        assert_eq!(case.cri.status(&container).await.unwrap_err().code(), Code::NotFound);
        case.cri.stop_pod(&pod.id).await.unwrap();
        assert_eq!(case.cri.pod_status(&pod.id).await.unwrap().state(), cri::PodSandboxState::SandboxNotready);
        case.cri.remove_pod(&pod.id).await.unwrap();
        assert_eq!(case.cri.pod_status(&pod.id).await.unwrap_err().code(), Code::NotFound);
    }
}

async fn stop_and_remove_can_be_repeated_and_take_unknown_ids(case: Case) {
    let pod = case.run_pod("again").await;
    let container = case.start(&pod, &sleeper("main")).await;
    for _ in 0..2 {
        case.cri.stop(&container, 2).await.unwrap();
    }
    for _ in 0..2 {
        case.cri.stop_pod(&pod.id).await.unwrap();
    }
    for _ in 0..2 {
        case.cri.remove(&container).await.unwrap();
    }
    for _ in 0..2 {
        case.cri.remove_pod(&pod.id).await.unwrap();
    }
    for id in [container.as_str(), &pod.id, "0123456789abcdef", "no such thing", "../.."] {
        case.cri.stop(id, 2).await.unwrap();
        case.cri.remove(id).await.unwrap();
        case.cri.stop_pod(id).await.unwrap();
        case.cri.remove_pod(id).await.unwrap();
    }
}

async fn status_of_an_unknown_id_is_not_found(case: Case) {
    let id = "ab".repeat(32);
    assert_eq!(case.cri.pod_status(&id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(case.cri.status(&id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(case.cri.start(&id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(case.cri.stats(&id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(case.cri.exec(&id, &["true"], 5).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(case.cri.reopen_log(&id).await.unwrap_err().code(), Code::NotFound);
    let limits = cri::LinuxContainerResources { cpu_shares: 512, ..Default::default() };
    assert_eq!(case.cri.update(&id, limits).await.unwrap_err().code(), Code::NotFound);
    let created = case.cri.create(&id, &sleeper("main"), &case.pod("none")).await;
    assert_eq!(created.unwrap_err().code(), Code::NotFound);
}

async fn an_equal_request_finds_the_pod_it_has_made(case: Case) {
    let pod = case.run_pod("retried").await;
    assert_eq!(case.cri.run_pod(&pod.config).await.unwrap(), pod.id);
    assert_eq!(case.cri.list_pods(by_uid(&case.uid)).await.unwrap().len(), 1);
}

async fn equal_requests_at_once_make_one_pod(case: Case) {
    let config = case.pod("raced");
    let ids = join_all((0..6).map(|_| case.cri.run_pod(&config))).await;
    let ids: HashSet<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(case.cri.list_pods(by_uid(&case.uid)).await.unwrap().len(), 1);
}

async fn a_different_request_for_a_held_name_is_refused(case: Case) {
    let pod = case.run_pod("held").await;
    let mut other = pod.config.clone();
    other.hostname = "other".to_owned();
    let refused = case.cri.run_pod(&other).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains(&pod.id[..12]), "{}", refused.message());
    assert_eq!(case.cri.pod_status(&pod.id).await.unwrap().state(), cri::PodSandboxState::SandboxReady);
}

async fn the_next_attempt_runs_beside_the_last_one(case: Case) {
    let pod = case.run_pod("again").await;
    case.cri.stop_pod(&pod.id).await.unwrap();
    let mut next = pod.config.clone();
    next.metadata.as_mut().unwrap().attempt = 1;
    let next = case.run(next).await;
    let pods = case.cri.list_pods(by_uid(&case.uid)).await.unwrap();
    assert_eq!(pods.len(), 2);
    assert_eq!(case.cri.pod_status(&next.id).await.unwrap().metadata.unwrap().attempt, 1);
}

async fn the_name_of_a_dead_pod_is_free_again(case: Case) {
    let dead = case.run_pod("phoenix").await;
    case.cri.stop_pod(&dead.id).await.unwrap();
    let alive = case.run_pod("phoenix").await;
    assert_ne!(alive.id, dead.id);
    let pods = case.cri.list_pods(by_uid(&case.uid)).await.unwrap();
    assert_eq!(pods.len(), 1, "the dead one is gone");
}

async fn a_pause_container_that_dies_makes_the_pod_not_ready(case: Case) {
    let pod = case.run_pod("dies").await;
    case.lab.engine.docker.json("POST", &format!("/containers/{}/kill", pod.id), &serde_json::Value::Null);
    let look = || async {
        let status = case.cri.pod_status(&pod.id).await.unwrap();
        (status.state() == cri::PodSandboxState::SandboxNotready).then_some(())
    };
    eventually("the pod is not ready", Duration::from_secs(2), look).await;
}

async fn removal_takes_running_containers_along(case: Case) {
    let pod = case.run_pod("full").await;
    let container = case.start(&pod, &sleeper("main")).await;
    case.cri.remove_pod(&pod.id).await.unwrap();
    assert_eq!(case.cri.status(&container).await.unwrap_err().code(), Code::NotFound);
    let left = case.lab.engine.docker.containers();
    assert!(!left.iter().any(|(_, name)| name.contains(&case.uid)), "{left:?}");
}
