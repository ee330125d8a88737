//! Engines that hang, go away, come back as another version, and say what no engine says.

use std::time::{Duration, Instant};

use dockershim::cri;
use dockershim::cri::ContainerState;
use serde_json::json;
use tonic::Code;

use super::dockerd::{Api, DOCKER_20_10, DOCKER_28, info};
use super::script::Act;
use super::stage::{Stage, eventually, sandbox_name};

const LIST: &str = "/containers/json";

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_nobody_knows_does_not_fail_a_list() {
    let stage = Stage::new().await;
    let ((_, odd), (_, usual)) = (stage.run_container("a").await, stage.run_container("b").await);
    stage.dockerd.end_silently(&odd, 0);
    stage.dockerd.edit(&odd, |container| "pondering".clone_into(&mut container.state));
    stage.dockerd.cut_events();
    stage.dockerd.reached(2, "GET", "/events").await;
    let containers = eventually("lists are answered", 5, async || stage.containers().await.ok()).await;
    assert_eq!(containers.len(), 2);
    assert_eq!(containers[&usual], ContainerState::ContainerRunning);
    assert_ne!(containers[&odd], ContainerState::ContainerCreated);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_passed_over() {
    let stage = Stage::new().await;
    for line in ["}{", "", "\u{0}\u{1}", r#"{"Type":7}"#, r#"{"Type":"container","Action":"start"}"#, "[]", "null"] {
        stage.dockerd.say(line);
    }
    let id = stage.dockerd.put(&sandbox_name("a"), json!({ "io.kubernetes.docker.type": "podsandbox" }), true);
    stage.dockerd.tell("start", &id);
    let seen = async || stage.pods().await.unwrap().iter().any(|pod| pod.id == id).then_some(());
    eventually("the next event is taken", 3, seen).await;
    assert_eq!(stage.dockerd.count("GET", "/events"), 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_event_stream_is_taken_up_again_and_what_was_missed_is_found() {
    let stage = Stage::new().await;
    let ((_, gone), (_, stays)) = (stage.run_container("a").await, stage.run_container("b").await);
    let made = stage.dockerd.put(&sandbox_name("c"), json!({ "io.kubernetes.docker.type": "podsandbox" }), true);
    stage.dockerd.forget(&gone);
    stage.dockerd.cut_events();
    let found = async || {
        let (pods, containers) = (stage.pods().await.ok()?, stage.containers().await.ok()?);
        (pods.iter().any(|pod| pod.id == made) && containers.into_keys().eq([stays.clone()])).then_some(())
    };
    eventually("what was missed is found", 5, found).await;
    assert_eq!(stage.dockerd.count("GET", "/events"), 2);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_inspect_that_hangs_holds_nobody_else_up() {
    let stage = Stage::new().await;
    let ((_, hangs), (_, other)) = (stage.run_container("a").await, stage.run_container("b").await);
    let path = format!("/containers/{hangs}/json");
    stage.dockerd.always("GET", &path, Act::Hang);
    stage.dockerd.cut_events();
    stage.dockerd.reached(2, "GET", "/events").await;
    let containers = eventually("lists are answered", 5, async || stage.containers().await.ok()).await;
    assert_eq!(containers[&hangs], ContainerState::ContainerRunning);
    assert_eq!(containers[&other], ContainerState::ContainerRunning);
    let began = Instant::now();
    stage.cri.stop(&other, 1).await.unwrap();
    stage.run_container("c").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_inspected_at_the_start_is_served_from_the_list_and_inspected_later() {
    let mut ids = (String::new(), String::new());
    let prepare = |dockerd: &super::dockerd::Dockerd| {
        let labels = json!({ "io.kubernetes.docker.type": "podsandbox", "app": "x" });
        ids = (dockerd.put(&sandbox_name("a"), labels.clone(), true), dockerd.put(&sandbox_name("b"), labels, true));
        dockerd.always("GET", &format!("/containers/{}/json", ids.0), Act::Hang);
        dockerd.start(DOCKER_20_10);
    };
    let stage = Stage::with(&[], prepare).await.synced().await;
    let mut listed: Vec<_> = stage.pods().await.unwrap().into_iter().map(|pod| pod.id).collect();
    listed.sort();
    assert_eq!(listed, [ids.0.clone(), ids.1.clone()]);
    let status = stage.cri.pod_status(&ids.0).await.unwrap();
    assert_eq!((status.metadata.unwrap().name.as_str(), status.state), ("a", 0));
    stage.dockerd.as_usual("GET", &format!("/containers/{}/json", ids.0));
    let inspected = async || stage.cri.pod_status(&ids.0).await.unwrap().network.map(|network| network.ip);
    assert_eq!(eventually("it is inspected", 10, inspected).await, "172.17.0.2");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_lists_no_more_is_told_while_the_kubelets_gates_stay_open() {
    let stage = Stage::new().await;
    stage.dockerd.always("GET", LIST, Act::Hang);
    let told = eventually("the runtime is not ready", 15, async || {
        let (ready, message) = stage.ready().await;
        (!ready).then_some(message)
    });
    let message = told.await;
    assert!(message.contains("no listing has completed for 10s"), "{message}");
    let began = Instant::now();
    assert_eq!(stage.version().await.unwrap().runtime_version, "20.10.24");
    assert_eq!(stage.image_fs().await.unwrap().image_filesystems.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    stage.dockerd.as_usual("GET", LIST);
    eventually("the runtime is ready again", 12, async || stage.ready().await.0.then_some(())).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_engine_lists_are_unavailable_and_come_back_with_it() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    stage.dockerd.stop();
    let unavailable = async || stage.pods().await.err();
    let error = eventually("lists are refused", 3, unavailable).await;
    assert_eq!(error.code(), Code::Unavailable);
    let began = Instant::now();
    assert_eq!(stage.cri.status(&id).await.unwrap_err().code(), Code::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(!stage.ready().await.0);
    assert_eq!(stage.version().await.unwrap().runtime_version, "20.10.24");
    assert_eq!(stage.image_fs().await.unwrap().image_filesystems.len(), 1);
    stage.dockerd.start(DOCKER_20_10);
    stage.until(3, &id, ContainerState::ContainerRunning).await;
    assert!(stage.ready().await.0);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_late_is_waited_for() {
    let stage = Stage::with(&[], |_| {}).await;
    assert!(!stage.ready().await.0);
    assert!(!stage.version().await.unwrap().runtime_version.is_empty());
    assert_eq!(stage.image_fs().await.unwrap().image_filesystems.len(), 1);
    assert_eq!(stage.pods().await.unwrap_err().code(), Code::Unavailable);
    stage.dockerd.start(DOCKER_20_10);
    let stage = stage.synced().await;
    assert!(stage.ready().await.0);
    stage.run_pod("a").await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_too_old_is_told_with_both_versions() {
    let stage = Stage::with(&[], |dockerd| dockerd.start(Api { oldest: 12, newest: 40 })).await;
    let told = async || {
        let (ready, message) = stage.ready().await;
        (!ready && message.contains("1.40")).then_some(message)
    };
    let message = eventually("the version is told", 3, told).await;
    assert!(message.contains("1.41") && message.contains("20.10"), "{message}");
    assert_eq!(stage.pods().await.unwrap_err().code(), Code::Unavailable);
    stage.end().await;
}

/// Stops the engine and starts it as another version; gives the version that lists carry then.
async fn version_after(stage: &Stage, api: Api) -> u16 {
    stage.dockerd.stop();
    eventually("the loss is seen", 3, async || stage.pods().await.err()).await;
    stage.dockerd.start(api);
    eventually("the engine is known again", 5, async || stage.pods().await.ok()).await;
    stage.dockerd.calls("GET", LIST).last().unwrap().version().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_back_as_another_version_is_spoken_to_in_it() {
    let stage = Stage::new().await;
    assert_eq!(stage.dockerd.calls("GET", LIST)[0].version(), Some(41));
    assert_eq!(version_after(&stage, Api { oldest: 24, newest: 47 }).await, 47);
    // this one refuses what was spoken before, in both directions
    assert_eq!(version_after(&stage, DOCKER_20_10).await, 41);
    assert!(version_after(&stage, Api { oldest: 44, newest: 99 }).await >= 44);
    stage.run_pod("a").await;
    stage.end().await;
}

/// The handlers that mount read-only recursively, once the engine is known in this version. Of its runtimes `new` says that it can.
async fn recursive_handlers(stage: &Stage, api: Api) -> Vec<String> {
    assert_eq!(version_after(stage, api).await, api.newest);
    let answer = stage.cri.runtime().status(cri::StatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.runtime_handlers.len(), 4, "the default and each runtime: {answer:?}");
    let can = |handler: &cri::RuntimeHandler| handler.features.as_ref().unwrap().recursive_read_only_mounts;
    answer.runtime_handlers.into_iter().filter(can).map(|handler| handler.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_mounts_read_only_recursively_where_engine_and_runtime_can() {
    let mut told = info();
    let features = |options: &str| json!({ "status": { "org.opencontainers.runtime-spec.features": options } });
    told["Runtimes"] = json!({
        "new": features(r#"{"mountOptions": ["ro", "rro"]}"#),
        "old": features(r#"{"mountOptions": ["ro"]}"#),
        "silent": { "path": "runc" },
    });
    told["DefaultRuntime"] = json!("new");
    let stage = Stage::new().await;
    stage.dockerd.always("GET", "/info", Act::Answer(200, told));
    assert_eq!(recursive_handlers(&stage, DOCKER_20_10).await, [""; 0]);
    assert_eq!(recursive_handlers(&stage, Api { oldest: 24, newest: 43 }).await, [""; 0]);
    assert_eq!(recursive_handlers(&stage, Api { oldest: 24, newest: 44 }).await, ["", "new"]);
    assert_eq!(recursive_handlers(&stage, DOCKER_28).await, ["", "new"]);
    stage.end().await;
}
