//! Whether a cgroup file holds what was written into it: the kernel shows many values in another form than it takes them. Pure.
//!
//! Each rule is that of the file's description in the kernel's admin-guide/cgroup-v2.

use std::collections::BTreeSet;

use super::UNLIMITED;

const PAGE_BYTES: u64 = 4096;

/// Whether the content of the file `name` says what `written` asked for.
pub(super) fn is_same(name: &str, held: &str, written: &str) -> bool {
    match name {
        _ if held == written => true,
        // a quota alone leaves the period as it is
        "cpu.max" => held.split_whitespace().next() == Some(written.trim()),
        "cpu.uclamp.min" | "cpu.uclamp.max" => held.parse::<f64>().is_ok_and(|held| written.parse() == Ok(held)),
        "cpuset.cpus" | "cpuset.mems" => numbers(held).is_some_and(|held| Some(held) == numbers(written)),
        "io.weight" | "io.bfq.weight" if !written.contains(char::is_whitespace) => {
            has_line(held, &format!("default {written}"))
        }
        _ => is_same_number(name, held, written) || written.lines().all(|line| has_line(held, line)),
    }
}

/// Bytes are rounded down to whole pages, of the size that the file is for; on v1 the largest number is no limit.
fn is_same_number(name: &str, held: &str, written: &str) -> bool {
    match (held.parse::<u64>(), written.parse::<u64>()) {
        (Ok(held), Ok(written)) => page(name).is_some_and(|page| held == written - written % page),
        (Ok(held), Err(_)) => written == "max" && held >= UNLIMITED,
        _ => false,
    }
}

/// The unit of a file that holds bytes; None: it holds something else.
fn page(name: &str) -> Option<u64> {
    if let Some(size) = name.strip_prefix("hugetlb.") {
        let size = size.split('.').next().unwrap_or_default();
        let units = [("KB", 10), ("MB", 20), ("GB", 30)];
        let page = units.iter().find_map(|(unit, shift)| Some(size.strip_suffix(unit)?.parse::<u64>().ok()? << shift));
        return page.filter(|page| *page > 0);
    }
    let counts_memory = matches!(name, "memory.min" | "memory.low" | "memory.high" | "memory.max")
        || name == "memory.zswap.max"
        || name.starts_with("memory.swap.");
    counts_memory.then_some(PAGE_BYTES)
}

/// Whether a file with a line for each device or resource has one for this line's, with all its `key=value` words among others.
/// A line of one word, or without such words, must be there as it is.
fn has_line(held: &str, written: &str) -> bool {
    let (key, values) = written.split_once(' ').unwrap_or((written, ""));
    let of_key = held.lines().find_map(|line| match line.split_once(' ') {
        Some((held_key, values)) if held_key == key => Some(values),
        _ => None,
    });
    let Some(held) = of_key else {
        // a device without limits has no line
        return !values.is_empty() && values.split_whitespace().all(|value| value.ends_with("=max"));
    };
    let held: BTreeSet<_> = held.split_whitespace().collect();
    !values.is_empty() && values.split_whitespace().all(|value| held.contains(value))
}

/// A list as `0-2,4`; None when it is none, or longer than any machine's.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    const MOST: u32 = 1 << 16;
    let mut all = BTreeSet::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_kernel_shows_in_another_form_is_the_same() {
        for (name, held, written) in [
            ("memory.high", "4096", "5000"),
            ("memory.max", "9223372036854771712", "max"),
            ("hugetlb.2MB.max", "2097152", "3145729"),
            ("hugetlb.1GB.rsvd.max", "0", "1048576"),
            ("cpu.max", "50000 100000", "50000"),
            ("cpu.max", "max 100000", "max"),
            ("cpuset.cpus", "0-2,5", "0,1,2,5"),
            ("io.weight", "default 200\n8:16 50", "200"),
            ("io.weight", "default 200\n8:16 50", "default 200"),
            ("io.weight", "default 200\n8:16 50", "8:16 50"),
            (
                "io.max",
                "8:0 rbps=1048576 wbps=max riops=max wiops=120\n8:16 rbps=1 wbps=max riops=max wiops=max",
                "8:0 wiops=120 rbps=1048576",
            ),
            ("io.max", "", "8:0 rbps=max wbps=max"),
            ("memory.zswap.max", "4096", "5000"),
            ("cpu.uclamp.min", "50.00", "50"),
            ("rdma.max", "mlx4_0 hca_handle=2 hca_object=2000", "mlx4_0 hca_handle=2"),
        ] {
            assert!(is_same(name, held, written), "{name}: {held:?} {written:?}");
        }
    }

    #[test]
    fn what_something_else_has_changed_is_not() {
        for (name, held, written) in [
            ("memory.high", "8192", "5000"),
            ("memory.oom.group", "0", "1"),
            ("pids.max", "4096", "4097"),
            ("hugetlb.2MB.max", "4096", "3145729"),
            ("cpu.max", "max 100000", "50000"),
            ("cpuset.cpus", "0-3", "0,1"),
            ("io.weight", "default 100\n8:16 200", "200"),
            ("io.max", "8:0 rbps=max wbps=max riops=max wiops=max", "8:0 rbps=1048576"),
            ("io.max", "", "8:0 rbps=1048576"),
            ("io.max", "8:16 rbps=1048576 wbps=max riops=max wiops=max", "8:0 rbps=1048576"),
        ] {
            assert!(!is_same(name, held, written), "{name}: {held:?} {written:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            name in "(cpu\\.max|cpuset\\.cpus|io\\.(max|weight)|memory\\.high|hugetlb\\.[0-9]{0,20}[KMG]B\\.max)",
            held in "[0-9a-z:=, \n-]{0,24}", written in "[0-9a-z:=, \n-]{0,24}",
        ) {
            is_same(&name, &held, &written);
        }
    }
}
