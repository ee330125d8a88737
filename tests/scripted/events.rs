//! GetContainerEvents: each change once and in order, whoever else tells of it, and what was missed while nobody could tell.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dockershim::cri;
use dockershim::cri::ContainerEventType as Kind;
use serde_json::json;
use tonic::{Code, Streaming};

use super::dockerd::DOCKER_20_10;
use super::script::Act;
use super::stage::{Stage, eventually, sandbox_name};

type Events = Streaming<cri::ContainerEventResponse>;

/// What is told until nothing more is.
async fn told(events: &mut Events) -> Vec<cri::ContainerEventResponse> {
    let mut all = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(1), events.message()).await {
        all.push(event.unwrap().expect("the stream goes on"));
    }
    assert!(all.is_sorted_by(|one, next| one.created_at < next.created_at), "{all:#?}");
    all
}

/// The next event.
async fn next(events: &mut Events) -> cri::ContainerEventResponse {
    tokio::time::timeout(Duration::from_secs(10), events.message()).await.unwrap().unwrap().unwrap()
}

/// A container in a new pod whose end is told while the engine doesn't answer for it yet: its id, who follows, and what was told.
async fn ended_without_a_record(stage: &Stage) -> (String, Events, cri::ContainerEventResponse) {
    let (_, id) = stage.run_container("a").await;
    let mut events = stage.cri.events().await.unwrap();
    stage.dockerd.always("GET", "/containers/*/json", Act::Hang);
    stage.dockerd.end_silently(&id, 3);
    stage.dockerd.tell("die", &id);
    let told = next(&mut events).await;
    (id, events, told)
}

/// Of each id, what happened to it.
fn by_id(events: &[cri::ContainerEventResponse]) -> BTreeMap<&str, Vec<Kind>> {
    let mut all = BTreeMap::<_, Vec<Kind>>::new();
    for event in events {
        all.entry(event.container_id.as_str()).or_default().push(event.container_event_type());
    }
    all
}

