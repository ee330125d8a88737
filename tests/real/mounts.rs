//! Mounts: propagation each way, sources that are links or images, recursively read-only ones, and as many as a thousand. Seen from inside
//! the container, and from the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Pod, Stage, sh, sleeper, trials};
use crate::support::client::image_spec;
use crate::support::images::USER_NUMBER;

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        propagation_is_what_was_asked_and_is_told_back,
        propagation_that_the_source_cannot_have_is_refused,
        a_slave_propagates_one_way_and_a_directory_as_its_mount,
        a_source_that_is_a_link_is_what_it_leads_to,
        a_thousand_mounts_are_made,
        read_only_is_recursive_where_it_was_asked,
        an_image_is_a_volume,
    ]
}

/// A directory that is a mount of its own on the host, gone with its mounts when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(case: &Case, name: &str, propagation: &str) -> Self {
        let path = case.dir.join(name);
        std::fs::create_dir(&path).unwrap();
        mount(&["-t", "tmpfs", "dsh", &path.display().to_string()]);
        let mounted = Mounted(path);
        mount(&[propagation, &mounted.0.display().to_string()]);
        std::fs::create_dir(mounted.0.join("inner")).unwrap();
        mounted
    }

    /// The same files as another has, at a place of their own.
    fn of(case: &Case, name: &str, other: &Path, propagation: &str) -> Self {
        let path = case.dir.join(name);
        std::fs::create_dir(&path).unwrap();
        mount(&["--bind", &other.display().to_string(), &path.display().to_string()]);
        mount(&[propagation, &path.display().to_string()]);
        Mounted(path)
    }

    /// Mounts something with a file `marker` in it at `inner`.
    fn mount_inner(&self) {
        let inner = self.0.join("inner");
        mount(&["-t", "tmpfs", "dsh", &inner.display().to_string()]);
        std::fs::write(inner.join("marker"), "").unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
}

fn at(path: &Path, container_path: &str, propagation: cri::MountPropagation) -> cri::Mount {
    cri::Mount {
        container_path: container_path.to_owned(),
        host_path: path.display().to_string(),
        propagation: propagation.into(),
        ..Default::default()
    }
}

/// A pod whose containers may be privileged.
async fn privileged_pod(case: &Case, name: &str) -> Pod {
    let mut config = case.pod(name);
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxSandboxSecurityContext { privileged: true, ..Default::default() });
    case.run(config).await
}

const MODES: [cri::MountPropagation; 3] = [
    cri::MountPropagation::PropagationPrivate,
    cri::MountPropagation::PropagationHostToContainer,
    cri::MountPropagation::PropagationBidirectional,
];

async fn propagation_is_what_was_asked_and_is_told_back(case: Case) {
    let pod = privileged_pod(&case, "propagation").await;
    for (index, mode) in MODES.into_iter().enumerate() {
        let source = Mounted::new(&case, &format!("source{index}"), "--make-rshared");
        let mut config = sleeper(&format!("main{index}"));
        config.mounts = vec![at(&source.0, "/mnt", mode)];
        config.linux.as_mut().unwrap().security_context =
            Some(cri::LinuxContainerSecurityContext { privileged: true, ..Default::default() });
        let id = case.start(&pod, &config).await;
        let told = &case.cri.status(&id).await.unwrap().mounts[0];
        assert_eq!((told.propagation(), told.host_path.as_str()), (mode, source.0.to_str().unwrap()));
        source.mount_inner();
        let seen = case.output(&id, "test -e /mnt/inner/marker && echo seen || echo hidden").await;
        let private = mode == cri::MountPropagation::PropagationPrivate;
        assert_eq!(seen, if private { "hidden\n" } else { "seen\n" }, "{mode:?}: the host's");
        case.output(&id, "mkdir /mnt/own && mount -t tmpfs none /mnt/own && touch /mnt/own/marker").await;
        let both = mode == cri::MountPropagation::PropagationBidirectional;
        assert_eq!(source.0.join("own/marker").exists(), both, "{mode:?}: the container's");
        case.cri.remove(&id).await.unwrap();
    }
}

