//! The command line as typed: names, syntax and defaults. Nothing is checked against the node here.
//!
//! [`Flags`] is the one definition of what the daemon can be told: the keys of the file, the variables of the environment and
//! docs/configuration.md are made from it (`key.rs`). A flag's default tells whether it is a text, a number or a switch.

use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::handover::checkpoint::CRI_DOCKERD_ROOT;

/// Kubernetes CRI v1 on the Docker Engine.
#[derive(Debug, Parser)]
#[command(
    name = "dockershim",
    version,
    about,
    propagate_version = true,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub told: Told,
}

impl Cli {
    /// Reads the program's arguments. The second part tells what was typed from what is a default; for errors, and after
    /// `--help`, the process ends here: after errors with 1, since 2 is what `check` warns with.
    pub fn read() -> (Cli, ArgMatches) {
        let read = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
        read.unwrap_or_else(|error| {
            // when nobody hears this, the exit code still tells
            let _ = error.print();
            std::process::exit(i32::from(error.use_stderr()))
        })
    }
}

/// What the program does beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look whether this node is fit for pods, and dockershim at work; a daemon with the same flags, environment and file is meant
    #[command(
        after_help = "Ends with 0 when all is well, with 1 when something failed, with 2 when there are only warnings."
    )]
    Check(Box<CheckFlags>),
    /// Show how a running dockershim is; ends with 1 when it can't be reached or isn't ready. Its socket is that of a daemon with the
    /// same flags, environment and file
    Status(Box<StatusFlags>),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a configuration file from the flags of cri-dockerd's unit
    Migrate(MigrateFlags),
    /// Hand the node's pods back to cri-dockerd; dockershim must not run
    Release(Box<ReleaseFlags>),
}

/// Flags of `dockershim check`.
#[derive(Debug, Args)]
pub struct CheckFlags {
    /// Before dockershim runs: check only what can be known then
    #[arg(long = "pre", conflicts_with = "run_pod")]
    pub pre: bool,
    /// Print one JSON object
    #[arg(long = "json")]
    pub json: bool,
    /// At the end, run a pod and a container from the built-in image, as a kubelet would, and print each step with its milliseconds
    #[arg(long = "run-pod")]
    pub run_pod: bool,
    /// The kubelet's configuration, when it is not where the kubelet's own command line says, or /var/lib/kubelet/config.yaml
    #[arg(long = "kubelet-config", value_name = "PATH")]
    pub kubelet_config: Option<PathBuf>,
    /// What the daemon is told.
    #[command(flatten)]
    pub told: Told,
}

/// Flags of `dockershim migrate`.
#[derive(Debug, Args)]
pub struct MigrateFlags {
    /// The unit, by its path, or by its name where systemd looks for units
    #[arg(long = "from", value_name = "UNIT", default_value = "cri-docker.service")]
    pub from: String,
    /// Where the configuration goes
    #[arg(long = "output", value_name = "FILE", default_value = DEFAULT_FILE)]
    pub output: PathBuf,
    /// Replace a file that is there
    #[arg(long = "force")]
    pub force: bool,
    /// cri-dockerd's arguments themselves, in place of a unit
    #[arg(last = true, value_name = "ARGS", conflicts_with = "from")]
    pub arguments: Vec<String>,
}

/// Flags of `dockershim release`.
#[derive(Debug, Args)]
pub struct ReleaseFlags {
    /// Only tell what would be done; dockershim may run
    #[arg(long = "dry-run")]
    pub dry_run: bool,
    /// cri-dockerd's root directory
    #[arg(long = "to", value_name = "DIR", default_value = CRI_DOCKERD_ROOT)]
    pub to: PathBuf,
    /// As the daemon was told.
    #[command(flatten)]
    pub told: Told,
}

/// Flags of `dockershim status`.
#[derive(Debug, Args)]
pub struct StatusFlags {
    /// Print one object for programs
    #[arg(long = "json")]
    pub json: bool,
    /// What the daemon is told.
    #[command(flatten)]
    pub told: Told,
}

/// What `dockershim config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration file with every key, what it means, and its default
    Default,
    /// Print what a daemon with these flags, this environment and this file would use, and where each value comes from
    Dump(Box<Told>),
    /// Check a configuration file alone, without flags and environment
    Check {
        /// The file
        #[arg(value_name = "FILE", default_value = DEFAULT_FILE)]
        file: PathBuf,
    },
}

