//! The command line. Nothing is opened or started here.

use std::path::PathBuf;

use clap::Parser;
use dockershim::pause;

/// Measures CRI sockets, in turn within one run, beside the bare Docker API.
#[derive(Debug, Parser)]
#[command(name = "cri")]
pub(crate) struct Options {
    /// CRI sockets to measure; none for this dockershim on a private engine
    #[arg(value_name = "NAME=unix://PATH", value_parser = named_socket)]
    pub(crate) sockets: Vec<(String, PathBuf)>,
    /// Engine that gives the floor for those sockets; best the one behind the first
    #[arg(long, value_name = "unix://PATH", value_parser = socket, requires = "sockets")]
    pub(crate) docker: Option<PathBuf>,
    /// Adapter to start beside this dockershim, on a private engine of its own; in the command {cri} and {docker} stand for its
    /// sockets' paths and {dir} for a directory that it may fill. Words are split at spaces. May be given more than once
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named, conflicts_with = "sockets")]
    pub(crate) start: Vec<(String, String)>,
    /// Configuration of the CNI network that dockershim's pods have in place of Docker's bridge; the floor's have no network then, and
    /// no plugin is run for them
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sockets", "events"])]
    pub(crate) cni: Option<PathBuf>,
    /// Pods that each contestant lives through
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) iterations: usize,
    /// Running pods that every contestant has beside them
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) pods: usize,
    /// Running containers of each of those pods
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) containers: usize,
    /// Image of the containers: pulled where it is missing, and then removed again
    #[arg(long, default_value = pause::reference())]
    pub(crate) image: String,
    /// What a container runs; should end at once on SIGTERM
    #[arg(long, value_name = "WORDS", value_delimiter = ' ', default_value = "/pause wait")]
    pub(crate) command: Vec<String>,
    /// What is run in a container; must exit with 0
    #[arg(long, value_name = "WORDS", value_delimiter = ' ', default_value = "/pause exit 0")]
    pub(crate) exec: Vec<String>,
    /// Instead of pods' lives: so many rounds of the calls that tell statistics, of the standing pods alone
    #[arg(long, value_name = "N", conflicts_with_all = ["docker", "events"])]
    pub(crate) stats: Option<usize>,
    /// Instead of all that: end so many containers of the standing pods, and tell how late and how often each end is told
    #[arg(long, value_name = "N", conflicts_with_all = ["sockets", "start"])]
    pub(crate) events: Option<usize>,
}

impl Options {
    /// As typed, but for the `--bench` that cargo adds. Ends the process when it can't be read.
    pub(crate) fn from_command_line() -> Options {
        Options::parse_from(std::env::args_os().filter(|argument| argument != "--bench"))
    }
}

fn named(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("no name: NAME=… is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn named_socket(text: &str) -> Result<(String, PathBuf), String> {
    let (name, endpoint) = named(text)?;
    Ok((name, socket(&endpoint)?))
}

fn socket(endpoint: &str) -> Result<PathBuf, String> {
    endpoint.strip_prefix("unix://").map(PathBuf::from).ok_or_else(|| format!("{endpoint} is not unix://PATH"))
}
