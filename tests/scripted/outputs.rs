//! ExecSync before engines that answer oddly: how they tell whether outputs come in frames, and of a process's start and end.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::Code;

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

/// An exec whose output ends at once, and of which the engine says this whenever it is asked.
fn exec_without_output(stage: &Stage, inspect: Value) {
    stage.dockerd.once("POST", "/containers/*/exec", Act::Answer(201, json!({ "Id": "e" })));
    stage.dockerd.once("POST", "/exec/e/start", Act::Upgrade(RAW, Vec::new()));
    stage.dockerd.always("GET", "/exec/e/json", Act::Answer(200, inspect));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_by_its_event_though_the_engine_calls_the_process_running() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    exec_without_output(&stage, json!({ "ID": "e", "Running": true, "ExitCode": null, "Pid": 0 }));
    let told = async {
        stage.dockerd.reached(1, "GET", "/exec/*/json").await;
        let attributes = json!({ "execID": "e", "exitCode": "5" });
        let actor = json!({ "ID": id, "Attributes": attributes });
        stage.dockerd.say(&json!({ "Type": "container", "Action": "exec_die", "Actor": actor }).to_string());
    };
    let (answer, ()) = tokio::join!(stage.cri.exec(&id, &["true"], 20), told);
    assert_eq!(answer.unwrap().exit_code, 5);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_time_is_up_before_it_has_come_to_be_is_ended_then() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    exec_without_output(&stage, json!({ "ID": "e", "Running": true, "ExitCode": null, "Pid": 0 }));
    let mut process = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
    let begun = Instant::now();
    let late = async {
        tokio::time::sleep(Duration::from_millis(1300)).await;
        let running = json!({ "ID": "e", "Running": true, "ExitCode": null, "Pid": process.id() });
        // in force as soon as the first is taken back
        stage.dockerd.always("GET", "/exec/*/json", Act::Answer(200, running));
        stage.dockerd.as_usual("GET", "/exec/e/json");
    };
    let (answer, ()) = tokio::join!(stage.cri.exec(&id, &["sleep", "60"], 1), late);
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(!process.wait().unwrap().success(), "it has been killed");
    assert!(begun.elapsed() < Duration::from_secs(30), "and has not ended by itself");
    stage.end().await;
}