/// What a daemon is told on its command line.
#[derive(Debug, Args)]
pub struct Told {
    /// Configuration file; without this flag there need not be one
    #[arg(long = "config", value_name = "PATH", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Print the version, as --version does
    #[arg(long = "buildinfo", action = ArgAction::Version)]
    pub build_info: Option<bool>,
    /// The rest.
    #[command(flatten)]
    pub flags: Flags,
}

/// Where we listen when not told otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/dockershim.sock";
/// Where the configuration file is when not told otherwise.
pub const DEFAULT_FILE: &str = "/etc/dockershim/config.toml";

// Groups of flags, by which `--help`, the file and the documentation are ordered.
const SOCKETS: &str = "Sockets and places";
const PODS: &str = "Pods and their network";
const STREAMS: &str = "Exec, attach and port-forward";
const CONTAINER_LOGS: &str = "Container logs";
const LIMITS: &str = "Limits";
const OWN_LOG: &str = "Our own log";
/// Flags of cri-dockerd that mean nothing here; their help says why. They are no keys of the file, nor variables.
pub(super) const WITHOUT_MEANING: &str = "Accepted for cri-dockerd's sake, and without meaning";

/// The keys whose new value a reload puts to use; all others wait for a restart.
pub(super) const RELOADED: &[&str] = &["log-level"];

