//! The processes of a node, by name.

use std::fs;
use std::path::Path;

/// How much of a process's name the kernel keeps.
const NAME_BYTES: usize = 15;

/// A process that runs.
pub(crate) struct Running {
    /// Process id.
    pub(crate) pid: u32,
    /// Its name, as the kernel has it.
    pub(crate) name: String,
    /// Its command line.
    pub(crate) arguments: Vec<String>,
    /// It is in a PID namespace below ours, as all of a node are that is a container of this one.
    is_nested: bool,
}

/// All of them, as `proc` tells; one that has ended and not been asked for its exit code is none.
pub(crate) fn running(proc: &Path) -> Vec<Running> {
    let pids = fs::read_dir(proc).into_iter().flatten().flatten();
    pids.filter_map(|entry| read(proc, entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The process of a name that is this node's own, and not we: we may have been started by another's name.
pub(crate) fn named<'a>(running: &'a [Running], name: &str) -> Option<&'a Running> {
    let cut = name.get(..NAME_BYTES).unwrap_or(name);
    running.iter().find(|process| process.name == cut && !process.is_nested && process.pid != std::process::id())
}

/// None when it has ended meanwhile.
fn read(proc: &Path, pid: u32) -> Option<Running> {
    let text = |name: &str| {
        let bytes = fs::read(proc.join(format!("{pid}/{name}"))).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    };
    let name = text("comm")?;
    let arguments: Vec<_> = text("cmdline")?.split_terminator('\0').map(str::to_owned).collect();
    let is_nested = text("status").is_some_and(|status| is_nested(&status));
    (!arguments.is_empty()).then_some(Running { pid, name, arguments, is_nested })
}

/// `NSpid:` has its number in each namespace that sees it, from the one of this `/proc` on.
fn is_nested(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` with these processes in it: name, command line, status.
    fn seen(name: &str, processes: &[(&str, &str, &str)]) -> Vec<Running> {
        let proc = std::env::temp_dir().join(format!("dockershim-running-{name}-{}", std::process::id()));
        for (pid, (name, command, status)) in (10..).zip(processes) {
            let dir = proc.join(pid.to_string());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("comm"), format!("{name}\n")).unwrap();
            fs::write(dir.join("cmdline"), command).unwrap();
            fs::write(dir.join("status"), status).unwrap();
        }
        let running = running(&proc);
        fs::remove_dir_all(proc).unwrap();
        running
    }

    #[test]
    fn we_run_ourselves_and_are_not_who_is_looked_for() {
        let mut running = running(Path::new("/proc"));
        // others of our name may run beside us
        running.retain(|process| process.pid == std::process::id());
        let us = &running[0];
        assert!(!us.is_nested && !us.name.is_empty() && us.name.len() <= NAME_BYTES);
        assert_eq!(us.arguments[0], std::env::args().next().unwrap());
        assert!(named(&running, &us.name).is_none());
    }

    #[test]
    fn a_process_is_found_by_the_name_that_the_kernel_keeps() {
        let running =
            seen("names", &[("sh", "sh\0-c\0true\0", ""), ("systemd-timesyn", "/lib/systemd-timesyncd\0", "")]);
        assert_eq!(named(&running, "systemd-timesyncd").map(|process| process.pid), Some(11));
        assert_eq!(named(&running, "sh").unwrap().arguments, ["sh", "-c", "true"]);
        assert!(named(&running, "s").is_none());
    }

    #[test]
    fn what_has_ended_and_what_runs_on_a_node_within_this_one_is_not_the_nodes() {
        let of = |command: &str, status: &str| {
            let running = seen("own", &[("cri-dockerd", command, status)]);
            named(&running, "cri-dockerd").is_some()
        };
        assert!(of("cri-dockerd\0", "Name:\tcri-dockerd\nNSpid:\t10\n"));
        assert!(of("cri-dockerd\0", ""), "a kernel that doesn't tell");
        assert!(!of("cri-dockerd\0", "NSpid:\t10\t1\n"));
        assert!(!of("", "NSpid:\t10\n"));
    }
}
