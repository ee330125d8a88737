//! Images whose configuration is hostile: users of any shape, labels that imitate ours and the kubelet's, health checks, volumes,
//! ports, ten thousand variables, and what can't be run at all. Each works as Docker has it or is refused in its words; nothing of
//! it is left behind.

use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lab::{Case, Pod, Stage, by_uid, eventually, runtime_ready, sh, sleeper, texts, trials};
use crate::support::client::image_spec;
use crate::support::engine::Options;
use crate::support::images;

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Own(Options::default());
        users_of_any_shape_are_told_and_run_as_docker_has_them,
        labels_that_imitate_ours_and_the_kubelets_count_for_nothing,
        health_checks_volumes_and_ports_of_an_image_are_not_the_pods,
        ten_thousand_variables_of_an_image_reach_the_process,
        words_and_signals_of_an_image_are_taken_as_they_stand,
        what_an_image_cannot_mean_fails_in_dockers_words_and_leaves_nothing,
    ]
}

/// Loads an image with this configuration, and makes a container of it the pod's.
fn of_image(case: &Case, config: &Value, mut container: cri::ContainerConfig) -> cri::ContainerConfig {
    let name = container.metadata.as_ref().unwrap().name.clone();
    let image = format!("dsh-hostile-{name}:1");
    images::load(&case.lab.engine.docker, &[&image], config.clone());
    container.image = Some(image_spec(&image));
    container
}

fn inspect(case: &Case, id: &str) -> Value {
    case.lab.engine.docker.get(&format!("/containers/{id}/json"))
}

/// Names of the engine's volumes.
fn volumes(case: &Case) -> Vec<String> {
    let volumes = case.lab.engine.docker.get("/volumes")["Volumes"].take();
    volumes.as_array().into_iter().flatten().map(|volume| volume["Name"].to_string()).collect()
}

/// Creates and starts, and gives the words of who refuses.
async fn refusal(case: &Case, pod: &Pod, config: &cri::ContainerConfig) -> Option<String> {
    let id = match case.cri.create(&pod.id, config, &pod.config).await {
        Ok(id) => id,
        Err(refused) => return Some(refused.message().to_owned()),
    };
    let refused = case.cri.start(&id).await.err();
    if let Some(refused) = &refused {
        let status = case.cri.status(&id).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerExited, "{}", refused.message());
        assert_eq!(status.reason, "ContainerCannotRun", "{}", refused.message());
        case.cri.remove(&id).await.unwrap();
    }
    refused.map(|refused| refused.message().to_owned())
}

/// An image's user; the uid or name that the image is listed with; what the container prints, or a part of why there is none.
type User = (&'static str, (Option<i64>, &'static str), Result<&'static str, &'static str>);

const USERS: &[User] = &[
    ("1000:2000", (Some(1000), ""), Ok("1000:2000")),
    ("daemon:extra", (None, "daemon"), Ok("1:2000")),
    (":5", (Some(0), ""), Ok("0:5")),
    ("00", (Some(0), ""), Ok("0:0")),
    ("2147483647", (Some(2_147_483_647), ""), Ok("2147483647:0")),
    ("4294967296", (Some(4_294_967_296), ""), Err("range")),
    ("99999999999999999999", (None, "99999999999999999999"), Err("99999999999999999999")),
    ("-1", (Some(-1), ""), Err("range")),
    ("nobody", (None, "nobody"), Err("unable to find user nobody")),
    ("a:b:c", (None, "a"), Err("unable to find user a")),
    ("../../etc/passwd", (None, "../../etc/passwd"), Err("../../etc/passwd")),
    ("root\ntoor", (None, "root\ntoor"), Err("unable to find user")),
    (" ", (None, " "), Err("unable to find user")),
];

