//! What can go wrong with a pod's network, told with the file, the network and the plugin at fault.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::args::Verb;
use super::conflist::Fault;

/// Faulty files that one message names; the rest is counted.
const FAULTS_TOLD: usize = 5;

/// Why a pod's network can't be made or undone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory of configurations can't be read.
    #[error("can't read the CNI configuration directory {}: {source}", dir.display())]
    ConfDir {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// There is no network configuration that can be used.
    #[error("no usable CNI configuration in {}: {faults}", dir.display())]
    NoConfig {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with the files in it.
        faults: Faults,
    },
    /// An annotation of the pod that asks something of the network can't be used.
    #[error("annotation {key}: {reason}")]
    Annotation {
        /// The annotation's key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A value can't be handed to plugins.
    #[error("{key}: {value:?} can't be told to CNI plugins")]
    Argument {
        /// The plugins' name for it.
        key: &'static str,
        /// As it was asked for.
        value: String,
    },
    /// The pod's network namespace is gone or can't be entered.
    #[error("network namespace {path}: {source}")]
    Netns {
        /// Where it should be.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// The path leads to the node's network, not to a pod's: its process has ended and the pid is another's.
    #[error("network namespace {path} is the node's own: the sandbox's process has ended")]
    HostNetns {
        /// The path.
        path: String,
    },
    /// The sandbox has been joined to a network already: a second ADD would break the first.
    #[error("sandbox {container_id} has a network already")]
    Joined {
        /// The sandbox.
        container_id: String,
    },
    /// A plugin failed.
    #[error("{culprit} failed to {verb}: {source}")]
    Plugin {
        /// Which.
        culprit: Culprit,
        /// What it was to do.
        verb: Verb,
        /// How it failed.
        source: Box<Failure>,
    },
    /// A plugin of the configuration is not there.
    #[error("{culprit}: {source}")]
    Missing {
        /// Which.
        culprit: Culprit,
        /// Where it was looked for.
        source: Box<Failure>,
    },
    /// A plugin has said that it isn't ready.
    #[error(transparent)]
    NotReady {
        /// Which, and why.
        source: Arc<Error>,
    },
    /// The network's plugins have not been heard yet.
    #[error("the plugins of network {network} ({file}) have not answered STATUS yet")]
    Unanswered {
        /// The network.
        network: String,
        /// The file that it comes from.
        file: String,
    },
    /// What is kept of an attachment can't be written, read or removed.
    #[error(transparent)]
    Record(#[from] crate::record::Error),
    /// The write of an attachment's record was cut off by our own end.
    #[error("record of the network of {container_id} not written: {source}")]
    Unwritten {
        /// The sandbox.
        container_id: String,
        /// The runtime's words.
        source: tokio::task::JoinError,
    },
}

impl Error {
    /// Whether a plugin's executable isn't there, or that of the one it gets addresses from.
    pub(super) fn is_absent_plugin(&self) -> bool {
        let is_absent = |failure: &Failure| matches!(failure, Failure::NotFound { .. } | Failure::Alone { .. });
        matches!(self, Error::Plugin { source, .. } if is_absent(source))
    }

    /// Whether a plugin has only started itself again and again: it never comes to its work, nor to undoing it.
    pub(super) fn is_endless_plugin(&self) -> bool {
        matches!(self, Error::Plugin { source, .. } if matches!(**source, Failure::Multiplied { .. }))
    }
}

/// The plugin at fault.
#[derive(Debug)]
pub struct Culprit {
    /// Its executable's name.
    pub plugin: String,
    /// The network.
    pub network: String,
    /// The file that asks for the plugin.
    pub file: String,
}

impl std::fmt::Display for Culprit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CNI plugin {} (network {}, {})", self.plugin, self.network, self.file)
    }
}

/// How a plugin failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such executable.
    #[error("not found in {}", list(dirs))]
    NotFound {
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// The executable can't be started.
    #[error("can't start {}: {source}", path.display())]
    Start {
        /// The executable.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The plugin refused or died, and the one that it gets addresses from is not there.
    #[error("{source}; its IPAM plugin {delegate} is not found in {}", list(dirs))]
    Alone {
        /// The IPAM plugin.
        delegate: String,
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
        /// The plugin's own words.
        source: Box<Failure>,
    },
    /// The connection to the running plugin broke.
    #[error("can't read its answer: {source}")]
    Read {
        /// The system's words.
        source: io::Error,
    },
    /// The plugin told why, in CNI's form.
    #[error("{} (code {code})", told(msg, details))]
    Refused {
        /// Below 100 as the specification says, from 100 on the plugin's own.
        code: u64,
        /// Short.
        msg: String,
        /// Long, or empty.
        details: String,
    },
    /// The plugin ended without telling why in CNI's form.
    #[error("ended with {status}{}", said(output))]
    Died {
        /// Exit code or signal.
        status: ExitStatus,
        /// What it wrote, cut to a readable length.
        output: String,
    },
    /// The plugin took too long and was killed.
    #[error("killed: the network's plugins did not end within {after:?}")]
    Timeout {
        /// The time that all plugins of the network have together.
        after: Duration,
    },
    /// The plugin started more processes than any plugin does, and was killed with them.
    #[error("killed: it had started more than {limit} processes, as one does that is its own IPAM plugin")]
    Multiplied {
        /// As many are let be.
        limit: usize,
    },
    /// The plugin wrote more than any result has, and was killed.
    #[error("killed: it wrote more than {limit} bytes")]
    TooMuch {
        /// The most that is read.
        limit: u64,
    },
    /// The plugin succeeded, yet its result can't be used.
    #[error("its result {reason}")]
    Result {
        /// What is wrong with it.
        reason: String,
    },
}

/// Files that can't be used, for a message.
#[derive(Clone, Debug)]
pub struct Faults(pub(super) Vec<Fault>);

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("it holds no .conflist, .conf or .json file");
        }
        for (n, fault) in self.0.iter().take(FAULTS_TOLD).enumerate() {
            let comma = if n > 0 { "; " } else { "" };
            write!(f, "{comma}{} {}", fault.file, fault.reason)?;
        }
        match self.0.len().saturating_sub(FAULTS_TOLD) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

fn list(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn told(msg: &str, details: &str) -> String {
    match (msg.is_empty(), details.is_empty()) {
        (false, false) => format!("{msg}: {details}"),
        (false, true) => msg.to_owned(),
        (true, false) => details.to_owned(),
        (true, true) => "it gives no reason".to_owned(),
    }
}

fn said(output: &str) -> String {
    if output.is_empty() { " and said nothing".to_owned() } else { format!(": {output}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_a_few_faulty_files_and_counts_the_rest() {
        assert_eq!(Faults(Vec::new()).to_string(), "it holds no .conflist, .conf or .json file");
        let fault = |n| Fault { file: format!("{n}.conf"), reason: "is empty".to_owned() };
        assert_eq!(Faults((0..2).map(fault).collect()).to_string(), "0.conf is empty; 1.conf is empty");
        assert!(Faults((0..7).map(fault).collect()).to_string().ends_with("4.conf is empty; and 2 more"));
    }

    #[test]
    fn a_refusal_is_told_whole() {
        let refused = |msg: &str, details: &str| {
            Failure::Refused { code: 11, msg: msg.to_owned(), details: details.to_owned() }.to_string()
        };
        assert_eq!(refused("later", "the pool is full"), "later: the pool is full (code 11)");
        assert_eq!(refused("later", ""), "later (code 11)");
        assert_eq!(refused("", ""), "it gives no reason (code 11)");
    }
}
