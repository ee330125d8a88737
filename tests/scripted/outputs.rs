//! How engines tell whether outputs come in frames, and those that tell it wrong.

use serde_json::json;

use super::dockerd::{Api, DOCKER_20_10, DOCKER_23};
use super::script::Act;
use super::stage::Stage;

const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
const RAW: &str = "application/vnd.docker.raw-stream";
/// A line of each output, in frames.
const FRAMES: &[u8] = b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n";

/// Both outputs of a command whose process the engine answers for in its way.
async fn outputs(api: Api, content_type: &'static str, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let stage = Stage::with(&[], |dockerd| dockerd.start(api)).await.synced().await;
    let (_, id) = stage.run_container("a").await;
    let dockerd = &stage.dockerd;
    dockerd.once("POST", "/containers/*/exec", Act::Answer(201, json!({ "Id": "e" })));
    dockerd.once("POST", "/exec/e/start", Act::Upgrade(content_type, bytes.to_vec()));
    let ended = json!({ "ID": "e", "Running": false, "ExitCode": 0, "Pid": 7 });
    dockerd.always("GET", "/exec/e/json", Act::Answer(200, ended));
    let answer = stage.cri.exec(&id, &["true"], 10).await.unwrap();
    stage.end().await;
    (answer.stdout, answer.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_tells_of_frames_is_believed() {
    assert_eq!(outputs(DOCKER_23, MULTIPLEXED, FRAMES).await, (b"out\n".to_vec(), b"err\n".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_tells_of_none_is_believed_whatever_the_bytes_look_like() {
    assert_eq!(outputs(DOCKER_23, RAW, FRAMES).await, (FRAMES.to_vec(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_engine_tells_of_none_and_sends_frames() {
    assert_eq!(outputs(DOCKER_20_10, RAW, FRAMES).await, (b"out\n".to_vec(), b"err\n".to_vec()));
}