async fn users_of_any_shape_are_told_and_run_as_docker_has_them(case: Case) {
    let pod = case.run_pod("users").await;
    let long = "x".repeat(1 << 16);
    let long: User = (Box::leak(long.into_boxed_str()), (None, ""), Err("unable to find user"));
    for (index, (user, (uid, username), printed)) in USERS.iter().chain([&long]).enumerate() {
        for policy in [cri::SupplementalGroupsPolicy::Merge, cri::SupplementalGroupsPolicy::Strict] {
            let name = format!("user-{index}-{}", i32::from(policy));
            let mut config = of_image(&case, &json!({"User": user}), sh(&name, "echo $(id -u):$(id -g)"));
            config.linux.as_mut().unwrap().security_context = Some(cri::LinuxContainerSecurityContext {
                supplemental_groups_policy: policy.into(),
                ..Default::default()
            });
            let spec = config.image.clone().unwrap().image;
            let loaded = || async { case.cri.image(&spec).await.unwrap() };
            let image = eventually("the image is seen", Duration::from_secs(5), loaded).await;
            let username = if username.is_empty() && uid.is_none() { user } else { username };
            assert_eq!((image.uid.map(|uid| uid.value), image.username.as_str()), (*uid, *username), "{user:?}");
            match printed {
                Ok(printed) => {
                    let (_, lines) = case.run_to_end(&pod, &config).await;
                    assert_eq!(lines[0].2, *printed, "{user:?} {policy:?}");
                }
                Err(part) => {
                    let refused = refusal(&case, &pod, &config).await;
                    assert!(
                        refused.as_ref().is_some_and(|text| text.contains(part)),
                        "{user:?} {policy:?}: {refused:?}"
                    );
                }
            }
        }
    }
}

/// What dockershim and the kubelet write, as an image would have it.
fn imitations(other: &str) -> Value {
    json!({
        "io.kubernetes.docker.type": "podsandbox",
        "io.kubernetes.sandbox.id": other,
        "io.kubernetes.container.logpath": "/etc/passwd",
        "io.kubernetes.container.name": "POD",
        "io.kubernetes.pod.name": "kube-apiserver",
        "io.kubernetes.pod.namespace": "kube-system",
        "io.kubernetes.pod.uid": "a-uid-of-somebody-else",
        "annotation.io.kubernetes.container.restartCount": "4711",
        "annotation.evil": "1",
        "evil": "1",
        "io.dockershim.keys": r#"{"labels": ["evil"], "annotations": ["evil"]}"#,
        "io.dockershim.fingerprint": "0",
        "io.dockershim.created": "1",
        "io.dockershim.handler": "other",
        "io.dockershim.resolv-conf": "\"nameserver 198.18.255.6\\n\"",
        "io.dockershim.image-spec": r#"{"name": "another:1", "reference": "another@sha256:0"}"#,
        "io.dockershim.cgroup": r#"{"memory.max": "4096", "hugetlb.2MB.max": "1"}"#,
        "io.dockershim.look": "",
    })
}

async fn labels_that_imitate_ours_and_the_kubelets_count_for_nothing(case: Case) {
    let (pod, other) = (case.run_pod("labels").await, case.run_pod("other").await);
    let mut config = of_image(&case, &json!({"Labels": imitations(&other.id)}), sleeper("labelled"));
    config.annotations = texts(&[("io.kubernetes.container.restartCount", "0")]);
    let image = config.image.clone().unwrap().image;
    let id = case.start(&pod, &config).await;
    let by_hand = json!({"Image": image, "Cmd": ["sleep", "600"], "StopSignal": "SIGKILL"});
    let docker = &case.lab.engine.docker;
    let by_hand = docker.json("POST", "/containers/create?name=by-hand", &by_hand)["Id"].as_str().unwrap().to_owned();
    docker.json("POST", &format!("/containers/{by_hand}/start"), &Value::Null);
    let before = case.cri.status(&id).await.unwrap();
    for again in [false, true] {
        if again {
            case.lab.shim.kill();
            case.lab.shim.start_again();
            runtime_ready(&case.cri, true).await;
        }
        let listed = case.cri.list(cri::ContainerFilter::default()).await.unwrap();
        let listed: Vec<_> = listed.iter().map(|item| (item.id.as_str(), item.pod_sandbox_id.as_str())).collect();
        assert_eq!(listed, [(id.as_str(), pod.id.as_str())]);
        assert_eq!(case.cri.list_pods(cri::PodSandboxFilter::default()).await.unwrap().len(), 2);
        assert_eq!(case.cri.list_pods(by_uid("a-uid-of-somebody-else")).await.unwrap(), []);
        let status = case.cri.status(&id).await.unwrap();
        assert_eq!((&status.labels, &status.annotations), (&config.labels, &config.annotations));
        assert_eq!(status.log_path, pod.log(&config).display().to_string());
        assert_eq!(status.image.as_ref().unwrap().image, image);
        assert_eq!((status.created_at, &status.image_ref), (before.created_at, &before.image_ref));
        let hugepages = status.resources.unwrap().linux.unwrap().hugepage_limits;
        assert!(hugepages.is_empty(), "{hugepages:?}");
        assert_eq!(inspect(&case, &by_hand)["State"]["Running"], json!(true), "an operator's own container");
    }
    case.cri.remove_pod(&other.id).await.unwrap();
    assert_eq!(case.output(&id, "echo alive").await, "alive\n", "it is of its own pod");
    docker.json("DELETE", &format!("/containers/{by_hand}?force=1"), &Value::Null);
}

