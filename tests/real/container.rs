//! Containers: life, exit codes and reasons, what an image brings along, users, names held by others.

use std::collections::HashSet;

use dockershim::cri;
use futures_util::future::join_all;
use libtest_mimic::Trial;
use serde_json::json;
use tonic::Code;

use crate::lab::{Case, Pod, Stage, sh, sleeper, stubborn, texts, trials, words};
use crate::support::client::image_spec;
use crate::support::images::{BUSYBOX, FULL, USER_NAME, USER_NUMBER};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        what_a_container_is_given_comes_back_exactly,
        lists_filter_by_pod_state_id_and_label,
        exit_codes_have_their_reasons,
        a_container_over_its_memory_limit_is_oom_killed,
        a_command_that_is_not_there_cannot_run,
        command_and_args_override_the_image_as_kubernetes_says,
        an_images_labels_are_not_the_containers,
        users_come_from_the_request_or_the_image,
        a_container_can_be_created_by_the_images_id,
        mounts_are_in_the_container_and_in_its_status,
        stdin_that_nobody_writes_to_is_open_or_empty_as_asked,
        an_equal_request_finds_the_container_it_has_made,
        equal_requests_at_once_make_one_container,
        a_name_held_by_something_dead_of_ours_is_cleared,
        a_name_held_by_a_stranger_is_left_alone,
        a_container_that_runs_or_has_ended_is_not_started_again,
        a_pod_that_is_not_ready_takes_no_container,
    ]
}

async fn what_a_container_is_given_comes_back_exactly(case: Case) {
    let pod = case.run_pod("exact").await;
    let mut config = sleeper("main-1.x");
    config.metadata.as_mut().unwrap().attempt = 41;
    config.labels.extend(texts(&[("ünï", "漢字"), ("empty", "")]));
    config.annotations = texts(&[("hash", "{\"a\": \"\\n\"}"), ("io.kubernetes.container.restartCount", "3")]);
    let id = case.start(&pod, &config).await;
    let status = case.cri.status(&id).await.unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
    assert_eq!(status.metadata, config.metadata);
    assert_eq!(status.labels, config.labels);
    assert_eq!(status.annotations, config.annotations);
    assert_eq!(status.log_path, pod.log(&config).display().to_string());
    assert!(status.created_at > 0 && status.started_at >= status.created_at, "{status:?}");
    assert_eq!((status.finished_at, status.exit_code, status.reason.as_str()), (0, 0, ""));
    let image = case.cri.image(BUSYBOX).await.unwrap().unwrap();
    assert_eq!(status.image_id, image.id);
    assert!(!status.image_ref.is_empty());
    assert_eq!(status.image.unwrap().image, BUSYBOX);
    let filter = cri::ContainerFilter { id: id.clone(), ..Default::default() };
    let listed = case.cri.list(filter).await.unwrap().remove(0);
    assert_eq!(listed.pod_sandbox_id, pod.id);
    assert_eq!((listed.metadata, listed.labels), (config.metadata, config.labels));
    assert_eq!((listed.annotations, listed.created_at), (config.annotations, status.created_at));
    assert_eq!((listed.image_ref, listed.image_id), (status.image_ref, status.image_id));
    let names = case.lab.engine.docker.containers();
    assert!(names.contains(&(id, format!("/k8s_main-1.x_exact_real_{}_41", case.uid))), "{names:?}");
}

