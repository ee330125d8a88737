//! What the daemon is told. Knows nothing of the engine.
//!
//! ```text
//! cli.rs: flags ──▶ key.rs: keys ──▶ file.rs: what the file says ─┐
//!    │                     environment ───────────────────────────┼─▶ resolve.rs: flags as if all had been typed ─▶ here: Config
//!    └── what was typed ──────────────────────────────────────────┘
//! ```
//!
//! A new key is a new field of [`cli::Flags`], and what [`Config::from_flags`] makes of it; file, environment, `config default` and
//! docs/configuration.md follow.

mod carry;
pub mod cli;
mod duration;
mod file;
mod key;
pub mod reference;
mod resolve;
mod size;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cni::PodCidrs;
use crate::log::Format;
use crate::stream::Limits;
use crate::translate::node::{LogOptions, Network};
use cli::Flags;

pub use carry::{Carried, Fate, carry_over};
pub use resolve::{Changes, Resolved, Typed};

/// The daemon's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to serve.
    pub endpoints: Vec<Endpoint>,
    /// The engine's socket.
    pub docker_socket: PathBuf,
    /// Image of pod sandboxes; None for the built-in one.
    pub sandbox_image: Option<String>,
    /// Who makes pod networks.
    pub network: Network,
    /// Under a CNI network, the Engine builds no network sandbox of its own.
    pub bare_sandboxes: bool,
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
    /// Where our own figures are served, if they are.
    pub metrics: Option<MetricsAddress>,
    /// How long streams may rest.
    pub stream_limits: Limits,
    /// Of our own log.
    pub log_level: tracing::Level,
    /// Of our own log's lines.
    pub logging_format: LoggingFormat,
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

/// Where the CRI is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket that we make.
    Path(PathBuf),
    /// The sockets that the service manager passes.
    Passed,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Path(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Passed => f.write_str(PASSED),
        }
    }
}

/// Where our own figures are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// For whoever is on this machine.
    Loopback(SocketAddr),
    /// For root and its group.
    Socket(PathBuf),
}

const PASSED: &str = "fd://";

/// How a line of our own log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggingFormat {
    /// For people.
    Text,
    /// An object.
    Json,
}

/// What is told wrongly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value can't be used.
    #[error("{place}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// Where the value stands: a flag, a variable, or a file's line and key.
        place: String,
        /// Why.
        reason: String,
    },
    /// A command line of another adapter is none of ours.
    #[error("{reason}")]
    Arguments {
        /// Why.
        reason: String,
    },
    /// The file that was named is not there.
    #[error("{}: there is no such file; `dockershim config default` prints one to begin with", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read.
    #[error("{}: the configuration can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says nothing at all.
    #[error(
        "{} is empty, as after a write that failed; remove it, or begin with what `dockershim config default` prints",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is no configuration.
    #[error("{} has more than {limit} bytes: that is no configuration of ours", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most it may have.
        limit: u64,
    },
    /// A line of the file can't be used.
    #[error("{}:{line}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A variable that nobody reads.
    #[error("{name}: unknown variable{suggestion}; docs/configuration.md lists all keys")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The one that may have been meant, in words.
        suggestion: String,
    },
}

impl Error {
    /// A value of the flag that can't be used.
    fn value(flag: &str, reason: impl Into<String>) -> Error {
        Error::Value { key: flag.to_owned(), place: format!("--{flag}"), reason: reason.into() }
    }
}

impl Config {
    /// Where we are asked: the first socket that we make, or else the first of our socket unit.
    pub fn own_socket(&self) -> &Path {
        let made = self.endpoints.iter().find_map(|endpoint| match endpoint {
            Endpoint::Path(path) => Some(path.as_path()),
            Endpoint::Passed => None,
        });
        made.unwrap_or_else(|| Path::new(cli::DEFAULT_ENDPOINT.trim_start_matches("unix://")))
    }