async fn health_checks_volumes_and_ports_of_an_image_are_not_the_pods(case: Case) {
    let pod = case.run_pod("brings").await;
    let second = 1_000_000_000;
    let image = json!({
        "Healthcheck": {"Test": ["CMD-SHELL", "touch /tmp/checked; exit 1"], "Interval": second, "Retries": 1},
        "Volumes": {"/data": {}, "/deep/er/down": {}, "/etc": {}, "/mnt": {}, "/dev/shm/inner": {}},
        "ExposedPorts": {"80/tcp": {}, "0/udp": {}, "65535/sctp": {}},
        "OnBuild": ["RUN touch /tmp/built"],
        "ArgsEscaped": true,
        "Domainname": "evil.example",
        "Hostname": "evil",
        "OpenStdin": true,
        "StdinOnce": true,
        "Tty": true,
        "AttachStdin": true,
        "NetworkDisabled": true,
        "MacAddress": "02:00:00:00:00:01",
    });
    let mut config = of_image(&case, &image, sleeper("brings"));
    let host = case.dir.join("mounted");
    std::fs::create_dir(&host).unwrap();
    config.mounts = vec![cri::Mount {
        container_path: "/mnt".to_owned(),
        host_path: host.display().to_string(),
        ..Default::default()
    }];
    let id = case.start(&pod, &config).await;
    let mounts = case.cri.status(&id).await.unwrap().mounts;
    assert_eq!(mounts.len(), 1, "an image's volumes are not the request's: {mounts:?}");
    let look = "touch /data/x /deep/er/down/x /mnt/x; hostname; test -t 0 || echo no terminal; tail -n 1 /etc/hosts | cut -f 2";
    assert_eq!(case.output(&id, look).await, "brings\nno terminal\nbrings\n");
    assert!(host.join("x").exists());
    assert_eq!(volumes(&case).len(), 4, "one for each place that the pod mounts nothing at");
    // three times as long as it takes to be checked
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(case.output(&id, "test -e /tmp/checked || echo unchecked").await, "unchecked\n");
    let made = inspect(&case, &id);
    assert_eq!(made["State"]["Health"], Value::Null);
    assert!(made["HostConfig"]["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty), "{made}");
    assert_eq!(case.cri.status(&id).await.unwrap().state(), cri::ContainerState::ContainerRunning);
    case.cri.remove_pod(&pod.id).await.unwrap();
    assert_eq!(volumes(&case), [""; 0]);
}

/// Variables of an image.
const MANY: usize = 10_000;

async fn ten_thousand_variables_of_an_image_reach_the_process(case: Case) {
    let pod = case.run_pod("variables").await;
    let mut entries: Vec<_> = (0..MANY).map(|n| format!("OF_IMAGE_{n}=value {n}")).collect();
    entries.extend(["OWN=of the image", "LINES=a\nb", "PATH=/bin"].map(str::to_owned));
    let script = "env | grep -c '^OF_IMAGE_'; echo $OF_IMAGE_9999, $OWN; echo \"$LINES\"";
    let mut config = of_image(&case, &json!({"Env": entries}), sh("many", script));
    config.envs = vec![cri::KeyValue { key: "OWN".to_owned(), value: b"of the pod".to_vec() }];
    let (_, lines) = case.run_to_end(&pod, &config).await;
    let printed: Vec<_> = lines.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(printed, ["10000", "value 9999, of the pod", "a", "b"]);
}

/// What can't be run, and a part of what the Engine or its runtime says of it.
fn impossible() -> [(&'static str, Value, &'static str); 8] {
    [
        ("volume-root", json!({"Volumes": {"/": {}}}), "runc"),
        ("volume-up", json!({"Volumes": {"/data/../..": {}}}), "runc"),
        ("volume-proc", json!({"Volumes": {"/proc": {}}}), "/proc"),
        ("directory", json!({"WorkingDir": "relative"}), "absolute"),
        ("directory-file", json!({"WorkingDir": "/etc/passwd"}), "/etc/passwd is not a directory"),
        ("no-name", json!({"Env": ["PATH=/bin", "=x"]}), "=x"),
        ("nul", json!({"Env": ["PATH=/bin", "A=b\u{0}c"]}), "A=b"),
        ("nothing", json!({}), "No command specified"),
    ]
}

async fn what_an_image_cannot_mean_fails_in_dockers_words_and_leaves_nothing(case: Case) {
    let pod = case.run_pod("impossible").await;
    let count = || case.lab.engine.docker.containers().len();
    let before = count();
    for (name, image, words) in impossible() {
        let mut config = of_image(&case, &image, sh(name, "true"));
        if name == "nothing" {
            config.command.clear();
        }
        let refused = refusal(&case, &pod, &config).await.unwrap_or_else(|| panic!("{name} runs"));
        assert!(refused.contains(&format!("k8s_{name}_")) && refused.contains(words), "{name}: {refused}");
        assert_eq!((count(), volumes(&case)), (before, Vec::new()), "{name}");
    }
}

/// A command of an image is run as it stands, whatever is in it; a place for a volume and a variable may be strange. Its stop signal is
/// sent; with one that is none Docker kills, long before the grace is over.
async fn words_and_signals_of_an_image_are_taken_as_they_stand(case: Case) {
    let pod = case.run_pod("words").await;
    let image = json!({"Entrypoint": ["/bin/echo"], "Cmd": ["$(id)", "a b", "", "`c`", "%s"]});
    let mut config = of_image(&case, &image, sh("words", ""));
    config.command.clear();
    let (_, lines) = case.run_to_end(&pod, &config).await;
    assert_eq!(lines[0].2, "$(id) a b  `c` %s");
    let image = json!({"Env": ["PATH=/bin", "NO_EQUALS"], "Volumes": {"relative": {}}, "StopSignal": "SIGNONSENSE"});
    let id = case.start(&pod, &of_image(&case, &image, sleeper("signal"))).await;
    assert_eq!(case.output(&id, "env | grep -c ^PATH=").await, "1\n");
    let begin = std::time::Instant::now();
    case.cri.stop(&id, 60).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!(case.cri.status(&id).await.unwrap().exit_code, 137);
    let traps = "trap 'exit 15' TERM; trap 'exit 37' 37; echo ready; while :; do sleep 3600 & wait $!; done";
    let config = of_image(&case, &json!({"Env": ["PATH=/bin"], "StopSignal": "RTMIN+3"}), sh("real-time", traps));
    let id = case.start(&pod, &config).await;
    let ready = || async { std::fs::read_to_string(pod.log(&config)).unwrap().contains("ready").then_some(()) };
    eventually("the traps are set", Duration::from_secs(10), ready).await;
    case.cri.stop(&id, 10).await.unwrap();
    let status = case.cri.status(&id).await.unwrap();
    assert_eq!((status.exit_code, status.stop_signal()), (37, cri::Signal::Sigrtminplus3));
}
