//! Whose process a container is: what the kernel tells of its first process. That can't be worked out from a request, which may
//! leave it to the image, and the image to its own files.

use crate::cri::LinuxContainerUser;

/// User and groups of a host process; None when it has ended, or tells something else.
pub(super) fn of_process(pid: i32) -> Option<LinuxContainerUser> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Reads `/proc/<pid>/status`, where each of `Uid` and `Gid` has four numbers, the real one first.
fn parse(status: &str) -> Option<LinuxContainerUser> {
    let numbers = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().map(|number| number.parse::<i64>().ok()).collect::<Option<Vec<_>>>()
    };
    Some(LinuxContainerUser {
        uid: *numbers("Uid")?.first()?,
        gid: *numbers("Gid")?.first()?,
        supplemental_groups: numbers("Groups")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let status =
            "Name:\tsleep\nUid:\t1000\t0\t0\t0\nGid:\t50\t50\t50\t50\nFDSize:\t64\nGroups:\t50 2000 \nNStgid:\t1\n";
        let user = parse(status).unwrap();
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 50, vec![50, 2000]));
        let none = parse("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t \n").unwrap();
        assert_eq!(none.supplemental_groups, Vec::<i64>::new());
        for bad in ["", "Uid:\t0\t0\t0\t0\n", "Uid:\tx\nGid:\t0\nGroups:\t\n"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_that_runs_has_a_user_and_one_that_has_ended_none() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(of_process(own).is_some());
        assert!(of_process(i32::MAX).is_none());
    }
}
