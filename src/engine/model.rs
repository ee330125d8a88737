//! Slim, lenient shapes of what the Engine answers on the paths we read often: only the fields used, every one of them
//! optional, states as plain strings, so that no answer of a newer engine can fail to decode.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Takes JSON `null` for a field's default, as dockerd writes empty maps and lists.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// One item of `GET /containers/json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// Full id.
    pub id: String,
    /// Names, each with a leading `/`; a link's alias may come first.
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`, or what a newer engine says.
    pub state: String,
    /// All labels, the image's included.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Seconds since the epoch.
    #[serde(deserialize_with = "nullable")]
    pub created: i64,
    /// The image as named at create.
    #[serde(deserialize_with = "nullable")]
    pub image: String,
    /// The image's id.
    #[serde(rename = "ImageID", deserialize_with = "nullable")]
    pub image_id: String,
    /// Of which the listing tells the network mode alone.
    #[serde(deserialize_with = "nullable")]
    pub host_config: HostConfig,
}

impl ContainerSummary {
    /// The container's own name, with its leading `/`; a link's alias has a second one.
    pub fn own_name(&self) -> Option<&str> {
        own_name(&self.names)
    }
}

/// One item of `GET /containers/json` as far as it tells that a container is there: a large node's listing is read every 30 s.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerListed {
    /// Full id.
    pub id: String,
    /// As in [`ContainerSummary::names`].
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// As in [`ContainerSummary::state`].
    pub state: String,
}

impl ContainerListed {
    /// As [`ContainerSummary::own_name`].
    pub fn own_name(&self) -> Option<&str> {
        own_name(&self.names)
    }
}

fn own_name(names: &[String]) -> Option<&str> {
    names.iter().map(String::as_str).find(|name| name.matches('/').count() == 1)
}

/// `GET /containers/{id}/json`, as far as we use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    /// Full id.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// With a leading `/`.
    pub name: String,
    /// Id of the image (`sha256:…`).
    pub image: String,
    /// Where it stands.
    #[serde(deserialize_with = "nullable")]
    pub state: ContainerState,
    /// What was asked for at create, merged with the image.
    #[serde(deserialize_with = "nullable")]
    pub config: ContainerConfig,
    /// What was asked of the host.
    #[serde(deserialize_with = "nullable")]
    pub host_config: HostConfig,
    /// Mounts as made.
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<MountPoint>,
    /// Addresses on Docker's networks.
    #[serde(deserialize_with = "nullable")]
    pub network_settings: NetworkSettings,
    /// The Engine's own resolv.conf of the container; empty when it made none.
    #[serde(deserialize_with = "nullable")]
    pub resolv_conf_path: String,
    /// SELinux label of the container's files; empty where SELinux is off.
    #[serde(deserialize_with = "nullable")]
    pub mount_label: String,
    /// The json-file log; empty with other drivers.
    #[serde(deserialize_with = "nullable")]
    pub log_path: String,
}

/// `State` of an inspect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// As in [`ContainerSummary::state`].
    #[serde(rename = "Status")]
    pub status: String,
    /// Running or paused.
    #[serde(rename = "Running")]
    pub running: bool,
    /// Frozen.
    #[serde(rename = "Paused")]
    pub paused: bool,
    /// The kernel killed it for memory; may be set a little after the exit.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Host pid of the first process; 0 when not running.
    #[serde(rename = "Pid")]
    pub pid: i32,
    /// 128+n for signal n.
    #[serde(rename = "ExitCode")]
    pub exit_code: i32,
    /// Why it could not start.
    #[serde(rename = "Error")]
    pub error: String,
    /// RFC 3339; year 1 when never.
    #[serde(rename = "StartedAt")]
    pub started_at: String,
    /// RFC 3339; year 1 when never.
    #[serde(rename = "FinishedAt")]
    pub finished_at: String,
}

/// `Config` of an inspect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Image as named at create.
    #[serde(deserialize_with = "nullable")]
    pub image: String,
    /// Labels, the image's included.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Given at create, or the beginning of the id.
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    /// The Engine made no network sandbox, and no files that go with one.
    #[serde(deserialize_with = "nullable")]
    pub network_disabled: bool,
    /// `uid[:gid]` or a name.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// Has a terminal.
    #[serde(deserialize_with = "nullable")]
    pub tty: bool,
    /// Has a standard input.
    #[serde(deserialize_with = "nullable")]
    pub open_stdin: bool,
    /// Its standard input ends with the first client's.
    #[serde(deserialize_with = "nullable")]
    pub stdin_once: bool,
    /// Signal that `stop` sends first (`SIGTERM` when empty).
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
}

/// `HostConfig` of an inspect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `host`, `none`, `default`, `bridge`, `container:<id>`.
    #[serde(deserialize_with = "nullable")]
    pub network_mode: String,
    /// By `port/protocol` of the container.
    #[serde(deserialize_with = "nullable")]
    pub port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// ``, `host`, `container:<id>`.
    #[serde(deserialize_with = "nullable")]
    pub pid_mode: String,
    /// `private`, `shareable`, `host`, `container:<id>`.
    #[serde(deserialize_with = "nullable")]
    pub ipc_mode: String,
    /// Docker runtime's name.
    #[serde(deserialize_with = "nullable")]
    pub runtime: String,
    /// Parent cgroup as given at create.
    #[serde(deserialize_with = "nullable")]
    pub cgroup_parent: String,
    /// Microseconds.
    #[serde(deserialize_with = "nullable")]
    pub cpu_period: i64,
    /// Microseconds per period; -1 for none.
    #[serde(deserialize_with = "nullable")]
    pub cpu_quota: i64,
    /// Relative weight.
    #[serde(deserialize_with = "nullable")]
    pub cpu_shares: i64,
    /// Bytes.
    #[serde(deserialize_with = "nullable")]
    pub memory: i64,
    /// Bytes of memory and swap together; -1 for no limit.
    #[serde(deserialize_with = "nullable")]
    pub memory_swap: i64,
    /// `0-3,7`.
    #[serde(deserialize_with = "nullable")]
    pub cpuset_cpus: String,
    /// `0-1`.
    #[serde(deserialize_with = "nullable")]
    pub cpuset_mems: String,
    /// -1000 to 1000.
    #[serde(deserialize_with = "nullable")]
    pub oom_score_adj: i64,
    /// Supplementary groups, names or numbers.
    #[serde(deserialize_with = "nullable")]
    pub group_add: Vec<String>,
    /// Mounts as asked for.
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<AskedMount>,
}

/// One of `HostConfig.Mounts` of an inspect: what [`MountPoint`] doesn't tell.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AskedMount {
    /// Path in the container.
    #[serde(deserialize_with = "nullable")]
    pub target: String,
    /// Of binds.
    #[serde(deserialize_with = "nullable")]
    pub bind_options: BindOptions,
}

/// `BindOptions` of a mount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// What is mounted below it is read-only too, or the container doesn't start.
    #[serde(deserialize_with = "nullable")]
    pub read_only_force_recursive: bool,
}

/// A port of the node that leads to a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Address on the node; empty for all.
    #[serde(deserialize_with = "nullable")]
    pub host_ip: String,
    /// A number; empty or 0 for any that is free.
    #[serde(deserialize_with = "nullable")]
    pub host_port: String,
}

/// One of `Mounts` of an inspect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub kind: String,
    /// Path on the host.
    #[serde(rename = "Source", deserialize_with = "nullable")]
    pub source: String,
    /// Path in the container.
    #[serde(rename = "Destination", deserialize_with = "nullable")]
    pub destination: String,
    /// Writable.
    #[serde(rename = "RW", deserialize_with = "nullable")]
    pub rw: bool,
    /// ``, `rprivate`, `rslave`, `rshared`.
    #[serde(rename = "Propagation", deserialize_with = "nullable")]
    pub propagation: String,
}

/// `NetworkSettings` of an inspect: the map only, the flat fields are gone in API 1.52.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// By network name.
    #[serde(deserialize_with = "nullable")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A container's place on one Docker network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// IPv4 address, empty when none.
    #[serde(rename = "IPAddress", deserialize_with = "nullable")]
    pub ip_address: String,
    /// IPv6 address, empty when none.
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "nullable")]
    pub global_ipv6_address: String,
}

/// One item of `GET /images/json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// `sha256:…`.
    pub id: String,
    /// `name:tag`; `<none>:<none>` on old engines for none.
    #[serde(deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`.
    #[serde(deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    /// Bytes.
    #[serde(deserialize_with = "nullable")]
    pub size: i64,
}

