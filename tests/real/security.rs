//! What a security context asks for holds in the container.

use dockershim::cri;
use dockershim::cri::security_profile::ProfileType;
use libtest_mimic::Trial;

use crate::lab::{Case, Stage, sh, sleeper, trials, words};
use crate::support::client::image_spec;
use crate::support::engine::Options;
use crate::support::images::{BUSYBOX, USER_GROUP, USER_NUMBER};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = trials![Stage::Shared;
        each_wish_holds_in_the_container,
        a_privileged_container_may_mount,
        a_pods_own_user_is_its_pause_programs,
        both_policies_of_supplementary_groups_hold_and_are_told,
        a_seccomp_profile_of_a_file_holds,
        nothing_is_masked_when_nothing_is_to_be,
        devices_and_directories_of_devices_are_there_as_asked,
        an_apparmor_profile_holds_and_one_that_is_not_loaded_is_refused,
        a_debug_container_may_be_privileged_in_a_pod_that_never_was,
        a_container_sees_the_processes_of_its_target,
    ];
    trials.extend(trials![Stage::Own(Options { daemon_json: r#"{"features": {"cdi": true}}"#, ..Options::default() });
        a_cdi_device_brings_what_its_specification_says,
    ]);
    trials
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
    (
        "add-with-prefix",
        |context| context.capabilities = Some(capabilities(&["CAP_NET_ADMIN"], &["CAP_CHOWN", "ALL"])),
        "grep CapEff /proc/self/status",
        "CapEff:\t0000000000001000",
    ),
    (
        "drop-with-prefix",
        |context| context.capabilities = Some(capabilities(&["ALL"], &["CAP_CHOWN"])),
        "touch /tmp/file && chown 7 /tmp/file || echo refused",
        "refused",
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
    (
        "runtime-default",
        |context| context.seccomp = Some(cri::SecurityProfile::default()),
        "grep Seccomp: /proc/self/status",
        "Seccomp:\t2",
    ),
    ("deprecated-default", deprecated_default, "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
];

#[expect(deprecated, reason = "old clients still send it")]
fn deprecated_default(context: &mut cri::LinuxContainerSecurityContext) {
    context.seccomp_profile_path = "runtime/default".to_owned();
}

fn capabilities(add: &[&str], drop: &[&str]) -> cri::Capability {
    cri::Capability { add_capabilities: words(add), drop_capabilities: words(drop), ..Default::default() }
}

pub(crate) async fn each_wish_holds_in_the_container(case: Case) {
    let pod = case.run_pod("wishes").await;
    for (name, wish, script, expected) in WISHES {
        let mut config = sh(name, script);
        wish(config.linux.as_mut().unwrap().security_context.get_or_insert_default());
        let (_, lines) = case.run_to_end(&pod, &config).await;
        let printed: Vec<_> = lines.iter().filter(|line| line.0 == "stdout").map(|line| line.2.as_str()).collect();
        assert_eq!(printed, [*expected], "{name}");
    }
}

pub(crate) async fn a_privileged_container_may_mount(case: Case) {
    let mut config = case.pod("privileged");
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxSandboxSecurityContext { privileged: true, ..Default::default() });
    let pod = case.run(config).await;
    let mut config = sh("main", "mkdir /tmp/mnt && mount -t tmpfs none /tmp/mnt && echo mounted");
    // a profile means nothing beside it, not even one that isn't there
    let profile = cri::SecurityProfile {
        profile_type: cri::security_profile::ProfileType::Localhost.into(),
        localhost_ref: "/no/such/profile.json".to_owned(),
    };
    config.linux.as_mut().unwrap().security_context = Some(cri::LinuxContainerSecurityContext {
        privileged: true,
        seccomp: Some(profile.clone()),
        apparmor: Some(profile),
        ..Default::default()
    });
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

/// What the kernel tells of a container's first process: uid, gid, groups.
fn identity(case: &Case, id: &str) -> (i64, i64, Vec<i64>) {
    let pid = case.lab.engine.docker.get(&format!("/containers/{id}/json"))["State"]["Pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let numbers = |key: &str| -> Vec<i64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    (numbers("Uid:")[0], numbers("Gid:")[0], numbers("Groups:"))
}

/// Image, user, group, policy; and whose process it must be. In the images user 1000 is in group 2000 too.
type Policy = (&'static str, Option<i64>, Option<i64>, cri::SupplementalGroupsPolicy, (i64, i64, &'static [i64]));

const MERGE: cri::SupplementalGroupsPolicy = cri::SupplementalGroupsPolicy::Merge;
const STRICT: cri::SupplementalGroupsPolicy = cri::SupplementalGroupsPolicy::Strict;
const POLICIES: &[Policy] = &[
    (BUSYBOX, None, None, MERGE, (0, 0, &[7])),
    (BUSYBOX, None, None, STRICT, (0, 0, &[7])),
    (BUSYBOX, Some(1000), None, MERGE, (1000, 1000, &[7, 2000])),
    (BUSYBOX, Some(1000), None, STRICT, (1000, 1000, &[7])),
    (BUSYBOX, Some(1000), Some(3000), MERGE, (1000, 3000, &[7, 2000])),
    (BUSYBOX, Some(1000), Some(3000), STRICT, (1000, 3000, &[7])),
    (BUSYBOX, Some(4321), None, STRICT, (4321, 0, &[7])),
    (USER_NUMBER, None, None, MERGE, (1000, 1000, &[7, 2000])),
    (USER_NUMBER, None, None, STRICT, (1000, 1000, &[7])),
    (USER_GROUP, None, None, MERGE, (1000, 3000, &[7, 2000])),
    (USER_GROUP, None, None, STRICT, (1000, 3000, &[7])),
];

pub(crate) async fn both_policies_of_supplementary_groups_hold_and_are_told(case: Case) {
    let answer = case.cri.runtime().status(cri::StatusRequest::default()).await.unwrap().into_inner();
    assert!(answer.features.unwrap().supplemental_groups_policy);
    let pod = case.run_pod("groups").await;
    for (index, (image, user, group, policy, (uid, gid, groups))) in POLICIES.iter().enumerate() {
        let mut config = sleeper(&format!("c{index}"));
        config.image = Some(image_spec(image));
        let id = |value: &i64| cri::Int64Value { value: *value };
        config.linux.as_mut().unwrap().security_context = Some(cri::LinuxContainerSecurityContext {
            run_as_user: user.as_ref().map(id),
            run_as_group: group.as_ref().map(id),
            supplemental_groups: vec![7],
            supplemental_groups_policy: (*policy).into(),
            ..Default::default()
        });
        let id = case.start(&pod, &config).await;
        let (real_uid, real_gid, real_groups) = identity(&case, &id);
        assert_eq!((real_uid, real_gid), (*uid, *gid), "{index}");
        // an engine may count a process's own group among the others
        let others: Vec<_> = real_groups.iter().copied().filter(|group| group != gid).collect();
        assert_eq!(others, *groups, "{index}");
        let told = case.cri.status(&id).await.unwrap().user.unwrap().linux.unwrap();
        assert_eq!((told.uid, told.gid, told.supplemental_groups), (real_uid, real_gid, real_groups), "{index}");
        case.cri.stop(&id, 2).await.unwrap();
        let told = case.cri.status(&id).await.unwrap().user.unwrap().linux.unwrap();
        assert_eq!(told.uid, *uid, "also when it has ended");
    }
    let left: Vec<_> =
        case.lab.engine.docker.containers().into_iter().filter(|(_, name)| name.contains("look")).collect();
    assert_eq!(left, [], "what looked into the images is gone");
}

pub(crate) async fn a_seccomp_profile_of_a_file_holds(case: Case) {
    let path = case.dir.join("profile.json");
    let rule = r#"{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}"#;
    std::fs::write(&path, format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#)).unwrap();
    let pod = case.run_pod("seccomp").await;
    let mut config = sh("main", "grep Seccomp: /proc/self/status; chmod 600 /tmp || echo refused");
    config.linux.as_mut().unwrap().security_context = Some(cri::LinuxContainerSecurityContext {
        seccomp: Some(cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::Localhost.into(),
            localhost_ref: path.display().to_string(),
        }),
        ..Default::default()
    });
    let (_, lines) = case.run_to_end(&pod, &config).await;
    let printed: Vec<_> = lines.iter().filter(|line| line.0 == "stdout").map(|line| line.2.as_str()).collect();
    assert_eq!(printed, ["Seccomp:\t2", "refused"]);
}

pub(crate) async fn nothing_is_masked_when_nothing_is_to_be(case: Case) {
    let pod = case.run_pod("unmasked").await;
    let (_, lines) = case.run_to_end(&pod, &sh("main", "grep -c ' /proc/' /proc/self/mountinfo")).await;
    assert_eq!(lines[0].2, "0");
}

pub(crate) async fn devices_and_directories_of_devices_are_there_as_asked(case: Case) {
    let pod = case.run_pod("devices").await;
    let device = |host_path: &str, container_path: &str, permissions: &str| cri::Device {
        container_path: container_path.to_owned(),
        host_path: host_path.to_owned(),
        permissions: permissions.to_owned(),
    };
    let directory = case.dir.join("devices");
    std::fs::create_dir_all(&directory).unwrap();
    let node = std::fs::metadata("/dev/null").map(|null| std::os::unix::fs::MetadataExt::rdev(&null)).unwrap();
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, directory.join("inner"), kind, rustix::fs::Mode::from_raw_mode(0o666), node)
        .unwrap();
    let link = case.dir.join("link");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    let script = "test -c /dev/mine && test -c /dev/set/inner && head -c 1 /dev/linked | wc -c";
    let mut config = sh("main", script);
    config.devices = vec![
        device("/dev/null", "/dev/mine", "rw"),
        device(&directory.display().to_string(), "/dev/set", "rwm"),
        device(&link.display().to_string(), "/dev/linked", "r"),
    ];
    let (status, lines) = case.run_to_end(&pod, &config).await;
    assert_eq!((status.exit_code, lines[0].2.as_str()), (0, "1"), "{lines:?}");
}

async fn an_apparmor_profile_holds_and_one_that_is_not_loaded_is_refused(case: Case) {
    let options = case.lab.engine.docker.get("/info")["SecurityOptions"].to_string();
    let kernel = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if kernel.trim() != "Y" || !options.contains("name=apparmor") {
        eprintln!("left out, this machine has no AppArmor: profiles that hold, and one that isn't loaded");
        return;
    }
    let pod = case.run_pod("apparmor").await;
    let with = |name: &str, profile_type: ProfileType, localhost_ref: &str| {
        let mut config = sh(name, "cat /proc/self/attr/current");
        let profile =
            cri::SecurityProfile { profile_type: profile_type.into(), localhost_ref: localhost_ref.to_owned() };
        config.linux.as_mut().unwrap().security_context =
            Some(cri::LinuxContainerSecurityContext { apparmor: Some(profile), ..Default::default() });
        config
    };
    for (config, held) in [
        (with("default", ProfileType::RuntimeDefault, ""), "docker-default (enforce)"),
        (with("named", ProfileType::Localhost, "docker-default"), "docker-default (enforce)"),
        (with("unconfined", ProfileType::Unconfined, ""), "unconfined"),
    ] {
        let (_, lines) = case.run_to_end(&pod, &config).await;
        assert_eq!(lines[0].2, held);
    }
    let refused =
        case.cri.create(&pod.id, &with("missing", ProfileType::Localhost, "dsh-not-loaded"), &pod.config).await;
    let refused = refused.expect_err("the profile is not loaded");
    let field = "config.linux.security_context.apparmor.localhost_ref: ";
    assert!(refused.message().starts_with(field), "{}", refused.message());
}

/// The kubelet sends the pod as it is now, its ephemeral containers included.
async fn a_debug_container_may_be_privileged_in_a_pod_that_never_was(case: Case) {
    let mut pod = case.run_pod("debugged").await;
    pod.config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxSandboxSecurityContext { privileged: true, ..Default::default() });
    let mut config = sh("debugger", "mkdir /tmp/mnt && mount -t tmpfs none /tmp/mnt && echo mounted");
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxContainerSecurityContext { privileged: true, ..Default::default() });
    let (_, lines) = case.run_to_end(&pod, &config).await;
    assert_eq!(lines[0].2, "mounted");
}

