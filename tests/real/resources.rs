//! Limits and what becomes of them: cgroup files, updates, statistics, what the kubelet sends on cgroup v2, oom_score_adj.

use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Stage, eventually, sh, sleeper, texts, trials};
use crate::support::engine::Options;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = trials![Stage::Shared;
        limits_reach_the_cgroup_and_the_status,
        an_update_reaches_the_cgroup_and_the_status,
        memory_can_be_raised_and_lowered,
        swap_is_what_was_asked_and_none_where_nothing_was,
        what_the_kubelet_sends_on_cgroup_v2_is_taken,
        a_negative_oom_score_adj_works_on_every_machine,
        statistics_come_from_the_containers_cgroup,
        the_cgroup_parent_is_honoured,
    ];
    trials.extend(trials![Stage::Own(Options::default());
        an_oom_score_can_be_updated_and_is_known_after_a_restart,
        limits_beside_docker_are_held_and_known_after_a_restart,
    ]);
    trials
}

/// The value of a container's cgroup file, by its v1 controller and name, or its v2 name.
fn cgroup_file(case: &Case, id: &str, v1: (&str, &str), v2: &str) -> String {
    let path = cgroup_path(case, id, v1, v2);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

fn cgroup_path(case: &Case, id: &str, v1: (&str, &str), v2: &str) -> String {
    let pid = case.lab.engine.docker.get(&format!("/containers/{id}/json"))["State"]["Pid"].as_i64().unwrap();
    let places = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let (controller, name) = v1;
    let path = places.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, place) = (fields.next()?, fields.next()?);
        let here = controllers.split(',').any(|known| known == controller);
        here.then(|| format!("/sys/fs/cgroup/{controller}{place}/{name}"))
    });
    let unified = || places.lines().find_map(|line| Some(format!("/sys/fs/cgroup{}/{v2}", line.strip_prefix("0::")?)));
    path.or_else(unified).unwrap()
}

fn memory_limit(case: &Case, id: &str) -> String {
    cgroup_file(case, id, ("memory", "memory.limit_in_bytes"), "memory.max")
}

/// The status's limits.
async fn told(case: &Case, id: &str) -> cri::LinuxContainerResources {
    case.cri.status(id).await.unwrap().resources.unwrap().linux.unwrap()
}

/// A running container with these limits, in a pod of its own.
async fn limited(case: &Case, resources: cri::LinuxContainerResources) -> String {
    limited_in(case, "limited", resources).await
}

async fn limited_in(case: &Case, pod: &str, resources: cri::LinuxContainerResources) -> String {
    let pod = case.run_pod(pod).await;
    let mut config = sleeper("main");
    config.linux.as_mut().unwrap().resources = Some(resources);
    case.start(&pod, &config).await
}

