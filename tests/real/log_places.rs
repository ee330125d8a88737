//! Where logs are, and where they can't be: directories that are missing, read-only or full, links, other log drivers, removal.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tonic::Code;

use crate::lab::{Case, Stage, eventually, lines, runtime_ready, sh, sleeper, trials};
use crate::support::engine::Options;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Shared;
        a_log_goes_with_its_container_and_rotated_ones_stay,
        a_missing_directory_is_told_and_may_come_later,
        what_is_no_place_for_a_log_is_told,
        a_full_disk_stops_one_log_at_a_line_and_no_other,
        an_end_is_told_in_time_though_its_log_is_stuck,
        a_container_with_another_log_driver_has_no_log_to_reopen,
    ];
    all.extend(trials![Stage::With(&["--log-format=docker"]); in_dockers_format_the_log_is_a_link]);
    all.extend(trials![Stage::Own(Options::default()); a_link_that_was_left_becomes_a_log_that_rotates]);
    all
}

/// A container that counts up.
fn counter() -> cri::ContainerConfig {
    sh("main", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done")
}

fn count_of(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().count()
}

async fn grown(log: &Path, least: usize) {
    let look = || async { (count_of(log) >= least).then_some(()) };
    eventually("there are lines", Duration::from_secs(20), look).await;
}

async fn a_log_goes_with_its_container_and_rotated_ones_stay(case: Case) {
    let pod = case.run_pod("removed").await;
    let id = case.start(&pod, &counter()).await;
    let log = pod.log(&counter());
    let rotated = log.with_extension("log.20260102-030405");
    fs::rename(&log, &rotated).unwrap();
    case.cri.reopen_log(&id).await.unwrap();
    let beside = sleeper("beside");
    case.start(&pod, &beside).await;
    case.cri.remove(&id).await.unwrap();
    assert!(!log.exists() && rotated.exists() && pod.log(&beside).exists());
    case.cri.remove_pod(&pod.id).await.unwrap();
    assert!(!pod.log(&beside).exists(), "a pod's containers are removed with it, and their logs");
}

/// The message with which a start is refused because of the log.
async fn refused(case: &Case, id: &str) -> String {
    let status = case.cri.start(id).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{}", status.message());
    assert_eq!(case.cri.status(id).await.unwrap().state(), cri::ContainerState::ContainerCreated);
    status.message().to_owned()
}

async fn a_missing_directory_is_told_and_may_come_later(case: Case) {
    let pod = case.run_pod("missing").await;
    let id = case.create(&pod, &counter()).await;
    fs::remove_dir_all(&pod.config.log_directory).unwrap();
    let said = refused(&case, &id).await;
    let log = pod.log(&counter());
    assert!(said.contains(&log.display().to_string()) && said.contains("No such file"), "{said}");
    fs::create_dir_all(&pod.config.log_directory).unwrap();
    case.cri.start(&id).await.unwrap();
    // gone while it runs: the kubelet asks for the log to be reopened, and is told why that can't be
    fs::remove_dir_all(&pod.config.log_directory).unwrap();
    let said = case.cri.reopen_log(&id).await.unwrap_err();
    assert!(said.message().contains(&log.display().to_string()), "{}", said.message());
    fs::create_dir_all(&pod.config.log_directory).unwrap();
    case.cri.reopen_log(&id).await.unwrap();
    grown(&log, 10).await;
}

async fn what_is_no_place_for_a_log_is_told(case: Case) {
    let pod = case.run_pod("places").await;
    let outside = case.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    for (name, making) in [("directory", "mkdir"), ("fifo", "mkfifo"), ("device", "mknod")] {
        let config = sleeper(name);
        let id = case.create(&pod, &config).await;
        let making = format!("{making} {} {}", pod.log(&config).display(), if name == "device" { "c 1 3" } else { "" });
        assert!(Command::new("sh").args(["-c", &making]).status().unwrap().success());
        let said = refused(&case, &id).await;
        assert!(said.contains(&format!("{name}/0.log")), "{said}");
        case.cri.remove(&id).await.unwrap();
        assert!(pod.log(&config).exists(), "what isn't ours is left alone");
    }
    let config = sleeper("linked");
    let id = case.create(&pod, &config).await;
    fs::remove_dir(pod.log(&config).parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&outside, pod.log(&config).parent().unwrap()).unwrap();
    refused(&case, &id).await;
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// A small file system of its own.
fn mount(directory: &Path, options: &str) {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory).status();
    assert!(mounted.unwrap().success());
}

async fn a_full_disk_stops_one_log_at_a_line_and_no_other(case: Case) {
    let pod = case.run_pod("full").await;
    let config = sh("main", "for i in $(seq 1 5000); do echo line $i; done; exec sleep 3600");
    let id = case.create(&pod, &config).await;
    let directory = Path::new(&pod.config.log_directory);
    mount(directory, "size=64k,ro");
    assert!(refused(&case, &id).await.contains("Read-only file system"));
    mount(directory, "size=64k,remount,rw");
    case.cri.start(&id).await.unwrap();
    let log = pod.log(&config);
    let full = || async { (fs::metadata(&log).ok()?.len() > 60_000).then_some(()) };
    eventually("the disk is full", Duration::from_secs(20), full).await;
    let other = case.run_pod("beside").await;
    let beside = case.start(&other, &counter()).await;
    grown(&other.log(&counter()), 50).await;
    assert!(fs::read_to_string(&log).unwrap().ends_with('\n'), "it stops at a line's end");
    assert!(lines(&fs::read_to_string(&log).unwrap()).len() < 5000);
    mount(directory, "size=10m,remount,rw");
    grown(&log, 5000).await;
    for (at, row) in lines(&fs::read_to_string(&log).unwrap()).iter().enumerate() {
        assert_eq!(row.2, format!("line {}", at + 1));
    }
    case.cri.stop(&beside, 0).await.unwrap();
    case.cri.remove_pod(&pod.id).await.unwrap();
    assert!(Command::new("umount").arg(directory).status().unwrap().success());
}

async fn an_end_is_told_in_time_though_its_log_is_stuck(case: Case) {
    let pod = case.run_pod("stuck").await;
    let config = sh("main", "echo first; exec sleep 3600");
    let id = case.start(&pod, &config).await;
    grown(&pod.log(&config), 1).await;
    let spool = case.lab.engine.docker.get(&format!("/containers/{id}/json"))["LogPath"].as_str().unwrap().to_owned();
    let rotated = format!("{spool}.1");
    // after a rotation a pipe comes, which nobody writes to: whoever opens it waits
    fs::rename(&spool, &rotated).unwrap();
    assert!(Command::new("mkfifo").arg(&spool).status().unwrap().success());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    case.cri.stop(&id, 0).await.unwrap();
    let took = began.elapsed();
    let state = case.cri.status(&id).await.unwrap().state();
    // lets it go, before anything can fail: others use this dockershim too
    drop(fs::File::options().read(true).write(true).open(&spool).unwrap());
    fs::rename(&rotated, &spool).unwrap();
    assert_eq!(state, cri::ContainerState::ContainerExited);
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&took), "{took:?}");
    case.cri.remove(&id).await.unwrap();
}

