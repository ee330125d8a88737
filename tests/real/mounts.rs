//! Mounts: propagation each way, sources that are links, and as many as a thousand. Seen from inside the container, and from the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Pod, Stage, sh, sleeper, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        propagation_is_what_was_asked_and_is_told_back,
        propagation_that_the_source_cannot_have_is_refused,
        a_source_that_is_a_link_is_what_it_leads_to,
        a_thousand_mounts_are_made,
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
        let refused = match case.cri.create(&pod.id, &config, &pod.config).await {
            Err(refused) => refused,
            Ok(id) => {
                let refused = case.cri.start(&id).await.expect_err("a private mount propagates nothing");
                case.cri.remove(&id).await.unwrap();
                refused
            }
        };
        let source = source.0.display().to_string();
        assert!(refused.message().contains(&source), "{mode:?}: {}", refused.message());
        let left = case.lab.engine.docker.containers().into_iter().filter(|(_, name)| name.contains(&case.uid)).count();
        assert_eq!(left, before);
    }
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
