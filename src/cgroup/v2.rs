//! Readings from the cgroup v2 hierarchy, one directory for all controllers. See the kernel's admin-guide/cgroup-v2.rst.

use std::path::Path;

use super::parse::value;
use super::usage::Counters;
use super::{
    CpuTimes, Detail, Error, HugePages, Memory, Pressure, Pressures, Reader, Swap, Throttling, UNLIMITED, figures,
    huge_page_sizes, known,
};

/// CPU time used, in nanoseconds. `cpu.stat` tells microseconds, with or without the cpu controller.
pub(super) fn cpu_usage_ns(reader: &mut Reader, cgroup: &Path) -> Result<u64, Error> {
    let [usage_us] = reader.values(&cgroup.join("cpu.stat"), ["usage_usec"])?;
    Ok(ns(usage_us))
}

/// Memory and swap; every figure counts child cgroups too.
pub(super) fn memory(reader: &mut Reader, cgroup: &Path) -> Result<(Memory, Option<Swap>), Error> {
    let usage_bytes = reader.number(&cgroup.join("memory.current"))?;
    let limit_bytes = reader.number(&cgroup.join("memory.max"))?;
    let keys = ["inactive_file", "anon", "file", "file_mapped", "pgfault", "pgmajfault"];
    let [inactive_file_bytes, rss_bytes, cache_bytes, mapped_file_bytes, page_faults, major_page_faults] =
        reader.values(&cgroup.join("memory.stat"), keys)?;
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
    Ok((counters.into(), swap(reader, cgroup)?))
}

/// The files are there when the kernel accounts swap, whether or not the machine has any.
fn swap(reader: &mut Reader, cgroup: &Path) -> Result<Option<Swap>, Error> {
    let Some(usage) = known(reader.number(&cgroup.join("memory.swap.current")))? else { return Ok(None) };
    let limit = known(reader.number(&cgroup.join("memory.swap.max")))?;
    Ok(limit.map(|limit| Swap::new(usage, limit)))
}

/// Pressure: the files are there, and can be read, when the kernel was built and booted with it.
pub(super) fn pressures(reader: &mut Reader, cgroup: &Path) -> Result<Pressures, Error> {
    let mut read = |name: &str| -> Result<Option<Pressure>, Error> {
        let pressure = known(reader.text(&cgroup.join(name)).map(figures::pressure))?;
        Ok(pressure.filter(|pressure| pressure.some.is_some() || pressure.full.is_some()))
    };
    Ok(Pressures { cpu: read("cpu.pressure")?, memory: read("memory.pressure")?, io: read("io.pressure")? })
}

/// From `cpu.stat`.
pub(super) fn cpu_times(reader: &mut Reader, cgroup: &Path, detail: &mut Detail) -> Result<(), Error> {
    let times = known(reader.values(&cgroup.join("cpu.stat"), ["user_usec", "system_usec"]))?;
    detail.cpu_times = times.map(|[user, system]| CpuTimes { user_ns: ns(user), system_ns: ns(system) });
    Ok(())
}

/// From `cpu.stat`, with the cpu controller.
pub(super) fn throttling(reader: &mut Reader, cgroup: &Path, detail: &mut Detail) -> Result<(), Error> {
    let read = known(reader.values(&cgroup.join("cpu.stat"), ["nr_periods", "nr_throttled", "throttled_usec"]))?;
    detail.throttling = read.map(|[periods, throttled_periods, throttled_us]| Throttling {
        periods,
        throttled_periods,
        throttled_ns: ns(throttled_us),
    });
    Ok(())
}

/// Kernel memory is told since 5.18, the peak since 5.19.
pub(super) fn memory_detail(reader: &mut Reader, cgroup: &Path, detail: &mut Detail) -> Result<(), Error> {
    let of_parts = |stat: &str| Some(value(stat, "slab")?.saturating_add(value(stat, "kernel_stack")?));
    let kernel = |stat: &str| value(stat, "kernel").or_else(|| of_parts(stat));
    detail.kernel_bytes = known(reader.text(&cgroup.join("memory.stat")).map(kernel))?.flatten();
    detail.peak_bytes = known(reader.number(&cgroup.join("memory.peak")))?;
    let events = known(reader.values(&cgroup.join("memory.events"), ["max", "oom_kill"]))?;
    detail.limit_hits = events.map(|[hits, _]| hits);
    detail.oom_kills = events.map(|[_, kills]| kills);
    let low = known(reader.number(&cgroup.join("memory.low")))?;
    detail.reserved_bytes = low.map(|low| if low < UNLIMITED { low } else { 0 });
    Ok(())
}

/// From the io controller.
pub(super) fn devices(reader: &mut Reader, cgroup: &Path, detail: &mut Detail) -> Result<(), Error> {
    detail.devices = known(reader.text(&cgroup.join("io.stat")).map(figures::io_stat))?.unwrap_or_default();
    Ok(())
}

/// From the hugetlb controller.
pub(super) fn huge_pages(reader: &mut Reader, cgroup: &Path, detail: &mut Detail) -> Result<(), Error> {
    for size in huge_page_sizes() {
        let usage = known(reader.number(&cgroup.join(format!("hugetlb.{size}.current"))))?;
        let found = usage.map(|usage_bytes| HugePages { size: size.clone(), usage_bytes, peak_bytes: None });
        detail.huge_pages.extend(found);
    }
    Ok(())
}

