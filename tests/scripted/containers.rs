//! Containers that start, end and vanish behind the shim's back, and answers that say no more than "it is so already".

use std::time::Duration;

use dockershim::cri;
use dockershim::cri::ContainerState;
use serde_json::Value;
use tonic::Code;

use super::client::image_spec;
use super::dockerd::{BUSYBOX, DOCKER_28};
use super::script::Act;
use super::stage::{Stage, container, pod};

#[tokio::test(flavor = "multi_thread")]
async fn equal_creates_at_once_make_one_container() {
    let stage = Stage::new().await;
    let sandbox = stage.run_pod("a").await;
    stage.dockerd.once("POST", "/containers/create", Act::Delay(Duration::from_millis(300)));
    let (config, pod) = (container("a"), pod("a"));
    let (first, second) =
        tokio::join!(stage.cri.create(&sandbox, &config, &pod), stage.cri.create(&sandbox, &config, &pod));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(stage.dockerd.count("POST", "/containers/create"), 2);
    assert_eq!(stage.dockerd.names().len(), 2);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_what_runs_already_is_a_success() {
    let stage = Stage::new().await;
    let sandbox = stage.run_pod("a").await;
    let id = stage.cri.create(&sandbox, &container("a"), &pod("a")).await.unwrap();
    stage.dockerd.edit(&id, |container| container.run("2026-01-01T00:00:00Z"));
    stage.cri.start(&id).await.unwrap();
    assert_eq!(stage.dockerd.count("POST", "/containers/*/start"), 2);
    assert_eq!(stage.containers().await.unwrap()[&id], ContainerState::ContainerRunning);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_what_has_ended_already_is_a_success() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    stage.dockerd.end_silently(&id, 3);
    stage.cri.stop(&id, 10).await.unwrap();
    assert_eq!(stage.dockerd.count("POST", "/containers/*/stop"), 1);
    let status = stage.cri.status(&id).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 3));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_what_is_gone_is_a_success() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    stage.dockerd.forget(&id);
    stage.cri.stop(&id, 10).await.unwrap();
    assert!(stage.containers().await.unwrap().is_empty());
    assert_eq!(stage.cri.status(&id).await.unwrap_err().code(), Code::NotFound);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_no_event_tells_of_is_seen_by_the_process() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    stage.dockerd.end_silently(&id, 5);
    stage.until(3, &id, ContainerState::ContainerExited).await;
    let status = stage.cri.status(&id).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (5, "Error"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_process_that_ends_makes_its_sandbox_not_ready() {
    let stage = Stage::new().await;
    let id = stage.run_pod("a").await;
    stage.dockerd.end_silently(&id, 0);
    let gone = async || (stage.cri.pod_status(&id).await.unwrap().state != 0).then_some(());
    super::stage::eventually("the sandbox is not ready", 3, gone).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_started_has_ended_with_the_engines_words() {
    let stage = Stage::new().await;
    let sandbox = stage.run_pod("a").await;
    let id = stage.cri.create(&sandbox, &container("a"), &pod("a")).await.unwrap();
    let words = "exec: \"nothing\": executable file not found in $PATH";
    stage.dockerd.once("POST", "/containers/*/start", Act::refuse(400, words));
    stage.dockerd.edit(&id, |container| {
        container.exit_code = 127;
        words.clone_into(&mut container.error);
    });
    let error = stage.cri.start(&id).await.unwrap_err();
    assert!(error.message().contains(words), "{error}");
    let status = stage.cri.status(&id).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 127));
    assert_eq!((status.reason.as_str(), status.message.as_str()), ("ContainerCannotRun", words));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_hard_to_remove_stays_listed() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    let words = "driver \"overlay2\" failed to remove root filesystem: device or resource busy";
    stage.dockerd.once("DELETE", "/containers/*", Act::refuse(500, words));
    let error = stage.cri.remove(&id).await.unwrap_err();
    assert!(error.message().contains(words), "{error}");
    assert!(stage.containers().await.unwrap().contains_key(&id));
    stage.cri.remove(&id).await.unwrap();
    assert!(stage.containers().await.unwrap().is_empty());
    stage.end().await;
}

/// A container that mounts a directory of an image.
fn with_sub_path(name: &str) -> cri::ContainerConfig {
    let mount = cri::Mount {
        container_path: "/files".to_owned(),
        image: Some(image_spec(BUSYBOX)),
        image_sub_path: "srv/files".to_owned(),
        readonly: true,
        ..cri::Mount::default()
    };
    cri::ContainerConfig { mounts: vec![mount], ..container(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_path_of_an_image_is_looked_for_once_unless_the_look_was_cut_short() {
    const LOOK: &str = "/containers/*/archive";
    let stage = Stage::with(&[], |dockerd| dockerd.start(DOCKER_28)).await.synced().await;
    let sandbox = stage.run_pod("a").await;
    let create = async |name: &str| stage.cri.create(&sandbox, &with_sub_path(name), &pod("a")).await;
    stage.dockerd.always("HEAD", LOOK, Act::Answer(204, Value::Null));
    stage.dockerd.once("DELETE", "/containers/*", Act::refuse(404, "No such container"));
    create("pruned").await.unwrap_err();
    assert_eq!(stage.dockerd.count("HEAD", LOOK), 1);
    for name in ["one", "two", "three"] {
        create(name).await.unwrap();
    }
    assert_eq!(stage.dockerd.count("HEAD", LOOK), 2);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_processes_of_the_same_pod_can_be_seen() {
    let stage = Stage::new().await;
    let (sandbox, first) = stage.run_container("a").await;
    let (_, foreign) = stage.run_container("b").await;
    let by_hand = stage.dockerd.put("by-hand", serde_json::json!({}), true);
    let create = async |name: &str, target_id: &str| {
        let options = cri::NamespaceOption {
            pid: cri::NamespaceMode::Target.into(),
            target_id: target_id.to_owned(),
            ..cri::NamespaceOption::default()
        };
        let security_context =
            cri::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        let linux = cri::LinuxContainerConfig { security_context: Some(security_context), ..Default::default() };
        let config = cri::ContainerConfig { linux: Some(linux), ..container(name) };
        stage.cri.create(&sandbox, &config, &pod("a")).await
    };
    for target in [&foreign, &by_hand, "by-hand", &sandbox, "k8s_a_a_default_uid-of-a_0", "", "0"] {
        let refused = create("bad", target).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{target:?}");
        let field = "config.linux.security_context.namespace_options.target_id: ";
        assert!(refused.message().starts_with(field), "{target:?}: {}", refused.message());
    }
    create("debug", &first).await.unwrap();
    let made = stage.dockerd.calls("POST", "/containers/create").pop().unwrap().json();
    assert_eq!(made["HostConfig"]["PidMode"], format!("container:{first}"));
    stage.dockerd.end_silently(&first, 0);
    stage.until(3, &first, ContainerState::ContainerExited).await;
    assert!(create("late", &first).await.unwrap_err().message().ends_with("has ended"));
    stage.end().await;
}
