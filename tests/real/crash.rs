//! What kills: dockershim at any time, engines that go and come. Nothing is lost, nothing is made twice, nothing untrue is told.

use std::collections::HashSet;
use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;
use tonic::Code;

use crate::lab::{Case, Stage, by_uid, eventually, lines, runtime_ready, sh, sleeper, stubborn, trials};
use crate::support::engine::Options;
use crate::support::shim;

pub(crate) fn trials() -> Vec<Trial> {
    let own = Stage::Own(Options::default());
    let mut all = trials![own;
        a_killed_dockershim_comes_back_with_everything,
        killed_in_the_middle_of_runs_it_makes_no_second_pod,
        killed_in_the_middle_of_a_stop_it_can_be_stopped_again,
        an_engine_that_is_not_there_at_the_start_is_waited_for,
        an_engine_that_stops_is_told_and_its_containers_have_ended,
    ];
    all.extend(trials![Stage::Own(Options { live_restore: true, ..Options::default() });
        pods_outlive_an_engine_that_restores_them,
        a_killed_engine_comes_back_unnoticed_by_pods,
    ]);
    all.extend(trials![Stage::Shared; a_second_dockershim_on_the_same_state_is_refused]);
    all
}

/// The kubelet's patience: it asks again for as long.
const SOON: Duration = Duration::from_secs(20);

async fn a_killed_dockershim_comes_back_with_everything(case: Case) {
    let pod = case.run_pod("survivor").await;
    let writer = sh("writer", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.005; done");
    let running = case.start(&pod, &writer).await;
    let created = case.create(&pod, &sleeper("created")).await;
    let short = case.start(&pod, &sh("short", "sleep 1; exit 9")).await;
    let before = case.cri.pod_status(&pod.id).await.unwrap();
    case.lab.shim.kill();
    // one ends and the other writes on while nobody looks
    tokio::time::sleep(Duration::from_millis(1500)).await;
    case.lab.shim.start_again();
    runtime_ready(&case.cri, true).await;
    assert_eq!(case.cri.pod_status(&pod.id).await.unwrap(), before);
    assert_eq!(case.cri.status(&running).await.unwrap().state(), cri::ContainerState::ContainerRunning);
    assert_eq!(case.cri.status(&created).await.unwrap().state(), cri::ContainerState::ContainerCreated);
    let ended = case.exited(&short).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (9, "Error"));
    assert_eq!(case.output(&running, "echo alive").await, "alive\n");
    case.cri.start(&created).await.unwrap();
    case.cri.stop(&running, 0).await.unwrap();
    let log = std::fs::read_to_string(pod.log(&writer)).unwrap();
    for (number, row) in lines(&log).iter().enumerate() {
        assert_eq!(row.2, number.to_string(), "no line is lost and none comes twice");
    }
}