/// Flags of the daemon; names and defaults are cri-dockerd's but for socket, state directory and streaming address.
#[derive(Debug, Args)]
pub struct Flags {
    /// Where to serve the CRI: unix:// and a path, or fd:// for the sockets that systemd passes; may be given more than once
    #[arg(
        long = "container-runtime-endpoint",
        value_name = "unix://PATH",
        default_value = DEFAULT_ENDPOINT,
        help_heading = SOCKETS
    )]
    pub container_runtime_endpoint: Vec<String>,
    /// Unix socket of the Docker Engine; empty for what DOCKER_HOST says
    #[arg(
        long = "docker-endpoint",
        value_name = "unix://PATH",
        default_value = DEFAULT_ENGINE,
        help_heading = SOCKETS
    )]
    pub docker_endpoint: String,
    /// Directory of what Docker can't hold, such as CNI results, log positions and files that containers mount; the flag is also
    /// --cri-dockerd-root-directory
    #[arg(
        long = "root-directory",
        alias = "cri-dockerd-root-directory",
        value_name = "DIR",
        default_value = "/var/lib/dockershim",
        help_heading = SOCKETS
    )]
    pub root_directory: PathBuf,
    /// Where Prometheus reads our own figures: an address of the loopback interface with a port, or unix:// and a path; empty for nowhere
    #[arg(long = "metrics-address", value_name = "ADDRESS", default_value = "", help_heading = SOCKETS)]
    pub metrics_address: String,
    /// Start although another CRI adapter for Docker has /run/cri-dockerd.sock, or cri-dockerd runs: it serves a different engine
    #[arg(
        long = "allow-other-adapter",
        value_name = "true|false",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = switch,
        action = ArgAction::Set,
        help_heading = SOCKETS
    )]
    pub allow_other_adapter: bool,
    /// Image of pod sandboxes; empty for the built-in one, which needs no registry
    #[arg(long = "pod-infra-container-image", value_name = "IMAGE", default_value = "", help_heading = PODS)]
    pub pod_infra_container_image: String,
    /// cni, or bridge for Docker's own network (also: no-op, or empty)
    #[arg(long = "network-plugin", value_name = "NAME", default_value = "cni", help_heading = PODS)]
    pub network_plugin: String,
    /// What the Engine builds under a CNI network: bare for nothing, which starts pods faster, or engine for its own sandbox
    #[arg(long = "sandbox-network", value_name = "WHAT", default_value = "bare", help_heading = PODS)]
    pub sandbox_network: String,
    /// Directory of CNI configurations; the first by name that can be read is used
    #[arg(long = "cni-conf-dir", value_name = "DIR", default_value = "/etc/cni/net.d", help_heading = PODS)]
    pub cni_conf_dir: PathBuf,
    /// Directories of CNI plugins, separated by commas
    #[arg(
        long = "cni-bin-dir",
        value_name = "DIR,…",
        default_value = "/opt/cni/bin",
        value_delimiter = ',',
        help_heading = PODS
    )]
    pub cni_bin_dir: Vec<PathBuf>,
    /// Directory of CNI results, for other tools
    #[arg(long = "cni-cache-dir", value_name = "DIR", default_value = "/var/lib/cni/cache", help_heading = PODS)]
    pub cni_cache_dir: PathBuf,
    /// Once after the start, let CNI plugins (1.1) give up what belongs to no pod of ours; not with bridge, nor where other runtimes use the
    /// network
    #[arg(
        long = "cni-gc",
        value_name = "true|false",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = switch,
        action = ArgAction::Set,
        help_heading = PODS
    )]
    pub cni_gc: bool,
    /// CIDR of the node's pods, or several with commas, until the kubelet tells it; for CNI plugins that ask for ipRanges
    #[arg(long = "pod-cidr", value_name = "CIDR,…", default_value = "", help_heading = PODS)]
    pub pod_cidr: String,
    /// Raise OOM scores below our own to it, as a process without CAP_SYS_RESOURCE must: auto, true or false
    #[arg(long = "restrict-oom-score-adj", value_name = "WHEN", default_value = "auto", help_heading = PODS)]
    pub restrict_oom_score_adj: String,
    /// Address of the server of exec, attach and port-forward
    #[arg(long = "streaming-bind-addr", value_name = "HOST[:PORT]", default_value = "127.0.0.1", help_heading = STREAMS)]
    pub streaming_bind_addr: String,
    /// A stream on which nothing moves for so long is closed
    #[arg(long = "streaming-idle-timeout", value_name = "DURATION", default_value = "4h0m0s", help_heading = STREAMS)]
    pub streaming_idle_timeout: String,
    /// A client of exec or attach opens all its streams within this
    #[arg(long = "streaming-creation-timeout", value_name = "DURATION", default_value = "30s", help_heading = STREAMS)]
    pub streaming_creation_timeout: String,
    /// Container logs as cri files of our own, or docker for links to Docker's files, which don't rotate
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "cri", help_heading = CONTAINER_LOGS)]
    pub log_format: String,
    /// Size of one of Docker's log files, from which our own are written
    #[arg(long = "log-spool-size", value_name = "SIZE", default_value = "16m", help_heading = CONTAINER_LOGS)]
    pub log_spool_size: String,
    /// How many of them Docker keeps for each container: what a container prints while no dockershim runs must fit in
    #[arg(long = "log-spool-files", value_name = "COUNT", default_value = "4", help_heading = CONTAINER_LOGS)]
    pub log_spool_files: String,
    /// Limit of an engine call that changes something, such as 2m30s; 0s for 1m59s
    #[arg(long = "runtime-request-timeout", value_name = "DURATION", default_value = "0s", help_heading = LIMITS)]
    pub runtime_request_timeout: String,
    /// An image pull that makes no progress for so long is cancelled, ten times as long with nothing left to be downloaded; 0s for never
    #[arg(long = "image-pull-progress-deadline", value_name = "DURATION", default_value = "1m0s", help_heading = LIMITS)]
    pub image_pull_progress_deadline: String,
    /// error, warn, info, debug or trace; debug tells of every RPC, engine call and CNI plugin
    #[arg(long = "log-level", value_name = "LEVEL", default_value = "info", help_heading = OWN_LOG)]
    pub log_level: String,
    /// text, or json for one object a line
    #[arg(long = "logging-format", value_name = "FORMAT", default_value = "text", help_heading = OWN_LOG)]
    pub logging_format: String,
    /// Pods have all the addresses that their network gives them, of both families, with or without it
    #[arg(
        long = "ipv6-dual-stack",
        value_name = "true|false",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = switch,
        action = ArgAction::Set,
        help_heading = WITHOUT_MEANING
    )]
    pub ipv6_dual_stack: bool,
    /// Bridges are made by the Engine or by CNI plugins, whose configuration has hairpinMode
    #[arg(long = "hairpin-mode", value_name = "MODE", default_value = "none", help_heading = WITHOUT_MEANING)]
    pub hairpin_mode: String,
    /// The Engine's daemon.json and the CNI configuration have mtu
    #[arg(long = "network-plugin-mtu", value_name = "BYTES", default_value = "0", help_heading = WITHOUT_MEANING)]
    pub network_plugin_mtu: String,
    /// The cgroups of dockerd and containerd are their service manager's affair
    #[arg(long = "runtime-cgroups", value_name = "CGROUP", default_value = "", help_heading = WITHOUT_MEANING)]
    pub runtime_cgroups: String,
}

/// The engine's socket where there is nothing else about it.
pub(super) const DEFAULT_ENGINE: &str = "unix:///var/run/docker.sock";

/// A switch as Go's flags read it.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
