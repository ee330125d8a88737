//! The command line as typed: names, syntax and defaults. Nothing is checked against the node here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Kubernetes CRI v1 on the Docker Engine.
#[derive(Debug, Parser)]
#[command(name = "dockershim", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub flags: Flags,
}

/// What the program does beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look whether a running dockershim does its work
    Check(CheckFlags),
}

/// Flags of `dockershim check`.
#[derive(Debug, Args)]
pub struct CheckFlags {
    /// Run a pod and a container from the built-in image, as a kubelet would, and print each step with its milliseconds
    #[arg(long = "run-pod", required = true)]
    pub run_pod: bool,
    /// CRI socket to check
    #[arg(long = "container-runtime-endpoint", default_value = DEFAULT_ENDPOINT)]
    pub container_runtime_endpoint: String,
}

/// Where we listen when not told otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/dockershim.sock";

/// Flags of the daemon; names and defaults are cri-dockerd's but for socket, state directory and streaming address.
#[derive(Debug, Args)]
pub struct Flags {
    /// Unix socket to serve the CRI on; may be given more than once
    #[arg(long = "container-runtime-endpoint", value_name = "unix://PATH", default_value = DEFAULT_ENDPOINT)]
    pub container_runtime_endpoint: Vec<String>,
    /// Unix socket of the Docker Engine
    #[arg(long = "docker-endpoint", value_name = "unix://PATH", default_value = "unix:///var/run/docker.sock")]
    pub docker_endpoint: String,
    /// Image of pod sandboxes; empty for the built-in one, which needs no registry
    #[arg(long = "pod-infra-container-image", value_name = "IMAGE", default_value = "")]
    pub pod_infra_container_image: String,
    /// cni, or bridge for Docker's own network (also: no-op, or empty)
    #[arg(long = "network-plugin", value_name = "NAME", default_value = "cni")]
    pub network_plugin: String,
    /// Directory of CNI configurations; the first by name that can be read is used
    #[arg(long = "cni-conf-dir", value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Directories of CNI plugins, separated by commas
    #[arg(long = "cni-bin-dir", value_name = "DIR,…", default_value = "/opt/cni/bin", value_delimiter = ',')]
    pub cni_bin_dir: Vec<PathBuf>,
    /// Directory of CNI results
    #[arg(long = "cni-cache-dir", value_name = "DIR", default_value = "/var/lib/cni/cache")]
    pub cni_cache_dir: PathBuf,
    /// Once after the start, let CNI plugins (1.1) give up what belongs to no pod of ours; not where others use the same network
    #[arg(long = "cni-gc")]
    pub cni_gc: bool,
    /// CIDR of the node's pods, or several with commas, until the kubelet tells it; for CNI plugins that ask for ipRanges
    #[arg(long = "pod-cidr", value_name = "CIDR,…", default_value = "")]
    pub pod_cidr: String,
    /// Directory of what Docker can't hold: CNI results, log positions
    #[arg(
        long = "cri-dockerd-root-directory",
        alias = "root-directory",
        value_name = "DIR",
        default_value = "/var/lib/dockershim"
    )]
    pub root_directory: PathBuf,
    /// Address of the server of exec, attach and port-forward
    #[arg(long = "streaming-bind-addr", value_name = "HOST[:PORT]", default_value = "127.0.0.1")]
    pub streaming_bind_addr: String,
    /// A stream on which nothing moves for so long is closed
    #[arg(long = "streaming-idle-timeout", value_name = "DURATION", default_value = "4h0m0s")]
    pub streaming_idle_timeout: String,
    /// A client of exec or attach opens all its streams within this
    #[arg(long = "streaming-creation-timeout", value_name = "DURATION", default_value = "30s")]
    pub streaming_creation_timeout: String,
    /// error, warn, info, debug or trace
    #[arg(long = "log-level", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Container logs as cri files of our own, or docker for links to Docker's files, which don't rotate
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "cri")]
    pub log_format: String,
    /// Size of one of Docker's log files, from which our own are written
    #[arg(long = "log-spool-size", value_name = "SIZE", default_value = "16m")]
    pub log_spool_size: String,
    /// How many of them Docker keeps for each container: what a container prints while no dockershim runs must fit in
    #[arg(long = "log-spool-files", value_name = "COUNT", default_value = "4")]
    pub log_spool_files: String,
    /// Limit of an engine call that changes something, such as 2m30s; 0 for 1m59s
    #[arg(long = "runtime-request-timeout", value_name = "DURATION", default_value = "0s")]
    pub runtime_request_timeout: String,
    /// An image pull that makes no progress for so long is cancelled; 0 for never
    #[arg(long = "image-pull-progress-deadline", value_name = "DURATION", default_value = "1m0s")]
    pub image_pull_progress_deadline: String,
    /// Raise OOM scores below our own to it, as a process without CAP_SYS_RESOURCE must: auto, true or false
    #[arg(long = "restrict-oom-score-adj", value_name = "WHEN", default_value = "auto")]
    pub restrict_oom_score_adj: String,
    /// Start although another CRI adapter for Docker answers on /run/cri-dockerd.sock: it serves a different engine
    #[arg(long = "allow-other-adapter")]
    pub allow_other_adapter: bool,
}