/// `GET /images/{name}/json`, as far as we use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    /// `sha256:…`.
    pub id: String,
    /// `name:tag`.
    #[serde(deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`.
    #[serde(deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    /// Bytes.
    #[serde(deserialize_with = "nullable")]
    pub size: i64,
    /// The image's own configuration.
    #[serde(deserialize_with = "nullable")]
    pub config: ImageConfig,
}

/// `Config` of an image inspect; empty fields are left out from API 1.52 on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `uid[:gid]`, `name[:group]` or empty for root.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// Labels that containers inherit.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Signal that stops a container of it.
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
    /// Volumes that a container of it gets.
    #[serde(deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, serde_json::Value>,
}

/// One line of `GET /events`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// `container`, `image`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, `destroy`, `exec_die`, `pull`, `untag`, … (may carry `: detail`).
    #[serde(rename = "Action")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor", deserialize_with = "nullable")]
    pub actor: Actor,
    /// Nanoseconds since the epoch.
    #[serde(rename = "timeNano")]
    pub time_ns: i64,
}

/// The object of an event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Id, or a reference for image events.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels, and facts such as `exitCode`, `execID`, `name`.
    #[serde(rename = "Attributes", deserialize_with = "nullable")]
    pub attributes: BTreeMap<String, String>,
}