fn ns(us: u64) -> u64 {
    us.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fixture::Tree;

    /// In the form of kernel 6.1, shortened.
    const STAT: &str = "anon 67108864\nfile 268435456\nkernel 1294336\nkernel_stack 49152\nfile_mapped 0\n\
        inactive_anon 67104768\nactive_anon 4096\ninactive_file 201326592\nactive_file 67108864\nunevictable 0\n\
        workingset_refault_file 7\npgscan 0\npgfault 17020\npgmajfault 3\npgrefill 0\nthp_fault_alloc 0\n";

    fn tree(current: &str, max: &str) -> Tree {
        Tree::new(&[("memory.current", current), ("memory.max", max), ("memory.stat", STAT)])
    }

    #[test]
    fn memory_with_a_limit_has_bytes_available() {
        let tree = tree("337641472\n", "536870912\n");
        let wanted = Memory {
            usage_bytes: 337_641_472,
            working_set_bytes: 136_314_880,
            rss_bytes: 67_108_864,
            cache_bytes: 268_435_456,
            mapped_file_bytes: 0,
            page_faults: 17_020,
            major_page_faults: 3,
            available_bytes: Some(400_556_032),
        };
        assert_eq!(memory(&mut Reader::default(), tree.path()).unwrap(), (wanted, None));
    }

    #[test]
    fn without_a_limit_nothing_is_said_to_be_available() {
        for max in ["max\n", "18446744073709551615\n"] {
            let tree = tree("337641472\n", max);
            assert_eq!(memory(&mut Reader::default(), tree.path()).unwrap().0.available_bytes, None);
        }
    }

    #[test]
    fn a_working_set_is_never_below_zero() {
        // the two files are read one after the other, so that the cache can shrink between
        let tree = tree("1000\n", "500\n");
        let (memory, _) = memory(&mut Reader::default(), tree.path()).unwrap();
        assert_eq!((memory.working_set_bytes, memory.available_bytes), (0, Some(500)));
    }

    #[test]
    fn cpu_time_is_told_in_nanoseconds() {
        let tree = Tree::new(&[("cpu.stat", "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n")]);
        assert_eq!(cpu_usage_ns(&mut Reader::default(), tree.path()).unwrap(), 1_234_567_000);
        let tree = Tree::new(&[("cpu.stat", "usage_usec 18446744073709551615\n")]);
        assert_eq!(cpu_usage_ns(&mut Reader::default(), tree.path()).unwrap(), u64::MAX);
    }

    #[test]
    fn swap_is_told_where_it_is_accounted() {
        for (max, available) in [("max\n", None), ("0\n", Some(0)), ("8192\n", Some(4096))] {
            let tree = Tree::new(&[("memory.swap.current", "4096\n"), ("memory.swap.max", max)]);
            let wanted = Swap { usage_bytes: 4096, available_bytes: available };
            assert_eq!(swap(&mut Reader::default(), tree.path()).unwrap(), Some(wanted));
        }
        assert_eq!(swap(&mut Reader::default(), Tree::new(&[]).path()).unwrap(), None);
    }

    #[test]
    fn pressure_is_none_where_the_kernel_has_no_psi() {
        let line = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";
        let tree = Tree::new(&[("cpu.pressure", line), ("io.pressure", ""), ("memory.pressure", "garbage\n")]);
        let read = pressures(&mut Reader::default(), tree.path()).unwrap();
        assert_eq!(read.cpu.unwrap().some.unwrap().total_us, 12);
        assert_eq!((read.memory, read.io), (None, None));
        assert_eq!(pressures(&mut Reader::default(), Tree::new(&[]).path()).unwrap(), Pressures::default());
    }

    #[test]
    fn details_are_read_in_the_form_of_kernel_6_1_and_of_older_ones() {
        let cpu = "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 900\n";
        let tree = Tree::new(&[
            ("cpu.stat", cpu),
            ("memory.stat", STAT),
            ("memory.peak", "400000000\n"),
            ("memory.events", "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\noom_group_kill 0\n"),
            ("memory.low", "max\n"),
            ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ]);
        let (mut reader, mut detail) = (Reader::default(), Detail::default());
        for read in [cpu_times, throttling, memory_detail, devices, huge_pages] {
            read(&mut reader, tree.path(), &mut detail).unwrap();
        }
        assert_eq!(detail.cpu_times, Some(CpuTimes { user_ns: 3000, system_ns: 2000 }));
        assert_eq!(detail.throttling.unwrap().throttled_ns, 900_000);
        assert_eq!((detail.kernel_bytes, detail.peak_bytes), (Some(1_294_336), Some(400_000_000)));
        assert_eq!((detail.limit_hits, detail.oom_kills, detail.reserved_bytes), (Some(6), Some(1), Some(0)));
        assert_eq!(detail.devices[0].writes, 4);
        let older = Tree::new(&[
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n"),
            ("memory.stat", "slab 5\nkernel_stack 3\n"),
        ]);
        let mut detail = Detail::default();
        for read in [cpu_times, throttling, memory_detail, devices] {
            read(&mut reader, older.path(), &mut detail).unwrap();
        }
        assert_eq!((detail.throttling, detail.kernel_bytes, detail.peak_bytes), (None, Some(8), None));
    }

    #[test]
    fn garbage_is_an_error_that_names_the_file_and_what_it_lacks() {
        for (current, stat) in [("garbage", STAT), ("", STAT), ("1", ""), ("1", "inactive_file x\n")] {
            let tree = Tree::new(&[("memory.current", current), ("memory.max", "max"), ("memory.stat", stat)]);
            let error = memory(&mut Reader::default(), tree.path()).unwrap_err();
            assert!(matches!(error, Error::Content { .. }), "{error}");
            assert!(!error.is_gone() && error.to_string().contains("/memory."), "{error}");
        }
    }
}