async fn lists_filter_by_pod_state_id_and_label(case: Case) {
    let (one, two) = (case.run_pod("one").await, case.run_pod("two").await);
    let running = case.start(&one, &sleeper("running")).await;
    let created = case.create(&one, &sleeper("created")).await;
    let exited = case.start(&two, &sh("exited", "true")).await;
    case.exited(&exited).await;
    let list = |filter: cri::ContainerFilter| {
        let cri = case.cri.clone();
        let own = [&running, &created, &exited].map(String::clone);
        async move {
            let all = cri.list(filter).await.unwrap().into_iter().map(|container| container.id);
            all.filter(|id| own.contains(id)).collect::<HashSet<_>>()
        }
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<HashSet<_>>();
    let filter = cri::ContainerFilter::default;
    let state = |state: cri::ContainerState| Some(cri::ContainerStateValue { state: state.into() });
    let by_state = |wanted| cri::ContainerFilter { state: state(wanted), ..filter() };
    assert_eq!(list(filter()).await, set(&[&running, &created, &exited]));
    assert_eq!(
        list(cri::ContainerFilter { pod_sandbox_id: one.id.clone(), ..filter() }).await,
        set(&[&running, &created])
    );
    assert_eq!(list(by_state(cri::ContainerState::ContainerRunning)).await, set(&[&running]));
    assert_eq!(list(by_state(cri::ContainerState::ContainerCreated)).await, set(&[&created]));
    assert_eq!(list(by_state(cri::ContainerState::ContainerExited)).await, set(&[&exited]));
    assert_eq!(list(cri::ContainerFilter { id: exited[..13].to_owned(), ..filter() }).await, set(&[&exited]));
    let label_selector = texts(&[("io.kubernetes.container.name", "created")]);
    assert_eq!(list(cri::ContainerFilter { label_selector, ..filter() }).await, set(&[&created]));
}

pub(crate) async fn exit_codes_have_their_reasons(case: Case) {
    let pod = case.run_pod("codes").await;
    for (name, script, code, reason) in
        [("zero", "true", 0, "Completed"), ("three", "exit 3", 3, "Error"), ("killed", "kill -9 $$", 137, "Error")]
    {
        let (status, _) = case.run_to_end(&pod, &sh(name, script)).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{script}");
        // of something short the Engine may put the end a millisecond before the start
        assert!(status.finished_at > status.created_at && status.started_at > status.created_at, "{status:?}");
    }
}

async fn a_container_over_its_memory_limit_is_oom_killed(case: Case) {
    let pod = case.run_pod("oom").await;
    let mut config = sh("eater", "exec tail /dev/zero");
    config.linux.as_mut().unwrap().resources =
        Some(cri::LinuxContainerResources { memory_limit_in_bytes: 16 << 20, ..Default::default() });
    let (status, _) = case.run_to_end(&pod, &config).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

async fn a_command_that_is_not_there_cannot_run(case: Case) {
    let pod = case.run_pod("missing").await;
    let mut config = sh("main", "");
    config.command = words(&["/no/such/program"]);
    let id = case.create(&pod, &config).await;
    let refused = case.cri.start(&id).await.unwrap_err();
    assert!(refused.message().contains("/no/such/program"), "{}", refused.message());
    let status = case.cri.status(&id).await.unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerExited);
    assert_eq!(status.reason, "ContainerCannotRun");
    assert!(status.exit_code == 127 || status.exit_code == 128, "{}", status.exit_code);
    assert!(status.message.contains("/no/such/program"), "{}", status.message);
}

pub(crate) async fn command_and_args_override_the_image_as_kubernetes_says(case: Case) {
    let pod = case.run_pod("override").await;
    let (none, echo, args) = (Vec::new(), words(&["/bin/echo", "own"]), words(&["a", "b"]));
    for (name, command, args, printed) in [
        ("neither", &none, &none, "entry command"),
        ("args", &none, &args, "entry a b"),
        ("command", &echo, &none, "own"),
        ("both", &echo, &args, "own a b"),
    ] {
        let mut config = sh(name, "");
        config.image = Some(image_spec(FULL));
        (config.command, config.args) = (command.clone(), args.clone());
        let (_, lines) = case.run_to_end(&pod, &config).await;
        assert_eq!(lines, [("stdout".to_owned(), "F".to_owned(), printed.to_owned())], "{name}");
    }
}

async fn an_images_labels_are_not_the_containers(case: Case) {
    let pod = case.run_pod("labels").await;
    let mut config = sh("main", "echo $FROM_IMAGE $OWN; pwd; ls -d /data");
    config.image = Some(image_spec(FULL));
    config.envs = vec![cri::KeyValue { key: "OWN".to_owned(), value: b"a=b c".to_vec() }];
    let (status, lines) = case.run_to_end(&pod, &config).await;
    assert_eq!(status.labels, config.labels);
    let printed: Vec<_> = lines.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(printed, ["yes a=b c", "/tmp", "/data"]);
}

pub(crate) async fn users_come_from_the_request_or_the_image(case: Case) {
    let pod = case.run_pod("users").await;
    let id = |value| Some(cri::Int64Value { value });
    let context = cri::LinuxContainerSecurityContext::default;
    let cases = [
        ("image-root", BUSYBOX, context(), "0:0"),
        ("image-number", USER_NUMBER, context(), "1000:1000"),
        ("image-name", USER_NAME, context(), "1:1"),
        ("uid", BUSYBOX, cri::LinuxContainerSecurityContext { run_as_user: id(4321), ..context() }, "4321:0"),
        (
            "uid-gid",
            USER_NUMBER,
            cri::LinuxContainerSecurityContext { run_as_user: id(0), run_as_group: id(77), ..context() },
            "0:77",
        ),
        (
            "name",
            BUSYBOX,
            cri::LinuxContainerSecurityContext { run_as_username: "daemon".to_owned(), ..context() },
            "1:1",
        ),
    ];
    for (name, image, context, expected) in cases {
        let mut config = sh(name, "echo $(id -u):$(id -g)");
        config.image = Some(image_spec(image));
        config.linux.as_mut().unwrap().security_context = Some(context);
        let (_, lines) = case.run_to_end(&pod, &config).await;
        assert_eq!(lines[0].2, expected, "{name}");
    }
}

async fn a_container_can_be_created_by_the_images_id(case: Case) {
    let pod = case.run_pod("by-id").await;
    let image = case.cri.image(BUSYBOX).await.unwrap().unwrap();
    for (name, reference) in [("id", image.id.clone()), ("hex", image.id.trim_start_matches("sha256:").to_owned())] {
        let mut config = sh(name, "true");
        config.image = Some(cri::ImageSpec { user_specified_image: BUSYBOX.to_owned(), ..image_spec(&reference) });
        let (status, _) = case.run_to_end(&pod, &config).await;
        assert_eq!((status.exit_code, status.image_id), (0, image.id.clone()));
    }
}

pub(crate) async fn mounts_are_in_the_container_and_in_its_status(case: Case) {
    let pod = case.run_pod("mounts").await;
    let (file, directory) = (case.dir.join("file"), case.dir.join("directory"));
    std::fs::write(&file, "from the host").unwrap();
    std::fs::create_dir(&directory).unwrap();
    let mut config = sh("main", "cat /mnt/file; echo; touch /mnt/rw/made; touch /mnt/ro/made || echo refused");
    let mount = |container_path: &str, host: &std::path::Path, readonly| cri::Mount {
        container_path: container_path.to_owned(),
        host_path: host.display().to_string(),
        readonly,
        ..cri::Mount::default()
    };
    config.mounts =
        vec![mount("/mnt/file", &file, true), mount("/mnt/rw", &directory, false), mount("/mnt/ro", &directory, true)];
    let (status, lines) = case.run_to_end(&pod, &config).await;
    let stdout: Vec<_> = lines.iter().filter(|line| line.0 == "stdout").map(|line| line.2.as_str()).collect();
    assert_eq!(stdout, ["from the host", "refused"]);
    assert!(directory.join("made").exists());
    let told = |mount: &cri::Mount| (mount.container_path.clone(), mount.host_path.clone(), mount.readonly);
    let (mut sent, mut back): (Vec<_>, Vec<_>) =
        (config.mounts.iter().map(told).collect(), status.mounts.iter().map(told).collect());
    sent.sort();
    back.sort();
    assert_eq!(back, sent);
}

pub(crate) async fn stdin_that_nobody_writes_to_is_open_or_empty_as_asked(case: Case) {
    let pod = case.run_pod("stdin").await;
    let (status, _) = case.run_to_end(&pod, &sh("closed", "cat")).await;
    assert_eq!(status.exit_code, 0, "an empty stdin ends at once");
    let mut config = sh("open", "cat");
    config.stdin = true;
    let id = case.start(&pod, &config).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(case.cri.status(&id).await.unwrap().state(), cri::ContainerState::ContainerRunning);
}

async fn an_equal_request_finds_the_container_it_has_made(case: Case) {
    let pod = case.run_pod("retried").await;
    let config = sleeper("main");
    let id = case.create(&pod, &config).await;
    assert_eq!(case.create(&pod, &config).await, id);
    case.cri.start(&id).await.unwrap();
    assert_eq!(case.create(&pod, &config).await, id, "also while it runs");
    let other = sleeper("main");
    let other = cri::ContainerConfig { working_dir: "/tmp".to_owned(), ..other };
    let refused = case.cri.create(&pod.id, &other, &pod.config).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
}

async fn equal_requests_at_once_make_one_container(case: Case) {
    let pod = case.run_pod("raced").await;
    let config = sleeper("main");
    let ids = join_all((0..6).map(|_| case.create(&pod, &config))).await;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 1, "{ids:?}");
    join_all((0..4).map(|_| case.cri.start(&ids[0]))).await.into_iter().for_each(Result::unwrap);
    assert_eq!(case.cri.status(&ids[0]).await.unwrap().state(), cri::ContainerState::ContainerRunning);
}