const LIFE: [Kind; 4] = [
    Kind::ContainerCreatedEvent,
    Kind::ContainerStartedEvent,
    Kind::ContainerStoppedEvent,
    Kind::ContainerDeletedEvent,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_life_is_told_once_though_the_engine_tells_of_it_too() {
    let stage = Stage::new().await;
    let mut events = stage.cri.events().await.unwrap();
    let (sandbox, id) = stage.run_container("a").await;
    for action in ["create", "start", "start"] {
        stage.dockerd.tell(action, &id);
        stage.dockerd.tell(action, &sandbox);
    }
    stage.cri.stop(&id, 1).await.unwrap();
    stage.dockerd.tell("die", &id);
    stage.cri.remove(&id).await.unwrap();
    stage.cri.stop_pod(&sandbox).await.unwrap();
    stage.dockerd.tell("die", &sandbox);
    stage.cri.remove_pod(&sandbox).await.unwrap();
    let all = told(&mut events).await;
    assert_eq!(by_id(&all), BTreeMap::from([(sandbox.as_str(), LIFE.to_vec()), (id.as_str(), LIFE.to_vec())]));
    for event in &all {
        let status = event.pod_sandbox_status.as_ref().unwrap();
        assert_eq!(
            (status.id.as_str(), status.metadata.as_ref().unwrap().uid.as_str()),
            (sandbox.as_str(), "uid-of-a")
        );
    }
    let stopped = all.iter().find(|event| event.container_id == id && event.container_event_type == 2).unwrap();
    assert_eq!(stopped.containers_statuses[0].state(), cri::ContainerState::ContainerExited);
    let last = all.last().unwrap();
    assert_eq!((last.container_id.as_str(), last.pod_sandbox_status.as_ref().unwrap().state), (sandbox.as_str(), 1));
    stage.end().await;
}

/// On a busy machine the engine's words come late, and in any order. (The process goes on, so that the kernel tells nothing.)
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_told_late_waits_for_its_cause_all_the_same() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    let mut events = stage.cri.events().await.unwrap();
    let a_second_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(1);
    let ended = json!({ "ID": id, "Attributes": { "exitCode": "137" } });
    let time = u64::try_from(a_second_ago.as_nanos()).unwrap();
    stage.dockerd.say(&json!({ "Type": "container", "Action": "die", "Actor": ended, "timeNano": time }).to_string());
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.dockerd.tell("oom", &id);
    let told = next(&mut events).await;
    assert_eq!(told.container_event_type(), Kind::ContainerStoppedEvent);
    assert_eq!(told.containers_statuses[0].reason, "OOMKilled");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_the_engine_was_away_is_told_as_differences() {
    let stage = Stage::new().await;
    let ((_, ended), (_, gone), (_, stays)) =
        (stage.run_container("a").await, stage.run_container("b").await, stage.run_container("c").await);
    let mut events = stage.cri.events().await.unwrap();
    stage.dockerd.stop();
    eventually("the loss is seen", 3, async || stage.pods().await.err()).await;
    stage.dockerd.end_silently(&ended, 3);
    stage.dockerd.forget(&gone);
    let made = stage.dockerd.put(&sandbox_name("d"), json!({ "io.kubernetes.docker.type": "podsandbox" }), true);
    stage.dockerd.start(DOCKER_20_10);
    stage.until(5, &ended, cri::ContainerState::ContainerExited).await;
    let all = told(&mut events).await;
    let wanted = [(made.as_str(), &LIFE[..2]), (ended.as_str(), &LIFE[2..3]), (gone.as_str(), &LIFE[2..])];
    let wanted = BTreeMap::from(wanted.map(|(id, kinds)| (id, kinds.to_vec())));
    assert_eq!(by_id(&all), wanted, "{stays} is as it was");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_from_our_start_hears_only_what_is_new() {
    let prepare = |dockerd: &super::dockerd::Dockerd| {
        dockerd.put(&sandbox_name("old"), json!({ "io.kubernetes.docker.type": "podsandbox" }), true);
    };
    let stage = Stage::with(&[], prepare).await;
    let mut events = stage.cri.events().await.unwrap();
    stage.dockerd.start(DOCKER_20_10);
    let stage = stage.synced().await;
    assert_eq!(stage.pods().await.unwrap().len(), 1);
    let new = stage.run_pod("new").await;
    assert_eq!(by_id(&told(&mut events).await), BTreeMap::from([(new.as_str(), LIFE[..2].to_vec())]));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_ended_before_our_start_is_never_shown_as_running_and_no_news() {
    let prepare = |dockerd: &super::dockerd::Dockerd| {
        let sandbox = dockerd.put(&sandbox_name("a"), json!({ "io.kubernetes.docker.type": "podsandbox" }), true);
        let labels = json!({ "io.kubernetes.docker.type": "container", "io.kubernetes.sandbox.id": sandbox });
        let id = dockerd.put("k8s_main_a_default_uid-of-a_0", labels, true);
        dockerd.end_silently(&id, 3);
        dockerd.always("GET", "/containers/*/json", Act::Delay(Duration::from_millis(200)));
    };
    let stage = Stage::with(&[], prepare).await;
    let mut events = stage.cri.events().await.unwrap();
    stage.dockerd.start(DOCKER_20_10);
    let first = eventually("the first answer", 10, async || stage.containers().await.ok()).await;
    assert_eq!(first.into_values().collect::<Vec<_>>(), [cri::ContainerState::ContainerExited]);
    assert!(told(&mut events).await.is_empty());
    assert_eq!(stage.dockerd.count("GET", "/containers/*/json"), 2);
    stage.dockerd.as_usual("GET", "/containers/*/json");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_while_the_engine_still_clears_up() {
    let stage = Stage::new().await;
    let (_, _events, told) = ended_without_a_record(&stage).await;
    let status = &told.containers_statuses[0];
    assert_eq!((told.container_event_type(), status.state()), (LIFE[2], cri::ContainerState::ContainerExited));
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.finished_at > status.started_at);
    stage.dockerd.as_usual("GET", "/containers/*/json");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_earlier_run_does_not_end_the_next() {
    let stage = Stage::new().await;
    let (_, id) = stage.run_container("a").await;
    let mut events = stage.cri.events().await.unwrap();
    stage.dockerd.say(
        &json!({
            "Type": "container", "Action": "die", "timeNano": 1,
            "Actor": { "ID": id, "Attributes": { "exitCode": "3" } },
        })
        .to_string(),
    );
    assert!(told(&mut events).await.is_empty());
    assert_eq!(stage.containers().await.unwrap()[&id], cri::ContainerState::ContainerRunning);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_began_and_ended_while_an_earlier_ones_record_was_waited_for_is_told() {
    let stage = Stage::new().await;
    let (id, mut events, first) = ended_without_a_record(&stage).await;
    assert_eq!(first.containers_statuses[0].exit_code, 3);
    stage.dockerd.edit(&id, |container| container.run("2100-01-01T00:00:00Z"));
    stage.dockerd.end_silently(&id, 4);
    stage.dockerd.as_usual("GET", "/containers/*/json");
    let (started, stopped) = (next(&mut events).await, next(&mut events).await);
    assert_eq!([started.container_event_type(), stopped.container_event_type()], LIFE[1..3]);
    assert_eq!(stopped.containers_statuses[0].exit_code, 4);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_status_lies_between_those_of_the_events_around_it() {
    let stage = Stage::new().await;
    let mut events = stage.cri.events().await.unwrap();
    let (sandbox, id) = stage.run_container("a").await;
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox, verbose: false };
    let seen = stage.cri.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
    assert_eq!(seen.containers_statuses[0].state(), cri::ContainerState::ContainerRunning);
    stage.cri.stop(&id, 1).await.unwrap();
    let times: Vec<i64> = told(&mut events).await.iter().map(|event| event.created_at).collect();
    assert_eq!(times.len(), 5);
    assert!(times[3] < seen.timestamp && seen.timestamp < times[4], "{times:?} {}", seen.timestamp);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_subscribers_are_answered_and_most_of_them_refused() {
    let stage = Stage::new().await;
    let mut followed = Vec::new();
    for number in 0..10_000 {
        match stage.cri.events().await {
            Ok(events) => followed.push(events),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{number}: {status}"),
        }
    }
    assert_eq!(followed.len(), 64);
    let id = stage.run_pod("a").await;
    for events in &mut followed {
        assert_eq!(events.message().await.unwrap().unwrap().container_id, id);
    }
    followed.pop();
    eventually("a place is free", 3, async || stage.cri.events().await.ok()).await;
    stage.end().await;
}
