//! What a security context asks for holds in the container.

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Stage, sh, trials, words};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        each_wish_holds_in_the_container,
        a_privileged_container_may_mount,
        a_pods_own_user_is_its_pause_programs,
    ]
}

type Wish = fn(&mut cri::LinuxContainerSecurityContext);

/// Capabilities in `/proc/self/status` are hexadecimal: CAP_NET_ADMIN is bit 12, CAP_CHOWN bit 0.
const WISHES: &[(&str, Wish, &str, &str)] = &[
    ("nothing", |_| {}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0"),
    ("read-only", |context| context.readonly_rootfs = true, "touch /file || echo refused", "refused"),
    ("no-new-privs", |context| context.no_new_privs = true, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
    (
        "drop-all",
        |context| context.capabilities = Some(capabilities(&[], &["ALL"])),
        "grep CapEff /proc/self/status",
        "CapEff:\t0000000000000000",
    ),
    (
        "add-one",
        |context| context.capabilities = Some(capabilities(&["NET_ADMIN"], &["ALL"])),
        "grep CapEff /proc/self/status",
        "CapEff:\t0000000000001000",
    ),
    ("groups", |context| context.supplemental_groups = vec![1234, 5678], "id -G", "0 1234 5678"),
    (
        "masked",
        |context| context.masked_paths = words(&["/proc/uptime"]),
        "test -s /proc/uptime && cat /proc/uptime || echo empty",
        "empty",
    ),
    (
        "read-only-path",
        |context| context.readonly_paths = words(&["/tmp"]),
        "touch /tmp/file || echo refused",
        "refused",
    ),
    (
        "unconfined",
        |context| {
            let profile_type = cri::security_profile::ProfileType::Unconfined.into();
            context.seccomp = Some(cri::SecurityProfile { profile_type, localhost_ref: String::new() });
        },
        "grep Seccomp: /proc/self/status",
        "Seccomp:\t0",
    ),
];

fn capabilities(add: &[&str], drop: &[&str]) -> cri::Capability {
    cri::Capability { add_capabilities: words(add), drop_capabilities: words(drop), ..Default::default() }
}

async fn each_wish_holds_in_the_container(case: Case) {
    let pod = case.run_pod("wishes").await;
    for (name, wish, script, expected) in WISHES {
        let mut config = sh(name, script);
        wish(config.linux.as_mut().unwrap().security_context.get_or_insert_default());
        let (_, lines) = case.run_to_end(&pod, &config).await;
        let printed: Vec<_> = lines.iter().filter(|line| line.0 == "stdout").map(|line| line.2.as_str()).collect();
        assert_eq!(printed, [*expected], "{name}");
    }
}

async fn a_privileged_container_may_mount(case: Case) {
    let mut config = case.pod("privileged");
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxSandboxSecurityContext { privileged: true, ..Default::default() });
    let pod = case.run(config).await;
    let mut config = sh("main", "mkdir /tmp/mnt && mount -t tmpfs none /tmp/mnt && echo mounted");
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxContainerSecurityContext { privileged: true, ..Default::default() });
    let (status, lines) = case.run_to_end(&pod, &config).await;
    assert_eq!(status.exit_code, 0, "{lines:?}");
    assert_eq!(lines[0].2, "mounted");
}

async fn a_pods_own_user_is_its_pause_programs(case: Case) {
    let mut config = case.pod("user");
    let id = |value| Some(cri::Int64Value { value });
    config.linux.as_mut().unwrap().security_context = Some(cri::LinuxSandboxSecurityContext {
        run_as_user: id(65_535),
        run_as_group: id(65_534),
        readonly_rootfs: true,
        ..Default::default()
    });
    let pod = case.run(config).await;
    let pid = case.lab.engine.docker.get(&format!("/containers/{}/json", pod.id))["State"]["Pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t65535\t") && status.contains("Gid:\t65534\t"), "{status}");
    let status = case.cri.pod_status(&pod.id).await.unwrap();
    assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
}
