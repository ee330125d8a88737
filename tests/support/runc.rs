//! A runc for machines that lack CAP_SYS_RESOURCE (nested nodes, many CI machines), where a privileged container can't be given it:
//! takes that one capability out of the container's and the exec'd process's specification, then becomes the real runc.
//! A negative oom_score_adj fails as it must, so that dockershim's own care for it is tested; for an adapter that takes no such care
//! an engine's [`Options`](super::engine::Options) may have it raised.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const CAPABILITY: &str = "CAP_SYS_RESOURCE";
const BIT: u32 = 24;

/// A variable of the engine's containerd, whose runc has it too: an oom_score_adj below our own is raised to it.
pub(super) const RAISES_OOM_SCORES: &str = "DSH_RAISES_OOM_SCORES";

/// Whether this process holds CAP_SYS_RESOURCE.
pub(super) fn machine_has_capability() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(effective.trim(), 16).unwrap_or(0) >> BIT & 1 == 1
}

/// The wrapper's life: never returns.
pub(super) fn run(arguments: &[OsString]) -> ! {
    if let Some(specification) = specification(arguments)
        && let Err(error) = mend(&specification)
    {
        eprintln!("runc wrapper: {}: {error}", specification.display());
    }
    let error = Command::new(real_runc()).args(arguments).exec();
    eprintln!("runc wrapper: {error}");
    std::process::exit(127)
}

/// The file that says what is to be run: `create --bundle DIR`, `run --bundle DIR`, `exec --process FILE`.
fn specification(arguments: &[OsString]) -> Option<PathBuf> {
    let after = |names: [&str; 2]| {
        let at = arguments.iter().position(|argument| names.iter().any(|name| argument == name))?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    let verb = arguments.iter().find(|argument| ["create", "run", "exec"].iter().any(|verb| argument == verb))?;
    if verb == "exec" { after(["--process", "-p"]) } else { Some(after(["--bundle", "-b"])?.join("config.json")) }
}

fn mend(path: &Path) -> std::io::Result<()> {
    let mut specification: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let at = if specification["process"].is_object() { "/process" } else { "" };
    let Some(process) = specification.pointer_mut(at) else { return Ok(()) };
    if let Some(Value::Object(sets)) = process.get_mut("capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.retain(|name| name != CAPABILITY);
        }
    }
    if let Some(score) = process["oomScoreAdj"].as_i64()
        && std::env::var_os(RAISES_OOM_SCORES).is_some()
    {
        process["oomScoreAdj"] = score.max(own_oom_score()).into();
    }
    std::fs::write(path, serde_json::to_vec(&specification)?)
}

fn own_oom_score() -> i64 {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn real_runc() -> PathBuf {
    let usual = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"];
    usual.into_iter().map(PathBuf::from).find(|path| path.exists()).unwrap_or_else(|| PathBuf::from("/usr/sbin/runc"))
}
