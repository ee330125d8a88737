//! What real kernels have shown of a container whose work is known (tests/fixtures), from the process to the figures.

use super::*;

const MIB: u64 = 1 << 20;

/// The cgroup of a recorded container.
fn recorded(name: &str) -> Cgroup {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let text = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
    let here = dir.to_str().unwrap().replace(' ', "\\040");
    let mounts = parse::mounts(&text("mountinfo").replace("/sys/fs/cgroup", &here));
    Cgroup::of_memberships(&text("membership"), &mounts).unwrap()
}

/// Whether a figure is within a hundredth of the truth.
fn is_about(figure: u64, truth: u64) -> bool {
    figure.abs_diff(truth) <= truth / 100
}

fn some(pressure: Option<&Pressure>) -> Stall {
    pressure.and_then(|pressure| pressure.some).unwrap()
}

fn full(pressure: Option<&Pressure>) -> Stall {
    pressure.and_then(|pressure| pressure.full).unwrap()
}

#[test]
fn usage_of_a_container_on_cgroup_v1() {
    let Usage { cpu_usage_ns, memory, swap, pressure } = recorded("docker-20.10-cgroup-v1").usage().unwrap();
    assert_eq!(cpu_usage_ns, 3_044_574_482);
    let wanted = Memory {
        usage_bytes: 102_686_720,
        working_set_bytes: 102_686_720 - 33_554_432,
        rss_bytes: 67_346_432,
        cache_bytes: 33_554_432,
        mapped_file_bytes: 0,
        page_faults: 59_751,
        major_page_faults: 0,
        available_bytes: Some(167_772_160 - (102_686_720 - 33_554_432)),
    };
    assert_eq!(memory, wanted);
    // what it did: the limit, the files that it wrote, what it held
    assert_eq!((160 * MIB, (24 + 8) * MIB), (167_772_160, memory.cache_bytes));
    assert!(is_about(memory.rss_bytes, 64 * MIB));
    // the Engine allows as much swap as memory
    assert_eq!(swap, Some(Swap { usage_bytes: 0, available_bytes: Some(335_544_320 - 167_772_160) }));
    let cpu = some(pressure.cpu.as_ref());
    assert_eq!(cpu, Stall { total_us: 5_502_317, avg10: 4.31, avg60: 6.50, avg300: 1.90 });
    assert_eq!(full(pressure.cpu.as_ref()).total_us, 2_958_729);
    assert_eq!((some(pressure.memory.as_ref()).total_us, full(pressure.io.as_ref()).total_us), (8555, 48_516));
}

#[test]
fn details_of_a_container_on_cgroup_v1() {
    let cgroup = recorded("docker-20.10-cgroup-v1");
    let wanted = Detail {
        cpu_times: Some(CpuTimes { user_ns: 2_550_000_000, system_ns: 480_000_000 }),
        throttling: Some(Throttling { periods: 69, throttled_periods: 59, throttled_ns: 1_403_081_741 }),
        kernel_bytes: Some(1_662_976),
        peak_bytes: Some(160 * MIB),
        limit_hits: Some(106),
        reserved_bytes: Some(0),
        oom_kills: Some(1),
        // this kernel counts no writes for a cgroup of v1: both files say `Total 0`
        devices: Vec::new(),
        // the controller is not mounted
        huge_pages: Vec::new(),
        threads: Some(5),
        threads_max: Some(64),
    };
    assert_eq!(cgroup.detail().unwrap(), wanted);
    assert_eq!(cgroup.processes().unwrap(), [5437, 5468, 5470, 5471, 5484]);
}

#[test]
fn usage_of_a_container_on_cgroup_v2() {
    let Usage { cpu_usage_ns, memory, swap, pressure } = recorded("docker-26.1-cgroup-v2").usage().unwrap();
    assert_eq!(cpu_usage_ns, 28_054_324_000);
    let wanted = Memory {
        usage_bytes: 96_514_048,
        working_set_bytes: 96_514_048 - 27_262_976,
        rss_bytes: 67_469_312,
        cache_bytes: 27_262_976,
        mapped_file_bytes: 0,
        page_faults: 5503,
        major_page_faults: 0,
        available_bytes: Some(167_772_160 - (96_514_048 - 27_262_976)),
    };
    assert_eq!(memory, wanted);
    // what it did: the limit, the files that it wrote less what was reclaimed, what it held
    assert_eq!((160 * MIB, (24 + 8 - 6) * MIB), (167_772_160, memory.cache_bytes));
    assert!(is_about(memory.rss_bytes, 64 * MIB));
    // `docker stats` told 66.04MiB
    assert!(memory.working_set_bytes.abs_diff(6604 * MIB / 100) <= MIB / 100);
    assert_eq!(swap, Some(Swap { usage_bytes: 0, available_bytes: Some(33_554_432) }));
    let cpu = some(pressure.cpu.as_ref());
    assert_eq!(cpu, Stall { total_us: 12_706_908, avg10: 4.52, avg60: 11.59, avg300: 3.79 });
    assert_eq!(full(pressure.cpu.as_ref()).total_us, 6_032_472);
    assert_eq!((some(pressure.memory.as_ref()).total_us, full(pressure.io.as_ref()).total_us), (221_927, 18_977));
}

#[test]
fn details_of_a_container_on_cgroup_v2() {
    let cgroup = recorded("docker-26.1-cgroup-v2");
    let written = DeviceIo { major: 254, minor: 0, write_bytes: (24 + 8) * MIB, writes: 36, ..DeviceIo::default() };
    // as far as the machine that runs this has the same sizes
    let sizes = huge_page_sizes().iter().filter(|size| *size == "2MB");
    let wanted = Detail {
        cpu_times: Some(CpuTimes { user_ns: 6_192_811_000, system_ns: 21_861_513_000 }),
        throttling: Some(Throttling { periods: 292, throttled_periods: 112, throttled_ns: 4_236_134_000 }),
        kernel_bytes: Some(1_781_760),
        peak_bytes: Some(160 * MIB),
        limit_hits: Some(79),
        reserved_bytes: Some(0),
        oom_kills: Some(1),
        devices: vec![written],
        huge_pages: sizes.map(|size| HugePages { size: size.clone(), usage_bytes: 0, peak_bytes: None }).collect(),
        threads: Some(7),
        threads_max: Some(64),
    };
    assert_eq!(cgroup.detail().unwrap(), wanted);
    assert_eq!(cgroup.processes().unwrap(), [799, 832, 835, 836, 837, 899, 929]);
}

/// A slice has no limits of its own here: `max` in each file.
#[test]
fn the_pods_slice_around_it_has_its_figures_and_no_limits() {
    let pod = recorded("docker-26.1-cgroup-v2").parent().unwrap();
    let (usage, detail) = (pod.usage().unwrap(), pod.detail().unwrap());
    assert_eq!((usage.cpu_usage_ns, usage.memory.rss_bytes), (28_054_324_000, 67_469_312));
    assert_eq!(usage.memory.working_set_bytes, 96_526_336 - 27_262_976);
    assert_eq!((usage.memory.available_bytes, usage.swap.unwrap().available_bytes), (None, None));
    let unthrottled = Throttling { periods: 0, throttled_periods: 0, throttled_ns: 0 };
    assert_eq!((detail.throttling, detail.threads_max), (Some(unthrottled), Some(0)));
    assert_eq!(pod.processes().unwrap().len(), 7);
}