/// Makes beside dockershim what another adapter would have left: the same container, with another log driver.
fn with_driver(case: &Case, id: &str, driver: &str) -> String {
    let docker = &case.lab.engine.docker;
    let made = docker.get(&format!("/containers/{id}/json"));
    let mut body = made["Config"].clone();
    body["Hostname"] = json!("");
    body["HostConfig"] = made["HostConfig"].clone();
    body["HostConfig"]["LogConfig"] = json!({ "Type": driver, "Config": {} });
    let name = made["Name"].as_str().unwrap().trim_start_matches('/').strip_suffix("_0").unwrap();
    docker.json("POST", &format!("/containers/create?name={name}_1"), &body)["Id"].as_str().unwrap().to_owned()
}

async fn a_container_with_another_log_driver_has_no_log_to_reopen(case: Case) {
    let pod = case.run_pod("driver").await;
    let pattern = case.create(&pod, &sh("main", "echo hidden; exec sleep 3600")).await;
    let id = with_driver(&case, &pattern, "local");
    let known = || async { case.cri.status(&id).await.ok() };
    eventually("it is known", Duration::from_secs(40), known).await;
    case.cri.start(&id).await.unwrap();
    let said = case.cri.reopen_log(&id).await.unwrap_err();
    assert_eq!(said.code(), Code::FailedPrecondition);
    assert!(said.message().contains("another log driver"), "{}", said.message());
    case.cri.stop(&id, 0).await.unwrap();
}

async fn in_dockers_format_the_log_is_a_link(case: Case) {
    let pod = case.run_pod("linked").await;
    let config = sh("main", "echo as docker writes it; exec sleep 3600");
    let id = case.start(&pod, &config).await;
    let log = pod.log(&config);
    assert!(fs::symlink_metadata(&log).unwrap().is_symlink());
    let look = || async { (count_of(&log) == 1).then(|| fs::read_to_string(&log).unwrap()) };
    let line: Value =
        serde_json::from_str(&eventually("the line is there", Duration::from_secs(5), look).await).unwrap();
    assert_eq!(line["log"], "as docker writes it\n");
    let said = case.cri.reopen_log(&id).await.unwrap_err();
    assert_eq!(said.code(), Code::FailedPrecondition);
    assert!(said.message().contains("--log-format docker"), "{}", said.message());
    case.lab.shim.kill();
    case.lab.shim.start_again();
    runtime_ready(&case.lab.shim.cri(), true).await;
    assert!(fs::symlink_metadata(&log).unwrap().is_symlink());
    let cri = case.lab.shim.cri();
    cri.stop(&id, 0).await.unwrap();
    cri.remove(&id).await.unwrap();
    assert!(fs::symlink_metadata(&log).is_err(), "the link goes with the container");
}

async fn a_link_that_was_left_becomes_a_log_that_rotates(case: Case) {
    let pod = case.run_pod("taken-over").await;
    let id = case.start(&pod, &counter()).await;
    let log = pod.log(&counter());
    grown(&log, 20).await;
    case.lab.shim.kill();
    let spool = case.lab.engine.docker.get(&format!("/containers/{id}/json"))["LogPath"].as_str().unwrap().to_owned();
    let state = case.lab.shim.arguments().iter().find_map(|flag| flag.strip_prefix("--root-directory=")).unwrap();
    fs::remove_file(Path::new(state).join("logs").join(&id)).unwrap();
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&spool, &log).unwrap();
    case.lab.shim.start_again();
    let cri = case.lab.shim.cri();
    runtime_ready(&cri, true).await;
    let is_file = || async { fs::symlink_metadata(&log).unwrap().is_file().then_some(()) };
    eventually("the link has become a file", Duration::from_secs(10), is_file).await;
    let rotated = log.with_extension("log.1");
    fs::rename(&log, &rotated).unwrap();
    cri.reopen_log(&id).await.unwrap();
    grown(&log, 20).await;
    cri.stop(&id, 0).await.unwrap();
    let whole = [&rotated, &log].map(|file| fs::read_to_string(file).unwrap()).concat();
    for (number, row) in lines(&whole).iter().enumerate() {
        assert_eq!(row.2, number.to_string());
    }
}