    /// Checks the flags.
    pub fn from_flags(flags: Flags) -> Result<Config, Error> {
        let docker_socket = socket("docker-endpoint", &flags.docker_endpoint)?;
        let request_timeout = match time("runtime-request-timeout", &flags.runtime_request_timeout)? {
            Duration::ZERO => Duration::from_secs(119),
            given => given,
        };
        let endpoints = endpoints(&flags.container_runtime_endpoint, &docker_socket)?;
        let deadline = time("image-pull-progress-deadline", &flags.image_pull_progress_deadline)?;
        let network = network(&flags.network_plugin)?;
        Ok(Config {
            metrics: metrics(&flags.metrics_address, &endpoints, &docker_socket)?,
            endpoints,
            docker_socket,
            sandbox_image: Some(flags.pod_infra_container_image).filter(|image| !image.is_empty()),
            network,
            bare_sandboxes: bare_sandboxes(&flags.sandbox_network)?,
            cni: CniDirs {
                conf: directory("cni-conf-dir", flags.cni_conf_dir)?,
                bin: flags
                    .cni_bin_dir
                    .into_iter()
                    .map(|dir| directory("cni-bin-dir", dir))
                    .collect::<Result<_, _>>()?,
                cache: directory("cni-cache-dir", flags.cni_cache_dir)?,
            },
            cni_gc: cni_gc(flags.cni_gc, network)?,
            pod_cidrs: pod_cidrs(&flags.pod_cidr)?,
            state_dir: directory("root-directory", flags.root_directory)?,
            streaming: address(&flags.streaming_bind_addr)?,
            stream_limits: Limits {
                idle: some_time("streaming-idle-timeout", &flags.streaming_idle_timeout)?,
                creation: some_time("streaming-creation-timeout", &flags.streaming_creation_timeout)?,
            },
            log_level: level(&flags.log_level)?,
            logging_format: logging_format(&flags.logging_format)?,
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
fn socket(flag: &'static str, text: &str) -> Result<PathBuf, Error> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error::value(flag, format!("{text:?} is not unix:// and an absolute path")))
}

fn endpoints(texts: &[String], docker_socket: &Path) -> Result<Vec<Endpoint>, Error> {
    let flag = "container-runtime-endpoint";
    let mut endpoints = Vec::new();
    for text in texts {
        let endpoint = if text == PASSED { Endpoint::Passed } else { Endpoint::Path(socket(flag, text)?) };
        if endpoints.contains(&endpoint) {
            return Err(Error::value(flag, format!("{endpoint} is given twice")));
        }
        if endpoint == Endpoint::Path(docker_socket.to_owned()) {
            return Err(Error::value(flag, format!("{endpoint} is the engine's own socket (--docker-endpoint)")));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// Relative ones would depend on where the daemon is started.
fn directory(flag: &'static str, path: PathBuf) -> Result<PathBuf, Error> {
    if path.is_absolute() { Ok(path) } else { Err(Error::value(flag, format!("{path:?} is not an absolute path"))) }
}

fn network(text: &str) -> Result<Network, Error> {
    match text {
        "cni" => Ok(Network::Cni),
        "bridge" | "no-op" | "" => Ok(Network::Bridge),
        other => Err(Error::value("network-plugin", format!("{other:?} is neither cni nor bridge"))),
    }
}

/// On Docker's bridge no plugin would be asked.
fn cni_gc(wanted: bool, network: Network) -> Result<bool, Error> {
    if wanted && network == Network::Bridge {
        return Err(Error::value("cni-gc", "there is no CNI network to clean up with --network-plugin=bridge"));
    }
    Ok(wanted)
}

fn bare_sandboxes(text: &str) -> Result<bool, Error> {
    match text {
        "bare" => Ok(true),
        "engine" => Ok(false),
        other => Err(Error::value("sandbox-network", format!("{other:?} is neither bare nor engine"))),
    }
}

fn pod_cidrs(text: &str) -> Result<PodCidrs, Error> {
    PodCidrs::parse(text).map_err(|reason| Error::value("pod-cidr", reason))
}

fn time(flag: &'static str, text: &str) -> Result<Duration, Error> {
    duration::parse(text).map_err(|reason| Error::value(flag, reason))
}

/// A time that can't be none.
fn some_time(flag: &'static str, text: &str) -> Result<Duration, Error> {
    match time(flag, text)? {
        Duration::ZERO => Err(Error::value(flag, "0 would close every stream at once".to_owned())),
        some => Ok(some),
    }
}

/// `127.0.0.1:10010`, or an address alone for any free port. Nothing, which is every address to cri-dockerd, is our default.
fn address(text: &str) -> Result<SocketAddr, Error> {
    let text = if text.is_empty() { "127.0.0.1" } else { text };
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    text.parse().or_else(|_| alone()).map_err(|_| {
        let reason = format!("{text:?} is not an address, with or without a port, such as 127.0.0.1:10010");
        Error::value("streaming-bind-addr", reason)
    })
}

/// Whoever can connect can read, so only this machine can.
fn metrics(text: &str, endpoints: &[Endpoint], docker_socket: &Path) -> Result<Option<MetricsAddress>, Error> {
    let flag = "metrics-address";
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with("unix://") || text.starts_with('/') {
        let path = socket(flag, text)?;
        if path == docker_socket || endpoints.contains(&Endpoint::Path(path.clone())) {
            return Err(Error::value(flag, format!("{text} is another socket already")));
        }
        return Ok(Some(MetricsAddress::Socket(path)));
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        let reason =
            format!("{text:?} is neither an address with a port, such as 127.0.0.1:9470, nor unix:// and a path");
        Error::value(flag, reason)
    })?;
    if address.port() == 0 {
        return Err(Error::value(flag, format!("{address}: nobody would know which port to read")));
    }
    if !address.ip().is_loopback() {
        let reason = format!(
            "{address} can be reached from elsewhere, and there is neither a password nor TLS; take 127.0.0.1:{port} or a unix:// \
             socket, and let a proxy that has both serve it",
            port = address.port()
        );
        return Err(Error::value(flag, reason));
    }
    Ok(Some(MetricsAddress::Loopback(address)))
}

fn level(text: &str) -> Result<tracing::Level, Error> {
    let known = match text {
        "warning" => "warn",
        "fatal" | "panic" => "error",
        other => other,
    };
    known.parse().map_err(|_| Error::value("log-level", format!("{text:?} is none of error, warn, info, debug, trace")))
}

fn logging_format(text: &str) -> Result<LoggingFormat, Error> {
    match text {
        "text" => Ok(LoggingFormat::Text),
        "json" => Ok(LoggingFormat::Json),
        other => Err(Error::value("logging-format", format!("{other:?} is neither text nor json"))),
    }
}

fn format(text: &str) -> Result<Format, Error> {
    match text {
        "cri" => Ok(Format::Cri),
        "docker" => Ok(Format::Docker),
        other => Err(Error::value("log-format", format!("{other:?} is neither cri nor docker"))),
    }
}

/// A smaller file would be full with a single line of Docker's: 16 KiB, most of them escaped.
const SMALLEST_SPOOL_FILE: u64 = 64 << 10;

fn spool_size(text: &str) -> Result<u64, Error> {
    let flag = "log-spool-size";
    match size::parse(text) {
        // the Engine counts in i64
        Ok(bytes) if bytes >= SMALLEST_SPOOL_FILE && i64::try_from(bytes).is_ok() => Ok(bytes),
        Ok(_) => Err(Error::value(flag, format!("{text:?} is out of range: 64k or more is needed"))),
        Err(reason) => Err(Error::value(flag, reason)),
    }
}

/// With a single file Docker empties it in place, and with it what hasn't been read.
fn spool_files(text: &str) -> Result<u32, Error> {
    let count = text.parse().ok().filter(|count| (2..=1000).contains(count));
    count.ok_or_else(|| Error::value("log-spool-files", format!("{text:?} is not a number from 2 to 1000")))
}

fn restrict(text: &str) -> Result<RestrictOom, Error> {
    match text {
        "auto" => Ok(RestrictOom::Auto),
        "true" => Ok(RestrictOom::Always),
        "false" => Ok(RestrictOom::Never),
        other => Err(Error::value("restrict-oom-score-adj", format!("{other:?} is none of auto, true, false"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, Error> {
        let arguments = std::iter::once("dockershim").chain(arguments.iter().copied());
        Config::from_flags(cli::Cli::try_parse_from(arguments).unwrap().told.flags)
    }

    #[test]
    fn defaults_are_cri_dockerds_but_for_our_own_places() {
        let config = config(&[]).unwrap();
        assert_eq!(config.endpoints, [Endpoint::Path(PathBuf::from("/run/dockershim.sock"))]);
        assert_eq!(config.docker_socket, PathBuf::from("/var/run/docker.sock"));
        assert_eq!(config.network, Network::Cni);
        assert!(config.bare_sandboxes);
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
    fn figures_are_served_to_this_machine_alone() {
        let metrics = |text: &str| config(&[&format!("--metrics-address={text}")]).map(|config| config.metrics);
        assert_eq!(metrics("").unwrap(), None);
        let loopback = |text: &str| Some(MetricsAddress::Loopback(text.parse().unwrap()));
        for address in ["127.0.0.1:9470", "127.8.8.8:1", "[::1]:9470"] {
            assert_eq!(metrics(address).unwrap(), loopback(address));
        }
        assert_eq!(metrics("unix:///run/m.sock").unwrap(), Some(MetricsAddress::Socket(PathBuf::from("/run/m.sock"))));
        for elsewhere in ["0.0.0.0:9470", "10.0.0.1:9470", "[::]:9470"] {
            let error = metrics(elsewhere).unwrap_err().to_string();
            assert!(error.contains("can be reached from elsewhere") && error.contains("127.0.0.1:9470"), "{error}");
        }
        for wrong in
            ["9470", "127.0.0.1:0", "localhost:9470", "127.0.0.1", "unix://m.sock", "127.0.0.1:x", "tcp://127.0.0.1:1"]
        {
            assert!(metrics(wrong).is_err(), "{wrong}");
        }
        for taken in ["/run/dockershim.sock", "unix:///var/run/docker.sock"] {
            assert!(metrics(taken).unwrap_err().to_string().contains("another socket"), "{taken}");
        }
    }

    #[test]
    fn both_forms_of_a_flag_and_both_names_of_the_root_directory_are_taken() {
        let with_equals = config(&["--root-directory=/a", "--network-plugin="]).unwrap();
        let with_space = config(&["--cri-dockerd-root-directory", "/a", "--network-plugin", "bridge"]).unwrap();
        assert_eq!(with_equals.state_dir, with_space.state_dir);
        assert_eq!(with_equals.network, with_space.network);
        let two = config(&["--container-runtime-endpoint=unix:///a", "--container-runtime-endpoint", "/b"]).unwrap();
        assert_eq!(two.endpoints.len(), 2);
        let twice = config(&["--container-runtime-endpoint=/a", "--container-runtime-endpoint=unix:///a"]).unwrap_err();
        assert!(twice.to_string().contains("given twice"), "{twice}");
        assert_eq!(config(&["--cni-bin-dir=/a,/b"]).unwrap().cni.bin.len(), 2);
        assert_eq!(config(&["--streaming-bind-addr=127.0.0.1"]).unwrap().streaming.port(), 0);
    }

    #[test]
    fn garbage_of_cni_is_collected_only_where_there_is_cni() {
        assert!(config(&["--cni-gc"]).unwrap().cni_gc);
        for bridge in ["bridge", "no-op", ""] {
            let plugin = format!("--network-plugin={bridge}");
            let error = config(&["--cni-gc", &plugin]).unwrap_err().to_string();
            assert!(error.starts_with("--cni-gc: ") && error.contains("--network-plugin=bridge"), "{error}");
            assert!(!config(&["--cni-gc=false", &plugin]).unwrap().cni_gc);
        }
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
            ("--container-runtime-endpoint=fd://3", "container-runtime-endpoint"),
            ("--container-runtime-endpoint=/var/run/docker.sock", "container-runtime-endpoint"),
            ("--cni-conf-dir=net.d", "cni-conf-dir"),
            ("--cni-bin-dir=/a,b", "cni-bin-dir"),
            ("--root-directory=state", "root-directory"),
            ("--logging-format=yaml", "logging-format"),
            ("--network-plugin=kubenet", "network-plugin"),
            ("--sandbox-network=none", "sandbox-network"),
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
