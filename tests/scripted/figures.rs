//! Figures of a running server: what Prometheus scrapes, and what `dockershim status` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use dockershim::figures::family::{self, Family, Kind};
use dockershim::status::{self, Form};
use serde_json::Value;
use tonic::Code;

use super::adapter;
use super::dockerd::DOCKER_20_10;
use super::script::Act;
use super::stage::{Stage, container, eventually, pod};

/// What only CNI plugins have.
const OF_PLUGINS: [&str; 2] = ["dockershim_cni_call_seconds", "dockershim_cni_failures"];

async fn stage(metrics: &str) -> Stage {
    let flag = format!("--metrics-address={metrics}");
    Stage::with(&[&flag], |dockerd| dockerd.start(DOCKER_20_10)).await.synced().await
}

fn temporary_socket(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("dss-{name}-{}.sock", std::process::id()));
    // one of an earlier process with that number
    let _ = std::fs::remove_file(&path);
    path
}

/// Asks, and gives the answer's head and body.
async fn ask(mut connection: impl Read + Write + Send + 'static, request: String) -> (String, String) {
    let asking = tokio::task::spawn_blocking(move || {
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = asking.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn scrape(socket: &Path, accept: &str) -> String {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let (head, body) = ask(UnixStream::connect(socket).unwrap(), request).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body
}

/// A value: name and labels, as they stand, to the value.
type Values = BTreeMap<(String, String), f64>;

/// Reads OpenMetrics as strictly as it is specified, as far as we use it: each family is described before its values, once; a value's
/// name is its family's with a suffix of its type; no value stands twice; a histogram's classes grow to the count; the end is told.
fn read_strictly(text: &str) -> (BTreeMap<String, String>, Values) {
    let (mut kinds, mut values) = (BTreeMap::new(), Values::new());
    let mut family = (String::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("the end is told");
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap();
            assert!(!kinds.contains_key(name), "{name} is described twice");
            family = (name.to_owned(), String::new());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family.0);
            family.1 = kind.to_owned();
            assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest));
            let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} is not in {family:?}"));
            let fits = match family.1.as_str() {
                "counter" => suffix == "_total",
                "gauge" => suffix.is_empty(),
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                other => panic!("{other}"),
            };
            assert!(fits, "{line} in {family:?}");
            let value: f64 = value.parse().unwrap();
            assert!(family.1 == "gauge" || value >= 0.0, "{line}");
            assert_eq!(values.insert((name.to_owned(), labels.to_owned()), value), None, "{line} stands twice");
        }
    }
    check_histograms(body);
    (kinds, values)
}

