//! Readings from cgroup v1 hierarchies, one directory per controller.
//! See the kernel's admin-guide/cgroup-v1, `cpuacct.rst` and `memory.rst`.

use std::path::Path;

use super::usage::Counters;
use super::{
    CpuTimes, Detail, Error, HugePages, Memory, Reader, Swap, Throttling, UNLIMITED, figures, huge_page_sizes, known,
};

/// What `cpuacct.stat` counts in: a hundredth of a second on every machine that runs containers (USER_HZ).
const TICK_NS: u64 = 10_000_000;

/// CPU time used, in nanoseconds, from the cgroup's directory under the `cpuacct` controller.
pub(super) fn cpu_usage_ns(reader: &mut Reader, cpuacct: &Path) -> Result<u64, Error> {
    reader.number(&cpuacct.join("cpuacct.usage"))
}

/// Memory and swap, from the cgroup's directory under the `memory` controller. The `total_` keys count child cgroups too.
pub(super) fn memory(reader: &mut Reader, memory: &Path) -> Result<(Memory, Option<Swap>), Error> {
    let usage_bytes = reader.number(&memory.join("memory.usage_in_bytes"))?;
    let limit_bytes = reader.number(&memory.join("memory.limit_in_bytes"))?;
    // this limit is of memory and swap together; the file is there when the kernel accounts swap
    let both_bytes = known(reader.number(&memory.join("memory.memsw.limit_in_bytes")))?;
    let keys =
        ["total_inactive_file", "total_rss", "total_cache", "total_mapped_file", "total_pgfault", "total_pgmajfault"];
    let [inactive_file_bytes, rss_bytes, cache_bytes, mapped_file_bytes, page_faults, major_page_faults] =
        reader.values(&memory.join("memory.stat"), keys)?;
    let swap = match (both_bytes, reader.value_again("total_swap")) {
        (Some(both), Some(usage)) if both < UNLIMITED => Some(Swap::new(usage, both.saturating_sub(limit_bytes))),
        (Some(_unlimited), Some(usage)) => Some(Swap::new(usage, UNLIMITED)),
        _ => None,
    };
    let counters = Counters {
        usage_bytes,
        limit_bytes,
        inactive_file_bytes,
        rss_bytes,
        cache_bytes,
        mapped_file_bytes,
        page_faults,
        major_page_faults,
    };
    Ok((counters.into(), swap))
}

/// From the `cpuacct` controller.
pub(super) fn cpu_times(reader: &mut Reader, cpuacct: &Path, detail: &mut Detail) -> Result<(), Error> {
    let ticks = known(reader.values(&cpuacct.join("cpuacct.stat"), ["user", "system"]))?;
    let ns = |ticks: u64| ticks.saturating_mul(TICK_NS);
    detail.cpu_times = ticks.map(|[user, system]| CpuTimes { user_ns: ns(user), system_ns: ns(system) });
    Ok(())
}

/// From the `cpu` controller.
pub(super) fn throttling(reader: &mut Reader, cpu: &Path, detail: &mut Detail) -> Result<(), Error> {
    let read = known(reader.values(&cpu.join("cpu.stat"), ["nr_periods", "nr_throttled", "throttled_time"]))?;
    detail.throttling =
        read.map(|[periods, throttled_periods, throttled_ns]| Throttling { periods, throttled_periods, throttled_ns });
    Ok(())
}

/// From the `memory` controller.
pub(super) fn memory_detail(reader: &mut Reader, memory: &Path, detail: &mut Detail) -> Result<(), Error> {
    detail.kernel_bytes = known(reader.number(&memory.join("memory.kmem.usage_in_bytes")))?;
    detail.peak_bytes = known(reader.number(&memory.join("memory.max_usage_in_bytes")))?;
    detail.limit_hits = known(reader.number(&memory.join("memory.failcnt")))?;
    let soft = known(reader.number(&memory.join("memory.soft_limit_in_bytes")))?;
    detail.reserved_bytes = soft.map(|limit| if limit < UNLIMITED { limit } else { 0 });
    let kills = known(reader.values(&memory.join("memory.oom_control"), ["oom_kill"]))?;
    detail.oom_kills = kills.map(|[kills]| kills);
    Ok(())
}

/// From the `blkio` controller.
pub(super) fn devices(reader: &mut Reader, blkio: &Path, detail: &mut Detail) -> Result<(), Error> {
    let mut text = |name: &str| Ok(known(reader.text(&blkio.join(name)).map(str::to_owned))?.unwrap_or_default());
    let bytes: String = text("blkio.throttle.io_service_bytes_recursive")?;
    let requests: String = text("blkio.throttle.io_serviced_recursive")?;
    detail.devices = figures::blkio(&bytes, &requests);
    Ok(())
}

