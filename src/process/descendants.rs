//! The processes that a process has started, with those that they have, as far as their parents live.

/// How many there are; once there are more than `most`, no more are looked for. 0 where the kernel doesn't tell (`CONFIG_PROC_CHILDREN`).
pub(crate) fn descendants(pid: u32, most: usize) -> usize {
    let (mut parents, mut found) = (vec![pid], 0);
    while let Some(parent) = parents.pop() {
        let children = children(parent);
        found += children.len();
        if found > most {
            break;
        }
        parents.extend(children);
    }
    found
}

/// Children are their thread's; those of a process that has ended meanwhile are nobody's.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn all_generations_count_and_no_more_than_asked_for() {
        let script = "sleep 600 & sh -c 'sleep 600 & sleep 600 & echo; wait' & wait";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(descendants(shell.id(), 100), 4);
        assert!(descendants(shell.id(), 1) >= 2);
        for pid in all(shell.id()) {
            Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(descendants(shell.id(), 100), 0);
    }

    fn all(pid: u32) -> Vec<u32> {
        children(pid).into_iter().flat_map(|child| all(child).into_iter().chain([child])).collect()
    }
}