async fn propagation_that_the_source_cannot_have_is_refused(case: Case) {
    let pod = privileged_pod(&case, "private").await;
    let source = Mounted::new(&case, "source", "--make-rprivate");
    let before = case.lab.engine.docker.containers().into_iter().filter(|(_, name)| name.contains(&case.uid)).count();
    for mode in &MODES[1..] {
        let mut config = sh("main", "true");
        config.mounts = vec![at(&source.0, "/mnt", *mode)];
        config.mounts.insert(0, at(Path::new("/tmp"), "/before", MODES[0]));
        let refused = case.cri.create(&pod.id, &config, &pod.config).await.expect_err("it propagates nothing");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{mode:?}: {}", refused.message());
        let (field, source) = ("config.mounts[1].propagation: ", source.0.display().to_string());
        assert!(refused.message().starts_with(field) && refused.message().contains(&source), "{}", refused.message());
        let left = case.lab.engine.docker.containers().into_iter().filter(|(_, name)| name.contains(&case.uid)).count();
        assert_eq!(left, before);
    }
}

/// Only its master's mounts reach a slave, and what is below a shared mount is that mount's.
async fn a_slave_propagates_one_way_and_a_directory_as_its_mount(case: Case) {
    let pod = privileged_pod(&case, "slave").await;
    let master = Mounted::new(&case, "master", "--make-rshared");
    let slave = Mounted::of(&case, "slave", &master.0, "--make-rslave");
    let mut config = sleeper("main");
    config.mounts = vec![at(&slave.0, "/mnt", MODES[2])];
    let refused = case.cri.create(&pod.id, &config, &pod.config).await.expect_err("nothing goes back to its master");
    assert!(refused.message().starts_with("config.mounts[0].propagation: "), "{}", refused.message());
    config.mounts = vec![at(&slave.0, "/mnt", MODES[1]), at(&master.0.join("inner"), "/inner", MODES[2])];
    let id = case.start(&pod, &config).await;
    master.mount_inner();
    assert_eq!(case.output(&id, "test -e /mnt/inner/marker && echo seen").await, "seen\n");
    let told = case.cri.status(&id).await.unwrap().mounts;
    let told: Vec<_> = told.iter().map(|mount| (mount.container_path.as_str(), mount.propagation())).collect();
    assert_eq!(told, [("/inner", MODES[2]), ("/mnt", MODES[1])]);
    case.cri.remove(&id).await.unwrap();
}