async fn limits_reach_the_cgroup_and_the_status(case: Case) {
    let resources = cri::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        cpuset_cpus: "0".to_owned(),
        ..Default::default()
    };
    let id = limited(&case, resources.clone()).await;
    assert_eq!(memory_limit(&case, &id), (64 << 20).to_string());
    let quota = cgroup_file(&case, &id, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(cgroup_file(&case, &id, ("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
    let told = told(&case, &id).await;
    assert_eq!((told.cpu_period, told.cpu_quota, told.cpu_shares), (100_000, 50_000, 512));
    assert_eq!((told.memory_limit_in_bytes, told.cpuset_cpus.as_str()), (64 << 20, "0"));
}

async fn an_update_reaches_the_cgroup_and_the_status(case: Case) {
    let limits = cri::LinuxContainerResources::default;
    let id =
        limited(&case, cri::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, cpu_shares: 256, ..limits() })
            .await;
    let cpu = cri::LinuxContainerResources { cpu_period: 100_000, cpu_quota: 30_000, cpu_shares: 1024, ..limits() };
    case.cri.update(&id, cpu).await.unwrap();
    let told_now = told(&case, &id).await;
    assert_eq!((told_now.cpu_quota, told_now.cpu_shares, told_now.memory_limit_in_bytes), (30_000, 1024, 64 << 20));
    let quota = cgroup_file(&case, &id, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert!(quota == "30000" || quota == "30000 100000", "{quota}");
    case.cri.update(&id, limits()).await.unwrap();
    assert_eq!(told(&case, &id).await, told_now, "zeros change nothing");
}

async fn memory_can_be_raised_and_lowered(case: Case) {
    let memory = |mib: i64| cri::LinuxContainerResources { memory_limit_in_bytes: mib << 20, ..Default::default() };
    let id = limited(&case, memory(64)).await;
    for mib in [128, 32] {
        case.cri.update(&id, memory(mib)).await.unwrap();
        assert_eq!(memory_limit(&case, &id), (mib << 20).to_string());
        assert_eq!(told(&case, &id).await.memory_limit_in_bytes, mib << 20);
    }
}

/// Memory and swap together, as cgroup v1 counts them; on v2 swap alone.
async fn swap_is_what_was_asked_and_none_where_nothing_was(case: Case) {
    if case.lab.engine.docker.get("/info")["SwapLimit"] != true {
        eprintln!("left out, this machine's kernel doesn't limit swap: what containers may swap");
        return;
    }
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    for (asked, together) in [(0_i64, 64_i64), (64, 64), (96, 96)] {
        let resources = cri::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            memory_swap_limit_in_bytes: asked << 20,
            ..Default::default()
        };
        let id = limited_in(&case, &format!("swap{asked}"), resources).await;
        let held = cgroup_file(&case, &id, ("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
        let expected = (if unified { together - 64 } else { together }) << 20;
        assert_eq!(held, expected.to_string(), "{asked} MiB asked for");
        assert_eq!(told(&case, &id).await.memory_swap_limit_in_bytes, together << 20);
        let more = cri::LinuxContainerResources { memory_limit_in_bytes: 128 << 20, ..Default::default() };
        case.cri.update(&id, more).await.unwrap();
        assert_eq!(memory_limit(&case, &id), (128 << 20).to_string(), "swap does not stand in its way");
    }
}

async fn what_the_kubelet_sends_on_cgroup_v2_is_taken(case: Case) {
    let hugepage = |page_size: &str| cri::HugepageLimit { page_size: page_size.to_owned(), limit: 0 };
    let id = limited(
        &case,
        cri::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_shares: 102,
            memory_limit_in_bytes: 100 << 20,
            oom_score_adj: 999,
            hugepage_limits: vec![hugepage("2MB"), hugepage("1GB")],
            unified: texts(&[("memory.oom.group", "1"), ("memory.swap.max", "0")]),
            ..Default::default()
        },
    )
    .await;
    assert_eq!(memory_limit(&case, &id), (100 << 20).to_string());
    if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        eprintln!("left out, this machine has cgroup v1: what the kubelet's unified keys become");
        return;
    }
    let file = |name: &str| cgroup_file(&case, &id, ("none", ""), name);
    assert_eq!((file("memory.oom.group"), file("memory.swap.max")), ("1".to_owned(), "0".to_owned()));
}

async fn a_negative_oom_score_adj_works_on_every_machine(case: Case) {
    let id = limited(&case, cri::LinuxContainerResources { oom_score_adj: -997, ..Default::default() }).await;
    let score: i32 = case.output(&id, "cat /proc/1/oom_score_adj").await.trim().parse().unwrap();
    // without CAP_SYS_RESOURCE it is raised to the daemon's own score, and only so far
    let ours: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    assert!(score == -997 || score == ours, "{score}");
}

async fn statistics_come_from_the_containers_cgroup(case: Case) {
    let pod = case.run_pod("stats").await;
    let id = case.start(&pod, &sh("busy", "head -c 20000000 /dev/zero | md5sum; exec tail -f /dev/null")).await;
    let look = || async {
        let stats = case.cri.stats(&id).await.unwrap();
        let (cpu, memory) = (stats.cpu?, stats.memory?);
        let used =
            cpu.usage_core_nano_seconds.as_ref()?.value > 1_000_000 && memory.working_set_bytes.as_ref()?.value > 0;
        used.then_some((stats, cpu, memory))
    };
    let (stats, cpu, memory) = eventually("there are statistics", Duration::from_secs(10), look).await;
    let attributes = stats.attributes.unwrap();
    assert_eq!((attributes.id.as_str(), attributes.metadata.unwrap().name.as_str()), (id.as_str(), "busy"));
    assert!(cpu.timestamp > 0 && memory.timestamp > 0);
    assert!(memory.working_set_bytes.unwrap().value < 512 << 20);
    let filter = cri::ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let request = cri::ListContainerStatsRequest { filter: Some(filter) };
    let listed = case.cri.runtime().list_container_stats(request).await.unwrap().into_inner().stats;
    let ids: Vec<_> = listed.into_iter().map(|stats| stats.attributes.unwrap().id).collect();
    assert_eq!(ids, [id]);
}

async fn the_cgroup_parent_is_honoured(case: Case) {
    let systemd = case.lab.engine.docker.get("/info")["CgroupDriver"] == "systemd";
    let parent = if systemd { "dshtest-pod1.slice" } else { "/dshtest/pod1" };
    let mut config = case.pod("parent");
    config.linux.as_mut().unwrap().cgroup_parent = parent.to_owned();
    let pod = case.run(config).await;
    let id = case.start(&pod, &sleeper("main")).await;
    let pid = case.lab.engine.docker.get(&format!("/containers/{id}/json"))["State"]["Pid"].as_i64().unwrap();
    let places = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(places.contains(&format!("{parent}/")), "{places}");
    // the parent is the kubelet's, which removes it again
    case.cri.remove_pod(&pod.id).await.unwrap();
    crate::lab::remove_cgroups(&["dshtest/pod1", "dshtest", "dshtest.slice/dshtest-pod1.slice", "dshtest.slice"]);
}

async fn restart(case: &Case) {
    case.lab.shim.kill();
    case.lab.shim.start_again();
    crate::lab::runtime_ready(&case.cri, true).await;
}

/// Of a container's own process: the first one of its namespace may be the pod's.
fn oom_score(case: &Case, id: &str) -> String {
    let pid = case.lab.engine.docker.get(&format!("/containers/{id}/json"))["State"]["Pid"].as_i64().unwrap();
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned()
}

async fn an_oom_score_can_be_updated_and_is_known_after_a_restart(case: Case) {
    let id = limited(&case, cri::LinuxContainerResources { oom_score_adj: 300, ..Default::default() }).await;
    assert_eq!(told(&case, &id).await.oom_score_adj, 300);
    case.cri.update(&id, cri::LinuxContainerResources { oom_score_adj: 400, ..Default::default() }).await.unwrap();
    assert_eq!(oom_score(&case, &id), "400");
    assert_eq!(told(&case, &id).await.oom_score_adj, 400);
    // an update of Docker's own fields leaves it
    case.cri.update(&id, cri::LinuxContainerResources { cpu_shares: 300, ..Default::default() }).await.unwrap();
    assert_eq!((told(&case, &id).await.oom_score_adj, told(&case, &id).await.cpu_shares), (400, 300));
    restart(&case).await;
    assert_eq!((told(&case, &id).await.oom_score_adj, told(&case, &id).await.cpu_shares), (400, 300));
    assert_eq!(oom_score(&case, &id), "400");
    let user = case.cri.status(&id).await.unwrap().user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid), (0, 0));
    let created = case.create(&case.run_pod("created").await, &sleeper("main")).await;
    case.cri.update(&created, cri::LinuxContainerResources { oom_score_adj: 500, ..Default::default() }).await.unwrap();
    restart(&case).await;
    case.cri.start(&created).await.unwrap();
    assert_eq!(oom_score(&case, &created), "500");
}