/// `GET /version`, as far as we use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// `20.10.24+dfsg1`.
    pub version: String,
    /// `1.41`.
    pub api_version: String,
    /// Oldest API it still speaks.
    #[serde(rename = "MinAPIVersion", deserialize_with = "nullable")]
    pub min_api_version: String,
}

/// `GET /info`, as far as we use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// `cgroupfs`, `systemd`, `none`.
    #[serde(deserialize_with = "nullable")]
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(deserialize_with = "nullable")]
    pub cgroup_version: String,
    /// Where images and containers are.
    #[serde(deserialize_with = "nullable")]
    pub docker_root_dir: String,
    /// Whether containers outlive a dockerd.
    #[serde(deserialize_with = "nullable")]
    pub live_restore_enabled: bool,
    /// Log driver of containers that name none.
    #[serde(deserialize_with = "nullable")]
    pub logging_driver: String,
    /// By their kinds.
    #[serde(deserialize_with = "nullable")]
    pub plugins: Plugins,
    /// Runtimes by name.
    #[serde(deserialize_with = "nullable")]
    pub runtimes: BTreeMap<String, Runtime>,
    /// Runtime of containers that name none.
    #[serde(deserialize_with = "nullable")]
    pub default_runtime: String,
    /// `name=seccomp,profile=default`, `name=apparmor`, …
    #[serde(deserialize_with = "nullable")]
    pub security_options: Vec<String>,
    /// `6.1.0-…`.
    #[serde(deserialize_with = "nullable")]
    pub kernel_version: String,
    /// Storage driver; with the containerd image store its snapshotter.
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// Pairs of words about it: `driver-type` with the containerd image store.
    #[serde(deserialize_with = "nullable")]
    pub driver_status: Vec<Vec<String>>,
    /// Where the engine looks for CDI devices, from API 1.44 on; empty when CDI is off.
    #[serde(rename = "CDISpecDirs", deserialize_with = "nullable")]
    pub cdi_spec_dirs: Vec<String>,
}

/// `Plugins` of `GET /info`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugins {
    /// Those that may refuse calls.
    #[serde(deserialize_with = "nullable")]
    pub authorization: Vec<String>,
}

/// `GET /system/df?type=image`, as far as we use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    /// All layers of images, each counted once.
    pub layers_size: u64,
}

/// One of `Runtimes` of `GET /info`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// From API 1.44: `org.opencontainers.runtime-spec.features` holds its features as JSON text.
    #[serde(deserialize_with = "nullable")]
    pub status: BTreeMap<String, String>,
}

/// `GET /exec/{id}/json`, as far as we use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExecInspect {
    /// Not ended yet.
    #[serde(rename = "Running", deserialize_with = "nullable")]
    pub running: bool,
    /// Null until the exit is committed.
    #[serde(rename = "ExitCode")]
    pub exit_code: Option<i32>,
    /// Host pid, 0 before the start.
    #[serde(rename = "Pid", deserialize_with = "nullable")]
    pub pid: i32,
}