fn check_histograms(body: &str) {
    let (mut last, mut count) = ((f64::NEG_INFINITY, 0.0), 0.0);
    let mut seen = 0;
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        if series.split('{').next().unwrap().ends_with("_count") {
            (count, last) = (value, (f64::NEG_INFINITY, 0.0));
        } else if let Some((_, labels)) = series.split_once("_bucket{le=\"") {
            let bound = labels.split('"').next().unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            assert!(bound > last.0 && value >= last.1, "{line}");
            assert!(bound < f64::INFINITY || value == count, "{line}: {count}");
            last = (bound, value);
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

fn value(values: &Values, name: &str, labels: &str) -> f64 {
    values.get(&(name.to_owned(), labels.to_owned())).copied().unwrap_or_else(|| panic!("{name} {labels}: {values:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_every_figure_in_order() {
    let socket = temporary_socket("scrape");
    let stage = stage(&format!("unix://{}", socket.display())).await;
    let (_, id) = stage.run_container("a").await;
    stage.dockerd.once("POST", "/containers/*/start", Act::refuse(500, "no space left on device"));
    assert_eq!(stage.cri.run_pod(&pod("b")).await.unwrap_err().code(), Code::Internal);
    stage.cri.stop(&id, 1).await.unwrap();
    stage.until(5, &id, dockershim::cri::ContainerState::ContainerExited).await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let (kinds, values) = read_strictly(&scrape(&socket, "application/openmetrics-text;version=1.0.0").await);
    let listed: BTreeMap<String, String> = family::ALL
        .iter()
        .map(|family| (family.name.to_owned(), format!("{:?}", family.kind).to_lowercase()))
        .collect();
    assert_eq!(kinds, listed);
    let told: BTreeSet<&str> = values.keys().map(|(name, _)| name.as_str()).collect();
    let suffix = |family: &Family| match family.kind {
        Kind::Counter => "_total",
        Kind::Gauge => "",
        Kind::Histogram => "_count",
    };
    for family in family::ALL.iter().filter(|family| !OF_PLUGINS.contains(&family.name)) {
        assert!(told.contains(format!("{}{}", family.name, suffix(family)).as_str()), "{} has no value", family.name);
    }
    assert!(!values.keys().any(|(_, labels)| labels.contains("call=\"other\"")), "{values:#?}");
    assert_eq!(value(&values, "dockershim_rpc_seconds_count", "rpc=\"RunPodSandbox\"}"), 2.0);
    let refused = "rpc=\"RunPodSandbox\",code=\"Internal\"}";
    assert_eq!(value(&values, "dockershim_rpc_failures_total", refused), 1.0);
    let failed = "call=\"POST /containers/{id}/start\",cause=\"5xx\"}";
    assert_eq!(value(&values, "dockershim_engine_failures_total", failed), 1.0);
    assert_eq!(value(&values, "dockershim_containers", "state=\"exited\"}"), 1.0);
    assert!(value(&values, "process_resident_memory_bytes", "") > 1e6);
    assert!(value(&values, "dockershim_event_lag_seconds_sum", "") < 60.0);
    stage.end().await;
    assert!(!socket.exists(), "it is removed at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_is_counted_too() {
    let socket = temporary_socket("given-up");
    let stage = stage(&format!("unix://{}", socket.display())).await;
    stage.dockerd.always("GET", "/containers/json", Act::Hang);
    let given_up = "call=\"GET /containers/json\",cause=\"given_up\"}";
    let told = async || scrape(&socket, "*/*").await.contains(given_up).then_some(());
    eventually("the heartbeat's listing is given up", 20, told).await;
    stage.dockerd.as_usual("GET", "/containers/json");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_only_the_figures_are_there_and_only_to_be_read() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = free.local_addr().unwrap();
    drop(free);
    let stage = stage(&address.to_string()).await;
    let asked = async |line: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        ask(TcpStream::connect(address).unwrap(), request).await
    };
    let (head, body) = asked("GET /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\ndockershim_index_synced 1\n") && !body.contains("# EOF"), "{body}");
    for (line, status) in
        [("GET /", "404"), ("GET /metrics/x", "404"), ("POST /metrics", "405"), ("DELETE /metrics", "405")]
    {
        let (head, body) = asked(line).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && body.contains(status), "{line}: {head} {body}");
    }
    let garbage = ask(TcpStream::connect(address).unwrap(), "\0\0\0\r\n\r\n".to_owned()).await;
    assert!(garbage.0.starts_with("HTTP/1.1 400 "), "{garbage:?}");
    stage.end().await;
}

/// Runs `dockershim status` in this process: whether it says ready, and what it prints.
async fn show(socket: &Path, form: Form) -> (bool, String) {
    let mut out = Vec::new();
    let ready = status::show(socket, form, &mut out).await.unwrap();
    (ready, String::from_utf8(out).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_what_is_there_and_what_has_failed() {
    let stage = Stage::new().await;
    let (sandbox, _) = stage.run_container("web").await;
    let id = stage.cri.create(&sandbox, &container("extra"), &pod("web")).await.unwrap();
    for _ in 0..2 {
        stage.dockerd.once("POST", "/containers/*/start", Act::refuse(500, "no space left on device"));
        assert_eq!(stage.cri.start(&id).await.unwrap_err().code(), Code::Internal);
    }
    let (ready, screen) = show(&stage.socket(), Form::Screen).await;
    assert!(ready, "{screen}");
    for line in [
        ": ready",
        "engine          Docker 20.10.24, API 1.41, overlay2, cgroup v2 by cgroupfs",
        "pods            1 ready",
        "in step with the engine",
        ": Internal, 2 times",
        "StartContainer of default/web (extra)",
        "no space left on device",
    ] {
        assert!(screen.contains(line), "{line}: {screen}");
    }
    let (ready, json) = show(&stage.socket(), Form::Json).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(ready && json["ready"] == true && json["index"]["synced"] == true, "{json:#}");
    assert_eq!(json["failures"][0]["pod"], "default/web");
    assert_eq!(json["failures"][0]["times"], 2);
    assert!(json["engine"]["writes"]["p50Ms"].as_f64().unwrap() > 0.0, "{json:#}");
    assert!(json["config"]["sandboxImage"].is_string());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_no_where_nobody_answers_or_is_ready() {
    let nobody = temporary_socket("nobody");
    let (ready, screen) = show(&nobody, Form::Screen).await;
    assert!(!ready && screen.contains("can't be asked") && screen.contains("is dockershim running?"), "{screen}");
    let (ready, json) = show(&nobody, Form::Json).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(!ready && json["ready"] == false && json["error"].is_string());
    let stranger = temporary_socket("stranger");
    adapter::serve(&stranger);
    let (ready, screen) = show(&stranger, Form::Screen).await;
    assert!(!ready && screen.contains("another runtime"), "{screen}");
    // its engine is not there
    let stage = Stage::with(&[], |_| ()).await;
    let (ready, screen) = show(&stage.socket(), Form::Screen).await;
    assert!(!ready && screen.contains(": NOT READY") && screen.contains("engine          not reached yet"), "{screen}");
    assert!(
        screen.contains("RuntimeReady    NO, DockerDaemonNotReady: the engine has not been listed yet"),
        "{screen}"
    );
    stage.end().await;
}
