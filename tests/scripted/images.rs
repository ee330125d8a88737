//! Pulls that fail after the engine has answered 200: the failure is in the stream, or the stream is. And those that go slowly, or
//! not at all.

use std::time::{Duration, Instant};

use dockershim::status::Form;
use serde_json::{Value, json};
use tonic::Code;

use super::dockerd::DOCKER_20_10;
use super::script::{Act, End};
use super::stage::{Stage, eventually};

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
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inodes_that_cannot_be_counted_are_left_out() {
    let info = json!({ "CgroupDriver": "cgroupfs", "DockerRootDir": "/nowhere", "Driver": "overlay2" });
    let stage = Stage::with(&[], |dockerd| {
        dockerd.always("GET", "/info", Act::Answer(200, info));
        dockerd.start(DOCKER_20_10);
    });
    let stage = stage.await.synced().await;
    let told = stage.image_fs().await.unwrap().image_filesystems.remove(0);
    assert_eq!(told.inodes_used, None);
    assert!(told.used_bytes.unwrap().value > 0 && told.fs_id.unwrap().mountpoint.starts_with("/nowhere"));
    stage.end().await;
}

/// An engine that has the image, and a server that gives a pull two seconds.
async fn patient() -> Stage {
    let flags = ["--image-pull-progress-deadline=2s"];
    let stage = Stage::with(&flags, |dockerd| dockerd.start(DOCKER_20_10)).await.synced().await;
    stage.cri.pull("slow:1", None).await.unwrap();
    stage
}

fn layer(status: &str, current: u64) -> Value {
    json!({ "id": "0123456789ab", "status": status, "progressDetail": { "current": current, "total": 10 << 20 } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_moves_is_waited_for_however_slow_and_shown() {
    let stage = patient().await;
    let mut lines = vec![progress()];
    lines.extend((1..=8).map(|step| layer("Downloading", step << 20)));
    lines.push(json!({ "id": "0123456789ab", "status": "Pull complete", "progressDetail": {} }));
    stage.dockerd.once("POST", PULL, Act::Trickle(lines, Duration::from_millis(500)));
    let began = Instant::now();
    let shown = async {
        let seen = async || {
            let mut screen = Vec::new();
            dockershim::status::show(&stage.socket(), Form::Screen, &mut screen).await.unwrap();
            let screen = String::from_utf8(screen).unwrap();
            screen
                .lines()
                .find(|line| line.starts_with("pull ") && line.contains(" MiB of 10.0 MiB"))
                .map(str::to_owned)
        };
        eventually("the pull is shown", 5, seen).await
    };
    let (pulled, shown) = tokio::join!(stage.cri.pull("slow:1", None), shown);
    pulled.unwrap();
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(shown.contains("slow:1: 0 of 1 layers, "), "{shown}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_tell_of_no_move_do_not_keep_a_pull() {
    let stage = patient().await;
    let retries =
        (0..40).map(|number| json!({ "id": "0123456789ab", "status": format!("Retrying in {} seconds", 40 - number) }));
    let lines = [layer("Downloading", 3 << 20)].into_iter().chain(retries).collect();
    stage.dockerd.once("POST", PULL, Act::Trickle(lines, Duration::from_millis(200)));
    // had the messages kept it, it would have ended well
    let error = stage.cri.pull("slow:1", None).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    for words in ["standstill at 0 of 1 layers, 3.0 of 10.0 MiB", "Retrying in ", "within 2s"] {
        assert!(error.message().contains(words), "{error}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_extracts_in_silence_is_waited_for() {
    let stage = patient().await;
    let lines = vec![layer("Extracting", 10 << 20), json!({ "id": "0123456789ab", "status": "Pull complete" })];
    stage.dockerd.once("POST", PULL, Act::Trickle(lines, Duration::from_secs(4)));
    stage.cri.pull("slow:1", None).await.unwrap();
    stage.end().await;
}