/// From the `hugetlb` controller.
pub(super) fn huge_pages(reader: &mut Reader, hugetlb: &Path, detail: &mut Detail) -> Result<(), Error> {
    for size in huge_page_sizes() {
        let usage = known(reader.number(&hugetlb.join(format!("hugetlb.{size}.usage_in_bytes"))))?;
        let Some(usage_bytes) = usage else { continue };
        let peak_bytes = known(reader.number(&hugetlb.join(format!("hugetlb.{size}.max_usage_in_bytes"))))?;
        detail.huge_pages.push(HugePages { size: size.clone(), usage_bytes, peak_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fixture::Tree;

    /// Recorded on kernel 6.18, shortened.
    const STAT: &str = "cache 790528\nrss 1859584\ninactive_file 131072\npgfault 69353\npgmajfault 19\n\
        hierarchical_memory_limit 9223372036854771712\ntotal_cache 790528\ntotal_rss 1859584\ntotal_mapped_file 4096\n\
        total_pgfault 69353\ntotal_pgmajfault 19\ntotal_inactive_anon 1736704\ntotal_inactive_file 131072\n";

    #[test]
    fn memory_is_read_without_page_cache_that_can_go() {
        let tree = Tree::new(&[
            ("memory.usage_in_bytes", "2912256\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.stat", STAT),
        ]);
        let wanted = Memory {
            usage_bytes: 2_912_256,
            working_set_bytes: 2_912_256 - 131_072,
            rss_bytes: 1_859_584,
            cache_bytes: 790_528,
            mapped_file_bytes: 4096,
            page_faults: 69_353,
            major_page_faults: 19,
            available_bytes: None,
        };
        assert_eq!(memory(&mut Reader::default(), tree.path()).unwrap(), (wanted, None));
    }

    #[test]
    fn the_limit_of_swap_is_what_memory_and_swap_have_beyond_memory() {
        let stat = format!("{STAT}total_swap 4096\n");
        for (both, available) in [("150000\n", Some(50_000 - 4096)), ("9223372036854771712\n", None), ("5\n", Some(0))]
        {
            let tree = Tree::new(&[
                ("memory.usage_in_bytes", "90000\n"),
                ("memory.limit_in_bytes", "100000\n"),
                ("memory.memsw.limit_in_bytes", both),
                ("memory.stat", &stat),
            ]);
            let (_, swap) = memory(&mut Reader::default(), tree.path()).unwrap();
            assert_eq!(swap, Some(Swap { usage_bytes: 4096, available_bytes: available }), "{both}");
        }
    }

    #[test]
    fn details_are_read_where_the_kernel_has_them() {
        let tree = Tree::new(&[
            ("cpuacct.stat", "user 250\nsystem 50\n"),
            ("cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 123456789\nnr_bursts 0\n"),
            ("memory.max_usage_in_bytes", "3000000\n"),
            ("memory.failcnt", "2\n"),
            ("memory.soft_limit_in_bytes", "9223372036854771712\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"),
            ("blkio.throttle.io_service_bytes_recursive", "254:0 Read 4096\n254:0 Write 0\nTotal 4096\n"),
        ]);
        let (mut reader, mut detail) = (Reader::default(), Detail::default());
        for read in [cpu_times, throttling, memory_detail, devices, huge_pages] {
            read(&mut reader, tree.path(), &mut detail).unwrap();
        }
        assert_eq!(detail.cpu_times, Some(CpuTimes { user_ns: 2_500_000_000, system_ns: 500_000_000 }));
        let throttled = Throttling { periods: 10, throttled_periods: 3, throttled_ns: 123_456_789 };
        assert_eq!(detail.throttling, Some(throttled));
        assert_eq!((detail.kernel_bytes, detail.peak_bytes, detail.limit_hits), (None, Some(3_000_000), Some(2)));
        assert_eq!((detail.reserved_bytes, detail.oom_kills), (Some(0), Some(4)));
        assert_eq!((detail.devices.len(), detail.devices[0].read_bytes), (1, 4096));
        assert!(detail.huge_pages.is_empty());
        let path = tree.path().to_owned();
        drop(tree);
        assert!(memory_detail(&mut reader, &path, &mut detail).unwrap_err().is_gone());
    }

    #[test]
    fn cpu_time_is_nanoseconds() {
        let tree = Tree::new(&[("cpuacct.usage", "123456789012\n")]);
        assert_eq!(cpu_usage_ns(&mut Reader::default(), tree.path()).unwrap(), 123_456_789_012);
    }
}
