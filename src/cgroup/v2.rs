//! Readings from the cgroup v2 hierarchy, one directory for all controllers. See the kernel's admin-guide/cgroup-v2.rst.

use std::path::Path;

use super::{Counters, Error, Memory, Reader};

/// CPU time used, in nanoseconds. `cpu.stat` tells microseconds, with or without the cpu controller.
pub(super) fn cpu_usage_ns(reader: &mut Reader, cgroup: &Path) -> Result<u64, Error> {
    let [usage_us] = reader.values(&cgroup.join("cpu.stat"), ["usage_usec"])?;
    Ok(usage_us.saturating_mul(1000))
}

/// Memory; every figure counts child cgroups too.
pub(super) fn memory(reader: &mut Reader, cgroup: &Path) -> Result<Memory, Error> {
    let usage_bytes = reader.number(&cgroup.join("memory.current"))?;
    let limit_bytes = reader.number(&cgroup.join("memory.max"))?;
    let keys = ["inactive_file", "anon", "pgfault", "pgmajfault"];
    let [inactive_file_bytes, rss_bytes, page_faults, major_page_faults] =
        reader.values(&cgroup.join("memory.stat"), keys)?;
    let counters =
        Counters { usage_bytes, limit_bytes, inactive_file_bytes, rss_bytes, page_faults, major_page_faults };
    Ok(counters.into())
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
            page_faults: 17_020,
            major_page_faults: 3,
            available_bytes: Some(400_556_032),
        };
        assert_eq!(memory(&mut Reader::default(), tree.path()).unwrap(), wanted);
    }

    #[test]
    fn without_a_limit_nothing_is_said_to_be_available() {
        for max in ["max\n", "18446744073709551615\n"] {
            let tree = tree("337641472\n", max);
            assert_eq!(memory(&mut Reader::default(), tree.path()).unwrap().available_bytes, None);
        }
    }

    #[test]
    fn a_working_set_is_never_below_zero() {
        // the two files are read one after the other, so that the cache can shrink between
        let tree = tree("1000\n", "500\n");
        let memory = memory(&mut Reader::default(), tree.path()).unwrap();
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
    fn garbage_is_an_error_that_names_the_file_and_what_it_lacks() {
        for (current, stat) in [("garbage", STAT), ("", STAT), ("1", ""), ("1", "inactive_file x\n")] {
            let tree = Tree::new(&[("memory.current", current), ("memory.max", "max"), ("memory.stat", stat)]);
            let error = memory(&mut Reader::default(), tree.path()).unwrap_err();
            assert!(matches!(error, Error::Content { .. }), "{error}");
            assert!(!error.is_gone() && error.to_string().contains("/memory."), "{error}");
        }
    }
}
