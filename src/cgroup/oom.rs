//! The OOM score that a process without CAP_SYS_RESOURCE can't go below, on nested nodes and in sandboxes.
//!
//! It is the Engine's runtime, not we, that sets a container's score and fails to ("can't get final child's PID from pipe").
//! Both are services of one node with one bounding set, so that our own bound is its bound; where it isn't, the flag
//! `--restrict-oom-score-adj` overrules.

/// Bit of CAP_SYS_RESOURCE in a capability set, see capabilities(7) and `linux/capability.h`.
const CAP_SYS_RESOURCE: u32 = 24;

/// The score that lower ones must be raised to; None when any score can be set.
pub fn oom_score_floor() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    if may_lower(&status)? { None } else { own_score() }
}

/// Our own `oom_score_adj`.
pub fn own_score() -> Option<i64> {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim_ascii().parse().ok()
}

/// Whether the process with this `/proc/<pid>/status` can lower an OOM score; None when the text doesn't tell.
fn may_lower(status: &str) -> Option<bool> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let set = u64::from_str_radix(effective.trim_ascii(), 16).ok()?;
    Some(set >> CAP_SYS_RESOURCE & 1 == 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(effective: &str) -> String {
        format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t000001ffffffffff\n")
    }

    #[test]
    fn the_capability_is_looked_for_in_the_effective_set() {
        assert_eq!(may_lower(&status("000001ffffffffff")), Some(true));
        assert_eq!(may_lower(&status("000001fffeffffff")), Some(false));
        assert_eq!(may_lower(&status("0000000001000000")), Some(true));
        assert_eq!(may_lower(&status("0000000000000000")), Some(false));
    }

    #[test]
    fn text_that_does_not_tell_restricts_nothing() {
        assert_eq!(may_lower(""), None);
        assert_eq!(may_lower("CapEff:\tx\n"), None);
    }

    #[test]
    fn our_own_score_is_one_the_kernel_allows() {
        let score = own_score().unwrap();
        assert!((-1000..=1000).contains(&score), "{score}");
        assert!(oom_score_floor().is_none_or(|floor| floor == score));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(?s).{0,80}") {
            may_lower(&text);
            may_lower(&status(&text));
        }
    }
}