async fn a_source_that_is_a_link_is_what_it_leads_to(case: Case) {
    let pod = case.run_pod("links").await;
    let (directory, file) = (case.dir.join("directory"), case.dir.join("file"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("in-it"), "").unwrap();
    std::fs::write(&file, "content").unwrap();
    let link = |to: &Path, name: &str| {
        let path = case.dir.join(name);
        std::os::unix::fs::symlink(to, &path).unwrap();
        path
    };
    let (once, twice) = (link(&directory, "once"), link(Path::new("once"), "twice"));
    let to_file = link(Path::new("directory/../file"), "to-file");
    let private = cri::MountPropagation::PropagationPrivate;
    let mut config = sh("main", "ls /once /twice/; cat /file");
    config.mounts = vec![at(&once, "/once", private), at(&twice, "/twice", private), at(&to_file, "/file", private)];
    let (status, lines) = case.run_to_end(&pod, &config).await;
    let printed: Vec<_> = lines.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(printed, ["/once:", "in-it", "", "/twice/:", "in-it", "content"], "{status:?}");
}

/// Mounts of one container.
const MANY: usize = 1000;

async fn a_thousand_mounts_are_made(case: Case) {
    let pod = case.run_pod("many").await;
    let directory = case.dir.join("many");
    std::fs::create_dir(&directory).unwrap();
    let mut config = sh("main", "grep -c ' /mnt/[0-9]*/place ' /proc/self/mountinfo");
    config.mounts = (0..MANY)
        .map(|n| {
            let source = directory.join(n.to_string());
            std::fs::create_dir(&source).unwrap();
            at(&source, &format!("/mnt/{n}/place"), cri::MountPropagation::PropagationPrivate)
        })
        .collect();
    let (status, lines) = case.run_to_end(&pod, &config).await;
    assert_eq!((lines[0].2.as_str(), status.mounts.len()), ("1000", MANY));
}

/// The minor part of the engine's API version.
fn api(case: &Case) -> u32 {
    let version = case.lab.engine.docker.get("/version")["ApiVersion"].as_str().unwrap().to_owned();
    version.trim_start_matches("1.").parse().unwrap()
}

async fn read_only_is_recursive_where_it_was_asked(case: Case) {
    let pod = case.run_pod("recursive").await;
    let source = Mounted::new(&case, "source", "--make-rprivate");
    source.mount_inner();
    let of = |name: &str, recursive_read_only| {
        let mut config = sh(name, "touch /mnt/x || echo outer; touch /mnt/inner/x || echo inner");
        let mount = at(&source.0, "/mnt", cri::MountPropagation::PropagationPrivate);
        config.mounts = vec![cri::Mount { readonly: true, recursive_read_only, ..mount }];
        config
    };
    let refused_at = |lines: Vec<crate::lab::Line>| {
        let printed = lines.into_iter().filter(|line| line.0 == "stdout").map(|line| line.2);
        printed.collect::<Vec<_>>()
    };
    let (_, lines) = case.run_to_end(&pod, &of("plain", false)).await;
    assert_eq!(refused_at(lines), ["outer"]);
    let status = case.cri.runtime().status(cri::StatusRequest::default()).await.unwrap().into_inner();
    if !status.runtime_handlers[0].features.as_ref().unwrap().recursive_read_only_mounts {
        eprintln!("left out, this engine or its runtime can't (it came with API 1.44): recursively read-only mounts");
        return;
    }
    let (status, lines) = case.run_to_end(&pod, &of("recursive", true)).await;
    assert_eq!(refused_at(lines), ["outer", "inner"]);
    assert!(status.mounts[0].recursive_read_only);
}

async fn an_image_is_a_volume(case: Case) {
    if api(&case) < 48 {
        eprintln!("left out, this engine has API 1.{}: image volumes, which came with 1.48", api(&case));
        return;
    }
    let pod = case.run_pod("volume").await;
    let of = |name: &str, script: &str, sub_path: &str| {
        let mut config = sh(name, script);
        config.mounts = vec![cri::Mount {
            container_path: "/mnt".to_owned(),
            image: Some(image_spec(USER_NUMBER)),
            image_sub_path: sub_path.to_owned(),
            readonly: true,
            ..Default::default()
        }];
        config
    };
    let image = case.cri.image(USER_NUMBER).await.unwrap().unwrap();
    for (name, sub_path, script) in [
        ("whole", "", "test -e /mnt/bin/sh && ! touch /mnt/x 2>/dev/null && echo there"),
        ("part", "bin", "test -e /mnt/sh && ! touch /mnt/x 2>/dev/null && echo there"),
    ] {
        let (status, lines) = case.run_to_end(&pod, &of(name, script, sub_path)).await;
        assert_eq!(lines[0].2, "there", "{name}");
        let told = &status.mounts[0];
        assert_eq!(told.image.as_ref().map(|told| told.image_ref.as_str()), Some(image.id.as_str()), "{name}");
        assert_eq!((told.image_sub_path.as_str(), told.readonly), (sub_path, true), "{name}");
    }
    let refused = case.cri.create(&pod.id, &of("missing", "true", "no/such/path"), &pod.config).await.unwrap_err();
    let start = "ImageVolumeMountFailed: config.mounts[0].image_sub_path: ";
    assert!(refused.message().starts_with(start), "{}", refused.message());
}
