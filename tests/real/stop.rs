//! Grace periods: containers end side by side, and a shorter grace overtakes a longer one.

use std::time::{Duration, Instant};

use dockershim::cri;
use futures_util::future::join_all;
use libtest_mimic::Trial;

use crate::lab::{Case, Stage, by_uid, eventually, sh, sleeper, stubborn, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        a_container_that_listens_ends_long_before_its_grace,
        a_container_that_ignores_the_signal_is_killed_after_its_grace,
        no_grace_kills_at_once,
        three_stubborn_containers_stop_in_one_grace_period,
        stopping_a_pod_ends_its_stubborn_containers_together,
        a_shorter_grace_overtakes_a_longer_one,
        stopping_the_pod_overtakes_a_long_grace,
        removing_a_container_overtakes_a_long_grace,
        the_signal_that_was_asked_for_arrives_and_is_told,
    ]
}

/// How long something takes.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let done = work.await;
    (done, start.elapsed())
}

#[track_caller]
fn within(took: Duration, least_ms: u64, most_ms: u64) {
    assert!((least_ms..=most_ms).contains(&u64::try_from(took.as_millis()).unwrap()), "took {took:?}");
}

async fn a_container_that_listens_ends_long_before_its_grace(case: Case) {
    let pod = case.run_pod("polite").await;
    let id = case.start(&pod, &sleeper("main")).await;
    let (stopped, took) = timed(case.cri.stop(&id, 30)).await;
    stopped.unwrap();
    within(took, 0, 5000);
    let status = case.cri.status(&id).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (cri::ContainerState::ContainerExited, 0));
}

async fn a_container_that_ignores_the_signal_is_killed_after_its_grace(case: Case) {
    let pod = case.run_pod("rude").await;
    let id = case.start(&pod, &stubborn("main")).await;
    let (stopped, took) = timed(case.cri.stop(&id, 2)).await;
    stopped.unwrap();
    within(took, 1900, 7000);
    let status = case.cri.status(&id).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
}

async fn no_grace_kills_at_once(case: Case) {
    let pod = case.run_pod("now").await;
    let id = case.start(&pod, &stubborn("main")).await;
    let (stopped, took) = timed(case.cri.stop(&id, 0)).await;
    stopped.unwrap();
    within(took, 0, 5000);
}

async fn three_stubborn(case: &Case, name: &str) -> (crate::lab::Pod, Vec<String>) {
    let pod = case.run_pod(name).await;
    let configs = ["one", "two", "three"].map(stubborn);
    let ids = join_all(configs.iter().map(|config| case.start(&pod, config))).await;
    (pod, ids)
}

async fn three_stubborn_containers_stop_in_one_grace_period(case: Case) {
    let (_, ids) = three_stubborn(&case, "three").await;
    let (stopped, took) = timed(join_all(ids.iter().map(|id| case.cri.stop(id, 3)))).await;
    stopped.into_iter().for_each(Result::unwrap);
    within(took, 2900, 8000);
}

async fn stopping_a_pod_ends_its_stubborn_containers_together(case: Case) {
    let (pod, ids) = three_stubborn(&case, "pod").await;
    let (stopped, took) = timed(case.cri.stop_pod(&pod.id)).await;
    stopped.unwrap();
    // by force: they have had their grace, if they were to have any
    within(took, 0, 8000);
    for id in ids {
        assert_eq!(case.cri.status(&id).await.unwrap().state(), cri::ContainerState::ContainerExited);
    }
}

async fn a_shorter_grace_overtakes_a_longer_one(case: Case) {
    let pod = case.run_pod("overtaken").await;
    let id = case.start(&pod, &stubborn("main")).await;
    let (slow_cri, slow_id) = (case.cri.clone(), id.clone());
    let slow = tokio::spawn(async move { timed(slow_cri.stop(&slow_id, 600)).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (stopped, took) = timed(case.cri.stop(&id, 2)).await;
    stopped.unwrap();
    within(took, 1900, 7000);
    let (stopped, took) = slow.await.unwrap();
    stopped.unwrap();
    within(took, 2000, 8000);
}

async fn stopping_the_pod_overtakes_a_long_grace(case: Case) {
    let pod = case.run_pod("cut").await;
    let id = case.start(&pod, &stubborn("main")).await;
    let (slow_cri, slow_id) = (case.cri.clone(), id.clone());
    let slow = tokio::spawn(async move { slow_cri.stop(&slow_id, 600).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (stopped, took) = timed(case.cri.stop_pod(&pod.id)).await;
    stopped.unwrap();
    within(took, 0, 8000);
    tokio::time::timeout(Duration::from_secs(10), slow).await.unwrap().unwrap().unwrap();
}

async fn removing_a_container_overtakes_a_long_grace(case: Case) {
    let pod = case.run_pod("gone").await;
    let id = case.start(&pod, &sh("main", "trap '' TERM; sleep 3600")).await;
    let (slow_cri, slow_id) = (case.cri.clone(), id.clone());
    let slow = tokio::spawn(async move { slow_cri.stop(&slow_id, 600).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (removed, took) = timed(case.cri.remove(&id)).await;
    removed.unwrap();
    within(took, 0, 8000);
    tokio::time::timeout(Duration::from_secs(10), slow).await.unwrap().unwrap().unwrap();
    assert_eq!(case.cri.list_pods(by_uid(&case.uid)).await.unwrap().len(), 1);
}

/// And its number, which the container ends with.
const SIGNALS: [(cri::Signal, i32); 6] = [
    (cri::Signal::Sigusr1, 10),
    (cri::Signal::Sigterm, 15),
    (cri::Signal::Sigwinch, 28),
    (cri::Signal::Sigrtmin, 34),
    (cri::Signal::Sigrtminplus3, 37),
    (cri::Signal::Sigrtmaxminus1, 63),
];

pub(crate) async fn the_signal_that_was_asked_for_arrives_and_is_told(case: Case) {
    let pod = case.run_pod("signals").await;
    let numbers = SIGNALS.map(|(_, number)| number);
    let traps = numbers.map(|number| format!("trap 'exit {number}' {number};")).concat();
    for (signal, number) in SIGNALS {
        let config = cri::ContainerConfig {
            stop_signal: signal.into(),
            ..sh(&format!("on-{number}"), &format!("{traps} echo ready; while :; do sleep 3600 & wait $!; done"))
        };
        let id = case.start(&pod, &config).await;
        let ready = || async { std::fs::read_to_string(pod.log(&config)).unwrap().contains("ready").then_some(()) };
        eventually("the traps are set", Duration::from_secs(10), ready).await;
        let (stopped, took) = timed(case.cri.stop(&id, 30)).await;
        stopped.unwrap();
        within(took, 0, 5000);
        let status = case.cri.status(&id).await.unwrap();
        assert_eq!((status.stop_signal(), status.exit_code), (signal, number));
    }
}