/// Where the hugetlb controller can limit (also in v1), it serves; without one there is nothing to hold.
async fn limits_beside_docker_are_held_and_known_after_a_restart(case: Case) {
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !unified && !std::path::Path::new("/sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes").exists() {
        eprintln!("left out, this machine has no hugetlb controller: limits beside docker that drift");
        return;
    }
    let huge = |mib: u64| cri::LinuxContainerResources {
        hugepage_limits: vec![cri::HugepageLimit { page_size: "2MB".to_owned(), limit: mib << 20 }],
        ..Default::default()
    };
    let id = limited(&case, huge(4)).await;
    let held = || cgroup_file(&case, &id, ("hugetlb", "hugetlb.2MB.limit_in_bytes"), "hugetlb.2MB.max");
    assert_eq!(held(), (4 << 20).to_string());
    case.cri.update(&id, huge(6)).await.unwrap();
    assert_eq!(held(), (6 << 20).to_string());
    case.cri.update(&id, cri::LinuxContainerResources { cpu_shares: 300, ..Default::default() }).await.unwrap();
    assert_eq!(held(), (6 << 20).to_string());
    assert_eq!(told(&case, &id).await.hugepage_limits[0].limit, 6 << 20);
    case.lab.shim.kill();
    let drifted = cgroup_path(&case, &id, ("hugetlb", "hugetlb.2MB.limit_in_bytes"), "hugetlb.2MB.max");
    std::fs::write(drifted, "2097152").unwrap();
    case.lab.shim.start_again();
    let again = || async { (held() == (6 << 20).to_string()).then_some(()) };
    eventually("the limit holds again", Duration::from_secs(20), again).await;
    assert_eq!(told(&case, &id).await.hugepage_limits[0].limit, 6 << 20);
}
