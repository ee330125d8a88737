//! GetContainerEvents on a real engine: many ends, each told once and soon; the Stream* twins of lists; and what
//! a pod may use, kept across a restart of ours.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dockershim::cri;
use dockershim::cri::ContainerEventType as Kind;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::lab::{Case, Pod, Stage, eventually, sleeper, trials};
use crate::support::engine::Options;

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Own(Options::default());
        each_of_many_ends_is_told_once_and_soon,
        what_a_pod_may_use_is_kept_across_our_restart,
    ]
}

/// How long containers are ended.
const ROUNDS: Duration = Duration::from_secs(45);
/// Side by side.
const CONTAINERS: usize = 8;
/// What our word may be later than the Engine's, in the middle: far less than a reconcile takes to find out. Bench `cri` measures it.
const LAG: Duration = Duration::from_secs(2);

/// When each start and end of a container was told, by `id` and whether it is an end.
type Heard = Arc<Mutex<HashMap<(String, bool), Vec<Instant>>>>;

/// Follows the Engine's own events in a thread that ends with it.
fn follow_engine(socket: PathBuf) -> Heard {
    let heard = Heard::default();
    let told = heard.clone();
    std::thread::spawn(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(b"GET /events HTTP/1.0\r\nHost: docker\r\n\r\n").unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let Some(action @ ("start" | "die")) = event["Action"].as_str() else { continue };
            let id = event["Actor"]["ID"].as_str().unwrap().to_owned();
            told.lock().unwrap().entry((id, action == "die")).or_default().push(Instant::now());
        }
    });
    heard
}

/// Follows ours in a task that lasts as long as they do; times must increase, and each event must have its pod.
async fn follow_shim(case: &Case) -> (Heard, JoinHandle<()>) {
    let heard = Heard::default();
    let told = heard.clone();
    let mut events = case.cri.events().await.unwrap();
    let following = tokio::spawn(async move {
        let mut last = 0;
        while let Ok(Some(event)) = events.message().await {
            assert!(event.created_at > std::mem::replace(&mut last, event.created_at));
            assert!(event.pod_sandbox_status.is_some());
            let is_end = match event.container_event_type() {
                Kind::ContainerStartedEvent => false,
                Kind::ContainerStoppedEvent => true,
                _ => continue,
            };
            told.lock().unwrap().entry((event.container_id, is_end)).or_default().push(Instant::now());
        }
    });
    (heard, following)
}

async fn each_of_many_ends_is_told_once_and_soon(case: Case) {
    let pod = case.run_pod("many").await;
    let (engines, (ours, following)) = (follow_engine(case.lab.engine.socket()), follow_shim(&case).await);
    let mut ids = Vec::new();
    for number in 0..CONTAINERS {
        ids.push(case.start(&pod, &sleeper(&format!("c{number}"))).await);
    }
    let end = Instant::now() + ROUNDS;
    let workers = ids.iter().cloned().enumerate().map(|(number, id)| {
        let docker = case.lab.engine.docker.clone();
        // after SIGKILL, that memory was not wanting has to be known too
        let end_it = if number % 2 == 0 { "stop?t=1" } else { "kill?signal=KILL" };
        tokio::task::spawn_blocking(move || {
            let mut ends = 0;
            while Instant::now() < end {
                docker.json("POST", &format!("/containers/{id}/{end_it}"), &Value::Null);
                docker.json("POST", &format!("/containers/{id}/wait"), &Value::Null);
                ends += 1;
                docker.json("POST", &format!("/containers/{id}/start"), &Value::Null);
            }
            ends
        })
    });
    let ends: Vec<usize> = futures_util::future::join_all(workers).await.into_iter().map(Result::unwrap).collect();
    for (id, ends) in ids.iter().zip(&ends) {
        let told = |is_end| ours.lock().unwrap().get(&(id.clone(), is_end)).map_or(0, Vec::len);
        let all = async || (told(true) >= *ends && told(false) > *ends).then_some(());
        eventually("all is told", Duration::from_secs(10), all).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    following.abort();
    // one that has ended by itself has found something wrong, or was cut off
    assert!(following.await.unwrap_err().is_cancelled());
    let (engines, ours) = (engines.lock().unwrap(), ours.lock().unwrap());
    let mut lags = Vec::new();
    for (number, (id, ends)) in ids.iter().zip(&ends).enumerate() {
        let (stopped, started) = (&ours[&(id.clone(), true)], &ours[&(id.clone(), false)]);
        assert_eq!((stopped.len(), started.len()), (*ends, ends + 1), "container {number}");
        let died = &engines[&(id.clone(), true)];
        assert_eq!(died.len(), stopped.len(), "container {number}");
        lags.extend(died.iter().zip(stopped).map(|(engine, our)| our.saturating_duration_since(*engine)));
    }
    lags.sort_unstable();
    let (middle, late) = (lags[lags.len() / 2], lags[lags.len() * 99 / 100]);
    eprintln!(
        "{} ends, 0 lost, 0 doubled; after the engine's event: p50 {middle:?}, p99 {late:?}",
        ends.iter().sum::<usize>()
    );
    assert!(middle < LAG, "p50 {middle:?}, p99 {late:?}");
}

async fn what_a_pod_may_use_is_kept_across_our_restart(case: Case) {
    let linux = |cpu_quota, memory_limit_in_bytes| {
        Some(cri::LinuxContainerResources { cpu_quota, memory_limit_in_bytes, ..Default::default() })
    };
    let (plain, mut config) = (case.run_pod("plain").await, case.pod("resized"));
    let given = config.linux.as_mut().unwrap();
    (given.overhead, given.resources) = (linux(0, 1 << 20), linux(20_000, 32 << 20));
    let pod = case.run(config).await;
    let request = cri::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.id.clone(),
        overhead: linux(0, 2 << 20),
        resources: linux(50_000, 64 << 20),
    };
    let told = async |pod: &Pod| {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
        let answer = case.cri.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
        serde_json::from_str::<Value>(&answer.info["info"]).unwrap()["podResources"].clone()
    };
    let told_after_a_kill = async || {
        case.lab.shim.kill();
        case.lab.shim.start_again();
        eventually("it is back", Duration::from_secs(20), async || case.cri.pod_status(&pod.id).await.ok()).await;
        told(&pod).await
    };
    let first = told(&pod).await;
    assert_eq!(
        (&first["resources"]["cpu_quota"], &first["overhead"]["memory_limit_in_bytes"]),
        (&json!(20_000), &json!(1 << 20))
    );
    assert_eq!(told(&plain).await, Value::Null, "nobody has said what it may use");
    assert_eq!(told_after_a_kill().await, first);
    case.cri.runtime().update_pod_sandbox_resources(request.clone()).await.unwrap();
    let updated = told(&pod).await;
    assert_eq!(
        (&updated["resources"]["cpu_quota"], &updated["overhead"]["memory_limit_in_bytes"]),
        (&json!(50_000), &json!(2 << 20))
    );
    assert_eq!(told_after_a_kill().await, updated);
    case.cri.remove_pod(&pod.id).await.unwrap();
    let gone = case.cri.runtime().update_pod_sandbox_resources(request).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    let arguments = case.lab.shim.arguments();
    let root = arguments.iter().find_map(|flag| flag.strip_prefix("--root-directory=")).unwrap();
    assert_eq!(std::fs::read_dir(PathBuf::from(root).join("resources")).unwrap().count(), 0);
}
