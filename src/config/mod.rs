//! What the daemon is told: flags as typed (`cli.rs`), checked and given types here. Knows nothing of the engine.

pub mod cli;
mod duration;
mod size;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::cni::PodCidrs;
use crate::log::Format;
use crate::stream::Limits;
use crate::translate::node::{LogOptions, Network};
use cli::Flags;

/// The daemon's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sockets to serve on.
    pub endpoints: Vec<PathBuf>,
    /// The engine's socket.
    pub docker_socket: PathBuf,
    /// Image of pod sandboxes; None for the built-in one.
    pub sandbox_image: Option<String>,
    /// Who makes pod networks.
    pub network: Network,
    /// Where CNI's files are.
    pub cni: CniDirs,
    /// Whether CNI plugins are to collect garbage once after the start.
    pub cni_gc: bool,
    /// CIDRs of the node's pods, until the kubelet tells them.
    pub pod_cidrs: PodCidrs,
    /// Our state.
    pub state_dir: PathBuf,
    /// Where streams are served.
    pub streaming: SocketAddr,
    /// How long streams may rest.
    pub stream_limits: Limits,
    /// Of our own log.
    pub log_level: tracing::Level,
    /// What container logs are.
    pub log_format: Format,
    /// Docker's log files of each container.
    pub log_spool: LogOptions,
    /// Limit of engine calls that change something.
    pub request_timeout: Duration,
    /// A pull without progress for so long is cancelled; None for never.
    pub pull_progress_deadline: Option<Duration>,
    /// Whether OOM scores are raised to our own.
    pub restrict_oom: RestrictOom,
    /// Serve although another adapter for Docker does, on an engine of its own.
    pub allow_other_adapter: bool,
}

/// Directories of CNI.
#[derive(Clone, Debug)]
pub struct CniDirs {
    /// Configurations.
    pub conf: PathBuf,
    /// Plugins.
    pub bin: Vec<PathBuf>,
    /// Results, for other tools.
    pub cache: PathBuf,
}

/// When OOM scores below our own are raised to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestrictOom {
    /// When the process lacks CAP_SYS_RESOURCE.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A flag that can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("--{flag}: {reason}")]
pub struct Error {
    flag: &'static str,
    reason: String,
}

impl Config {
    /// Checks the flags.
    pub fn from_flags(flags: Flags) -> Result<Config, Error> {
        let endpoints = flags.container_runtime_endpoint.iter();
        let endpoints = endpoints.map(|text| socket("container-runtime-endpoint", text)).collect::<Result<_, _>>()?;
        let request_timeout = match time("runtime-request-timeout", &flags.runtime_request_timeout)? {
            Duration::ZERO => Duration::from_secs(119),
            given => given,
        };
        let deadline = time("image-pull-progress-deadline", &flags.image_pull_progress_deadline)?;
        Ok(Config {
            endpoints,
            docker_socket: socket("docker-endpoint", &flags.docker_endpoint)?,
            sandbox_image: Some(flags.pod_infra_container_image).filter(|image| !image.is_empty()),
            network: network(&flags.network_plugin)?,
            cni: CniDirs { conf: flags.cni_conf_dir, bin: flags.cni_bin_dir, cache: flags.cni_cache_dir },
            cni_gc: flags.cni_gc,
            pod_cidrs: pod_cidrs(&flags.pod_cidr)?,
            state_dir: flags.root_directory,
            streaming: address(&flags.streaming_bind_addr)?,
            stream_limits: Limits {
                idle: some_time("streaming-idle-timeout", &flags.streaming_idle_timeout)?,
                creation: some_time("streaming-creation-timeout", &flags.streaming_creation_timeout)?,
            },
            log_level: level(&flags.log_level)?,
            log_format: format(&flags.log_format)?,
            log_spool: LogOptions {
                max_size_bytes: spool_size(&flags.log_spool_size)?,
                max_files: spool_files(&flags.log_spool_files)?,
            },
            request_timeout,
            pull_progress_deadline: Some(deadline).filter(|limit| !limit.is_zero()),
            restrict_oom: restrict(&flags.restrict_oom_score_adj)?,
            allow_other_adapter: flags.allow_other_adapter,
        })
    }
}

/// `unix:///run/x.sock` or a path.
pub fn socket(flag: &'static str, text: &str) -> Result<PathBuf, Error> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error { flag, reason: format!("{text:?} is not unix:// and an absolute path") })
}

fn network(text: &str) -> Result<Network, Error> {
    match text {
        "cni" => Ok(Network::Cni),
        "bridge" | "no-op" | "" => Ok(Network::Bridge),
        other => Err(Error { flag: "network-plugin", reason: format!("{other:?} is neither cni nor bridge") }),
    }
}

fn pod_cidrs(text: &str) -> Result<PodCidrs, Error> {
    PodCidrs::parse(text).map_err(|reason| Error { flag: "pod-cidr", reason })
}

fn time(flag: &'static str, text: &str) -> Result<Duration, Error> {
    duration::parse(text).map_err(|reason| Error { flag, reason })
}

/// A time that can't be none.
fn some_time(flag: &'static str, text: &str) -> Result<Duration, Error> {
    match time(flag, text)? {
        Duration::ZERO => Err(Error { flag, reason: "0 would close every stream at once".to_owned() }),
        some => Ok(some),
    }
}

/// `127.0.0.1:10010`, or an address alone for any free port.
fn address(text: &str) -> Result<SocketAddr, Error> {
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    text.parse().or_else(|_| alone()).map_err(|_| Error {
        flag: "streaming-bind-addr",
        reason: format!("{text:?} is not an address, with or without a port, such as 127.0.0.1:10010"),
    })
}

