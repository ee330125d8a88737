//! Readings from cgroup v1 hierarchies, one directory per controller.
//! See the kernel's admin-guide/cgroup-v1, `cpuacct.rst` and `memory.rst`.

use std::path::Path;

use super::{Counters, Error, Memory, Reader};

/// CPU time used, in nanoseconds, from the cgroup's directory under the `cpuacct` controller.
pub(super) fn cpu_usage_ns(reader: &mut Reader, cpuacct: &Path) -> Result<u64, Error> {
    reader.number(&cpuacct.join("cpuacct.usage"))
}

/// Memory, from the cgroup's directory under the `memory` controller. The `total_` keys count child cgroups too.
pub(super) fn memory(reader: &mut Reader, memory: &Path) -> Result<Memory, Error> {
    let usage_bytes = reader.number(&memory.join("memory.usage_in_bytes"))?;
    let limit_bytes = reader.number(&memory.join("memory.limit_in_bytes"))?;
    let keys = ["total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"];
    let [inactive_file_bytes, rss_bytes, page_faults, major_page_faults] =
        reader.values(&memory.join("memory.stat"), keys)?;
    let counters =
        Counters { usage_bytes, limit_bytes, inactive_file_bytes, rss_bytes, page_faults, major_page_faults };
    Ok(counters.into())
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
            page_faults: 69_353,
            major_page_faults: 19,
            available_bytes: None,
        };
        assert_eq!(memory(&mut Reader::default(), tree.path()).unwrap(), wanted);
    }

    #[test]
    fn cpu_time_is_nanoseconds() {
        let tree = Tree::new(&[("cpuacct.usage", "123456789012\n")]);
        assert_eq!(cpu_usage_ns(&mut Reader::default(), tree.path()).unwrap(), 123_456_789_012);
    }
}
