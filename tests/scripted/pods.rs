//! RunPodSandbox when the engine refuses, when the name is taken, when the image is gone, when the client goes away.

use std::time::{Duration, Instant};

use dockershim::cri;
use serde_json::json;
use tonic::Code;

use super::dockerd::DOCKER_20_10;
use super::script::Act;
use super::stage::{Stage, pod, sandbox_name};

const CREATE: &str = "/containers/create";
const START: &str = "/containers/*/start";

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_cannot_be_started_is_undone() {
    let stage = Stage::new().await;
    stage.dockerd.once("POST", START, Act::refuse(500, "no such luck in cgroup v3"));
    let error = stage.cri.run_pod(&pod("a")).await.unwrap_err();
    assert!(error.message().contains("no such luck in cgroup v3"), "{error}");
    assert!(error.message().contains("default/a"), "{error}");
    assert_eq!(stage.dockerd.count("DELETE", "/containers/*"), 1);
    assert!(stage.dockerd.names().is_empty());
    assert!(stage.pods().await.unwrap().is_empty());
    stage.run_pod("a").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_error_is_told_when_the_undo_fails_too_and_the_next_attempt_clears_the_name() {
    let stage = Stage::new().await;
    stage.dockerd.once("POST", START, Act::refuse(500, "the first thing"));
    stage.dockerd.once("DELETE", "/containers/*", Act::refuse(500, "the second thing"));
    let error = stage.cri.run_pod(&pod("a")).await.unwrap_err();
    assert!(error.message().contains("the first thing") && !error.message().contains("second"), "{error}");
    let id = stage.run_pod("a").await;
    assert_eq!(stage.dockerd.names(), [sandbox_name("a")]);
    assert_eq!(stage.pods().await.unwrap().iter().map(|pod| pod.id.as_str()).collect::<Vec<_>>(), [id]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sandbox_of_ours_that_nobody_told_of_gives_its_name_up() {
    let stage = Stage::new().await;
    let dead = stage.dockerd.put(&sandbox_name("a"), json!({ "io.kubernetes.docker.type": "podsandbox" }), false);
    let id = stage.run_pod("a").await;
    assert_ne!(id, dead);
    assert_eq!(stage.dockerd.count("POST", CREATE), 2);
    assert_eq!(stage.dockerd.count("DELETE", &format!("/containers/{dead}")), 1);
    assert_eq!(stage.dockerd.names(), [sandbox_name("a")]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_somebody_else_holds_is_left_to_him_and_he_is_named() {
    let stage = Stage::new().await;
    let foreign = stage.dockerd.put(&sandbox_name("a"), json!({}), true);
    let error = stage.cri.run_pod(&pod("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    assert!(error.message().contains(&foreign), "{error}");
    assert_eq!(stage.dockerd.count("DELETE", "/containers/*"), 0);
    assert_eq!(stage.dockerd.names(), [sandbox_name("a")]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_sandbox_image_is_loaded_again() {
    let stage = Stage::new().await;
    stage.run_pod("a").await;
    assert_eq!(stage.dockerd.count("POST", "/images/load"), 1);
    stage.dockerd.prune(dockershim::pause::reference());
    stage.run_pod("b").await;
    assert_eq!(stage.dockerd.count("POST", "/images/load"), 2);
    assert_eq!(stage.dockerd.count("POST", CREATE), 3);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_left_is_finished_and_his_next_call_finds_it() {
    let stage = Stage::new().await;
    stage.dockerd.once("POST", START, Act::Delay(Duration::from_secs(2)));
    let (config, cri) = (pod("a"), stage.cri.clone());
    let call = tokio::spawn(async move { cri.run_pod(&config).await });
    stage.dockerd.reached(1, "POST", START).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let id = stage.run_pod("a").await;
    assert_eq!((stage.dockerd.count("POST", CREATE), stage.dockerd.count("POST", START)), (1, 1));
    assert_eq!(stage.pods().await.unwrap()[0].id, id);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_at_once_make_one_sandbox() {
    let stage = Stage::new().await;
    stage.dockerd.once("POST", CREATE, Act::Delay(Duration::from_millis(300)));
    let config = pod("a");
    let (first, second) = tokio::join!(stage.cri.run_pod(&config), stage.cri.run_pod(&config));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(stage.dockerd.count("POST", CREATE), 1);
    stage.end().await;
}

/// A pod that asks for a port of the node.
fn with_port(name: &str, host_port: i32) -> cri::PodSandboxConfig {
    let mapping = cri::PortMapping { container_port: 80, host_port, ..cri::PortMapping::default() };
    cri::PodSandboxConfig { port_mappings: vec![mapping], ..pod(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pods_at_once_one_has_the_host_port_and_the_other_is_told_whose_it_is() {
    let stage = Stage::new().await;
    stage.dockerd.once("POST", CREATE, Act::Delay(Duration::from_secs(2)));
    stage.dockerd.once("POST", START, Act::refuse(500, "no such luck"));
    let (config, cri) = (with_port("first", 8080), stage.cri.clone());
    let first = tokio::spawn(async move { cri.run_pod(&config).await });
    stage.dockerd.reached(1, "POST", CREATE).await;
    let refused = stage.cri.run_pod(&with_port("second", 8080)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "host port 8080/tcp is held by pod default/first");
    assert_eq!(stage.dockerd.count("POST", CREATE), 1);
    // the failed one gives it up
    assert!(first.await.unwrap().unwrap_err().message().contains("no such luck"));
    stage.cri.run_pod(&with_port("second", 8080)).await.unwrap();
    stage.cri.run_pod(&with_port("third", 8081)).await.unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_an_answer_ends_at_the_request_timeout() {
    let stage =
        Stage::with(&["--runtime-request-timeout=1s"], |dockerd| dockerd.start(DOCKER_20_10)).await.synced().await;
    stage.dockerd.once("POST", CREATE, Act::Hang);
    let began = Instant::now();
    let error = stage.cri.run_pod(&pod("a")).await.unwrap_err();
    assert!((1.0..10.0).contains(&began.elapsed().as_secs_f32()), "{:?}", began.elapsed());
    assert!(error.message().contains("create container") && error.message().contains("1s"), "{error}");
    stage.run_pod("a").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_in_a_call_is_an_error_and_not_the_end() {
    let stage = Stage::new().await;
    stage.dockerd.once("POST", START, Act::Cut);
    let error = stage.cri.run_pod(&pod("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(stage.dockerd.names().is_empty());
    stage.run_pod("a").await;
    stage.end().await;
}