fn level(text: &str) -> Result<tracing::Level, Error> {
    let known = match text {
        "warning" => "warn",
        "fatal" | "panic" => "error",
        other => other,
    };
    known.parse().map_err(|_| Error {
        flag: "log-level",
        reason: format!("{text:?} is none of error, warn, info, debug, trace"),
    })
}

fn format(text: &str) -> Result<Format, Error> {
    match text {
        "cri" => Ok(Format::Cri),
        "docker" => Ok(Format::Docker),
        other => Err(Error { flag: "log-format", reason: format!("{other:?} is neither cri nor docker") }),
    }
}

/// A smaller file would be full with a single line of Docker's: 16 KiB, most of them escaped.
const SMALLEST_SPOOL_FILE: u64 = 64 << 10;

fn spool_size(text: &str) -> Result<u64, Error> {
    let flag = "log-spool-size";
    match size::parse(text) {
        // the Engine counts in i64
        Ok(bytes) if bytes >= SMALLEST_SPOOL_FILE && i64::try_from(bytes).is_ok() => Ok(bytes),
        Ok(_) => Err(Error { flag, reason: format!("{text:?} is out of range: 64k or more is needed") }),
        Err(reason) => Err(Error { flag, reason }),
    }
}

/// With a single file Docker empties it in place, and with it what hasn't been read.
fn spool_files(text: &str) -> Result<u32, Error> {
    let count = text.parse().ok().filter(|count| (2..=1000).contains(count));
    count.ok_or_else(|| Error { flag: "log-spool-files", reason: format!("{text:?} is not a number from 2 to 1000") })
}

fn restrict(text: &str) -> Result<RestrictOom, Error> {
    match text {
        "auto" => Ok(RestrictOom::Auto),
        "true" => Ok(RestrictOom::Always),
        "false" => Ok(RestrictOom::Never),
        other => {
            let reason = format!("{other:?} is none of auto, true, false");
            Err(Error { flag: "restrict-oom-score-adj", reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, Error> {
        let arguments = std::iter::once("dockershim").chain(arguments.iter().copied());
        Config::from_flags(cli::Cli::try_parse_from(arguments).unwrap().flags)
    }

    #[test]
    fn defaults_are_cri_dockerds_but_for_our_own_places() {
        let config = config(&[]).unwrap();
        assert_eq!(config.endpoints, [PathBuf::from("/run/dockershim.sock")]);
        assert_eq!(config.docker_socket, PathBuf::from("/var/run/docker.sock"));
        assert_eq!(config.network, Network::Cni);
        assert_eq!(config.sandbox_image, None);
        assert!(config.streaming.ip().is_loopback());
        assert_eq!(config.stream_limits.idle, Duration::from_secs(4 * 60 * 60));
        assert_eq!(config.stream_limits.creation, Duration::from_secs(30));
        assert_eq!(config.request_timeout, Duration::from_secs(119));
        assert_eq!(config.pull_progress_deadline, Some(Duration::from_secs(60)));
        assert_eq!(config.log_format, Format::Cri);
        assert_eq!(config.log_spool, LogOptions { max_size_bytes: 16 << 20, max_files: 4 });
    }

    #[test]
    fn both_forms_of_a_flag_and_both_names_of_the_root_directory_are_taken() {
        let with_equals = config(&["--root-directory=/a", "--network-plugin="]).unwrap();
        let with_space = config(&["--cri-dockerd-root-directory", "/a", "--network-plugin", "bridge"]).unwrap();
        assert_eq!(with_equals.state_dir, with_space.state_dir);
        assert_eq!(with_equals.network, with_space.network);
        let two = config(&["--container-runtime-endpoint=unix:///a", "--container-runtime-endpoint", "/b"]).unwrap();
        assert_eq!(two.endpoints.len(), 2);
        assert_eq!(config(&["--cni-bin-dir=/a,/b"]).unwrap().cni.bin.len(), 2);
        assert_eq!(config(&["--streaming-bind-addr=127.0.0.1"]).unwrap().streaming.port(), 0);
    }

    #[test]
    fn logs_are_told_by_three_flags() {
        let config = config(&["--log-format=docker", "--log-spool-size=4MiB", "--log-spool-files=2"]).unwrap();
        assert_eq!(config.log_format, Format::Docker);
        assert_eq!(config.log_spool, LogOptions { max_size_bytes: 4 << 20, max_files: 2 });
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_the_flags_name() {
        let cases = [
            ("--docker-endpoint=tcp://1.2.3.4:5", "docker-endpoint"),
            ("--container-runtime-endpoint=relative.sock", "container-runtime-endpoint"),
            ("--network-plugin=kubenet", "network-plugin"),
            ("--pod-cidr=10.1.0.0", "pod-cidr"),
            ("--log-level=loud", "log-level"),
            ("--runtime-request-timeout=soon", "runtime-request-timeout"),
            ("--streaming-bind-addr=nowhere", "streaming-bind-addr"),
            ("--streaming-idle-timeout=0", "streaming-idle-timeout"),
            ("--streaming-creation-timeout=-1s", "streaming-creation-timeout"),
            ("--restrict-oom-score-adj=maybe", "restrict-oom-score-adj"),
            ("--log-format=json", "log-format"),
            ("--log-spool-size=large", "log-spool-size"),
            ("--log-spool-size=63k", "log-spool-size"),
            ("--log-spool-size=9223372036854775808", "log-spool-size"),
            ("--log-spool-files=1", "log-spool-files"),
            ("--log-spool-files=-4", "log-spool-files"),
        ];
        for (argument, flag) in cases {
            assert!(config(&[argument]).unwrap_err().to_string().starts_with(&format!("--{flag}: ")), "{argument}");
        }
    }
}
