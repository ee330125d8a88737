//! What the kernel tells of our own process.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What we use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// CPU time spent.
    pub cpu: Duration,
}

/// Reads it; what can't be read is 0.
pub fn own() -> Own {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    Own {
        resident_bytes: resident_kib(&status).unwrap_or(0).saturating_mul(1024),
        // one is that of the look itself
        open_files: u64::try_from(open.saturating_sub(1)).unwrap_or(0),
        cpu: Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default(),
    }
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_use_something_of_everything() {
        let before = own();
        let file = fs::File::open("/proc/self/status").unwrap();
        let held = vec![1u8; 64 << 20];
        let sum: u64 = held.iter().map(|byte| u64::from(*byte)).sum();
        let now = own();
        assert_eq!(sum, 64 << 20);
        assert!(now.resident_bytes >= 64 << 20, "{now:?}");
        assert!(now.cpu > before.cpu && now.open_files >= 4, "{before:?} {now:?}");
        drop(file);
    }

    #[test]
    fn what_says_nothing_is_none() {
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    9500 kB\n"), Some(9500));
        assert_eq!(resident_kib("VmRSS:\tmany kB\n"), None);
        assert_eq!(resident_kib(""), None);
    }
}
