//! Pulls that fail after the engine has answered 200: the failure is in the stream, or the stream is.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::Code;

use super::dockerd::DOCKER_20_10;
use super::script::{Act, End};
use super::stage::Stage;

const PULL: &str = "/images/create";

fn progress() -> Value {
    json!({ "status": "Pulling fs layer", "id": "0123456789ab" })
}

fn failed(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_stream_is_the_pulls_error() {
    let stage = Stage::new().await;
    let lines = vec![progress(), failed("manifest for nothing:1 not found")];
    stage.dockerd.once("POST", PULL, Act::Lines(lines, End::Whole));
    let error = stage.cri.pull("nothing:1", None).await.unwrap_err();
    assert!(error.message().contains("manifest for nothing:1 not found"), "{error}");
    assert!(!error.message().contains("RegistryUnavailable"), "{error}");
    assert_eq!(stage.cri.image("nothing:1").await.unwrap(), None);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_told_in_the_kubelets_words() {
    let stage = Stage::new().await;
    for status in ["502 Bad Gateway", "503 Service Unavailable"] {
        let lines = vec![failed(&format!("received unexpected HTTP status: {status}"))];
        stage.dockerd.once("POST", PULL, Act::Lines(lines, End::Whole));
        let error = stage.cri.pull("nothing:1", None).await.unwrap_err();
        assert_eq!(error.code(), Code::Unknown);
        assert!(error.message().starts_with("RegistryUnavailable") && error.message().contains(status), "{error}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_breaks_off_has_not_succeeded() {
    let stage = Stage::new().await;
    stage.dockerd.once("POST", PULL, Act::Lines(vec![progress()], End::Cut));
    assert_eq!(stage.cri.pull("nothing:1", None).await.unwrap_err().code(), Code::Unavailable);
    stage.cri.pull("nothing:1", None).await.unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_makes_no_progress_is_cancelled() {
    let flags = ["--image-pull-progress-deadline=1s"];
    let stage = Stage::with(&flags, |dockerd| dockerd.start(DOCKER_20_10)).await.synced().await;
    stage.dockerd.once("POST", PULL, Act::Lines(vec![progress()], End::Hang));
    let began = Instant::now();
    let error = stage.cri.pull("nothing:1", None).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    stage.end().await;
}