/// Makes a container behind the shim's back, under the name of the pod's container `main`.
fn take_name(case: &Case, pod: &Pod, labels: &serde_json::Value) -> String {
    let name = format!("k8s_main_{}_real_{}_0", pod.config.hostname, case.uid);
    let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "Labels": labels});
    let made = case.lab.engine.docker.json("POST", &format!("/containers/create?name={name}"), &body);
    made["Id"].as_str().unwrap().to_owned()
}

async fn a_name_held_by_something_dead_of_ours_is_cleared(case: Case) {
    let pod = case.run_pod("holder").await;
    let labels = json!({
        "io.kubernetes.docker.type": "container",
        "io.kubernetes.sandbox.id": pod.id,
        "io.kubernetes.container.name": "main",
    });
    let holder = take_name(&case, &pod, &labels);
    let id = case.start(&pod, &sleeper("main")).await;
    let left: Vec<_> = case.lab.engine.docker.containers().into_iter().map(|(id, _)| id).collect();
    assert!(left.contains(&id) && !left.contains(&holder), "{left:?}");
}

async fn a_name_held_by_a_stranger_is_left_alone(case: Case) {
    let pod = case.run_pod("stranger").await;
    let stranger = take_name(&case, &pod, &json!({}));
    let refused = case.cri.create(&pod.id, &sleeper("main"), &pod.config).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains(&stranger), "{}", refused.message());
    case.lab.engine.docker.json("DELETE", &format!("/containers/{stranger}"), &serde_json::Value::Null);
    case.start(&pod, &sleeper("main")).await;
}

async fn a_container_that_runs_or_has_ended_is_not_started_again(case: Case) {
    let pod = case.run_pod("twice").await;
    let id = case.start(&pod, &stubborn("main")).await;
    let started_at = case.cri.status(&id).await.unwrap().started_at;
    case.cri.start(&id).await.unwrap();
    assert_eq!(case.cri.status(&id).await.unwrap().started_at, started_at);
    case.cri.stop(&id, 0).await.unwrap();
    assert_eq!(case.cri.start(&id).await.unwrap_err().code(), Code::FailedPrecondition);
}

async fn a_pod_that_is_not_ready_takes_no_container(case: Case) {
    let pod = case.run_pod("over").await;
    case.cri.stop_pod(&pod.id).await.unwrap();
    let refused = case.cri.create(&pod.id, &sleeper("main"), &pod.config).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}