async fn killed_in_the_middle_of_runs_it_makes_no_second_pod(case: Case) {
    let config = case.pod("restless");
    for after_ms in [5, 20, 40, 80, 160, 320] {
        let (cri, asked) = (case.cri.clone(), config.clone());
        let running = tokio::spawn(async move { cri.run_pod(&asked).await });
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        case.lab.shim.kill();
        let _ = running.await.unwrap();
        case.lab.shim.start_again();
    }
    let again = || async { case.cri.run_pod(&config).await.ok() };
    let id = eventually("the pod runs", SOON, again).await;
    let pods = case.cri.list_pods(by_uid(&case.uid)).await.unwrap();
    assert_eq!(pods.iter().map(|pod| pod.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    let names: Vec<_> = case.lab.engine.docker.containers();
    assert_eq!(names.len(), 1, "{names:?}");
    let status = case.cri.pod_status(&id).await.unwrap();
    assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
    assert!(!status.network.unwrap().ip.is_empty());
}

async fn killed_in_the_middle_of_a_stop_it_can_be_stopped_again(case: Case) {
    let pod = case.run_pod("stopped").await;
    let id = case.start(&pod, &stubborn("main")).await;
    let (cri, slow) = (case.cri.clone(), id.clone());
    let stopping = tokio::spawn(async move { cri.stop(&slow, 600).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    case.lab.shim.kill();
    let _ = stopping.await.unwrap();
    case.lab.shim.start_again();
    runtime_ready(&case.cri, true).await;
    case.cri.stop(&id, 1).await.unwrap();
    assert_eq!(case.cri.status(&id).await.unwrap().exit_code, 137);
    case.cri.remove_pod(&pod.id).await.unwrap();
    assert!(case.lab.engine.docker.containers().is_empty());
}

async fn an_engine_that_is_not_there_at_the_start_is_waited_for(case: Case) {
    case.lab.shim.stop();
    case.lab.engine.stop_dockerd();
    case.lab.shim.start_again();
    let message = runtime_ready(&case.cri, false).await;
    assert!(!message.is_empty());
    let refused = case.cri.run_pod(&case.pod("early")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{}", refused.message());
    let refused = case.cri.list_pods(cri::PodSandboxFilter::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{}", refused.message());
    case.lab.engine.start_dockerd();
    runtime_ready(&case.cri, true).await;
    let pod = case.run_pod("late").await;
    case.start(&pod, &sleeper("main")).await;
    let version = case.cri.runtime().version(cri::VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("docker", "v1"));
    assert!(version.runtime_version.starts_with(|first: char| first.is_ascii_digit()), "{version:?}");
}

async fn an_engine_that_stops_is_told_and_its_containers_have_ended(case: Case) {
    let pod = case.run_pod("ended").await;
    let id = case.start(&pod, &sleeper("main")).await;
    case.lab.engine.stop_dockerd();
    runtime_ready(&case.cri, false).await;
    assert_eq!(case.cri.status(&id).await.unwrap_err().code(), Code::Unavailable);
    case.lab.engine.start_dockerd();
    runtime_ready(&case.cri, true).await;
    assert_eq!(case.exited(&id).await.id, id);
    assert_eq!(case.cri.pod_status(&pod.id).await.unwrap().state(), cri::PodSandboxState::SandboxNotready);
    let mut next = pod.config.clone();
    next.metadata.as_mut().unwrap().attempt = 1;
    case.run(next).await;
}

async fn pods_outlive_an_engine_that_restores_them(case: Case) {
    outlives(&case, true).await;
}

async fn a_killed_engine_comes_back_unnoticed_by_pods(case: Case) {
    outlives(&case, false).await;
}

/// An engine with live-restore goes, one container ends meanwhile, the engine comes back.
async fn outlives(case: &Case, politely: bool) {
    let pod = case.run_pod("outlives").await;
    let running = case.start(&pod, &sleeper("main")).await;
    let short = case.start(&pod, &sh("short", "sleep 2; exit 4")).await;
    let started_at = case.cri.status(&running).await.unwrap().started_at;
    if politely {
        case.lab.engine.stop_dockerd()
    } else {
        case.lab.engine.kill_dockerd()
    }
    runtime_ready(&case.cri, false).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    case.lab.engine.start_dockerd();
    runtime_ready(&case.cri, true).await;
    let status = case.cri.status(&running).await.unwrap();
    assert_eq!((status.state(), status.started_at), (cri::ContainerState::ContainerRunning, started_at));
    assert_eq!(case.cri.pod_status(&pod.id).await.unwrap().state(), cri::PodSandboxState::SandboxReady);
    assert_eq!(case.exited(&short).await.id, short);
    assert_eq!(case.output(&running, "echo alive").await, "alive\n");
    let ids: HashSet<_> =
        case.cri.list(cri::ContainerFilter::default()).await.unwrap().into_iter().map(|item| item.id).collect();
    assert_eq!(ids, HashSet::from([running, short]));
}

async fn a_second_dockershim_on_the_same_state_is_refused(case: Case) {
    let socket = format!("--container-runtime-endpoint=unix://{}", case.dir.join("second.sock").display());
    let first = case.lab.shim.arguments().iter().filter(|flag| !flag.starts_with("--container-runtime-endpoint"));
    let flags: Vec<_> = first.map(String::as_str).chain([socket.as_str()]).collect();
    let ended = shim::run(&flags);
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let holder = case.lab.shim.pid().unwrap().to_string();
    assert!(said.contains("is used by another dockershim") && said.contains(&holder), "{said}");
    assert!(!case.dir.join("second.sock").exists());
}