async fn a_container_sees_the_processes_of_its_target(case: Case) {
    let pod = case.run_pod("target").await;
    let seeing = |pid: cri::NamespaceMode, target_id: String, mut config: cri::ContainerConfig| {
        let options = cri::NamespaceOption { pid: pid.into(), target_id, ..Default::default() };
        config.linux.as_mut().unwrap().security_context =
            Some(cri::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() });
        config
    };
    let target = seeing(cri::NamespaceMode::Container, String::new(), sh("target", "exec sleep 4711"));
    let target = case.start(&pod, &target).await;
    let look = sh("debugger", "tr '\\0' ' ' < /proc/1/cmdline");
    let (_, lines) = case.run_to_end(&pod, &seeing(cri::NamespaceMode::Target, target, look)).await;
    assert_eq!(lines[0].2.trim(), "sleep 4711");
}

/// A specification where every engine looks for them; gone when it is dropped.
struct CdiFile(std::path::PathBuf);

impl CdiFile {
    fn new(content: &str) -> CdiFile {
        std::fs::create_dir_all("/var/run/cdi").unwrap();
        let file = CdiFile(format!("/var/run/cdi/dsh-test-{}.json", std::process::id()).into());
        std::fs::write(&file.0, content).unwrap();
        file
    }
}

impl Drop for CdiFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn a_cdi_device_brings_what_its_specification_says(case: Case) {
    let dirs = case.lab.engine.docker.get("/info")["CDISpecDirs"].to_string();
    if !dirs.contains("/var/run/cdi") {
        eprintln!("left out, this engine has no CDI (it came with API 1.44): a device and what comes with it");
        return;
    }
    let edits = r#"{"env": ["FROM_CDI=yes"], "deviceNodes": [{"path": "/dev/from-cdi", "hostPath": "/dev/null"}]}"#;
    let device = format!(r#"{{"name": "one", "containerEdits": {edits}}}"#);
    // two specifications of one kind would hide each other's devices
    let kind = format!("dockershim.example/test-{}", std::process::id());
    let _file = CdiFile::new(&format!(r#"{{"cdiVersion": "0.5.0", "kind": "{kind}", "devices": [{device}]}}"#));
    let pod = case.run_pod("cdi").await;
    let mut config = sh("main", "test -c /dev/from-cdi && echo $FROM_CDI");
    config.cdi_devices = vec![cri::CdiDevice { name: format!("{kind}=one") }];
    let (_, lines) = case.run_to_end(&pod, &config).await;
    assert_eq!(lines[0].2, "yes");
}
