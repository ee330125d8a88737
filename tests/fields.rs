//! Makes `docs/fields.md`, what becomes of each field that a pod or a container is asked for with, and holds it true. Fields come from
//! the compiled definition, what they do from the translation itself: each is set alone, and what that changes in what Docker is
//! sent is its row. What is done elsewhere is in `NOTES`.
//!
//! `DOCS=write cargo test --test fields` writes the page again.
#![expect(clippy::unwrap_used, reason = "what a test can't go on without fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use dockershim::cri;
use dockershim::engine::feature::ApiVersion;
use dockershim::engine::model::{ContainerConfig, ContainerInspect, ImageInspect};
use dockershim::error::Error;
use dockershim::index::model::Sandbox;
use dockershim::translate::account::Accounts;
use dockershim::translate::container::{self, ContainerRequest, must_know_accounts};
use dockershim::translate::mount::{Source, image_of};
use dockershim::translate::node::{CgroupDriver, LogOptions, Network, Node};
use dockershim::translate::sandbox::{self, SandboxRequest};
use dockershim::translate::{image, resources};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use serde_json::Value;

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.descriptors"));
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fields.md");

/// Request, and what it makes.
const REQUESTS: &[(&str, &str)] = &[
    ("RunPodSandboxRequest", "the pause container that RunPodSandbox creates"),
    ("CreateContainerRequest", "the container that CreateContainer creates"),
    ("UpdateContainerResourcesRequest", "the update that UpdateContainerResources sends"),
];

/// What every request of a kind has, so that it can be made at all.
const BASE: &[(&str, &str)] = &[
    ("RunPodSandboxRequest.config.metadata.name", "pod"),
    ("RunPodSandboxRequest.config.metadata.namespace", "default"),
    ("RunPodSandboxRequest.config.metadata.uid", "0-1"),
    ("CreateContainerRequest.config.metadata.name", "main"),
    ("CreateContainerRequest.config.image.image", "app:1"),
];

/// What stands beside a field, in fields that begin so.
const BESIDE: &[(&str, &[(&str, &str)])] = &[
    ("RunPodSandboxRequest.config.port_mappings.", &[(".container_port", "80"), (".host_port", "8080")]),
    ("CreateContainerRequest.config.envs.", &[(".key", "A")]),
    ("CreateContainerRequest.config.mounts.", &[(".container_path", "/data"), (".host_path", "/srv")]),
    ("CreateContainerRequest.config.mounts.image", &[(".readonly", "true"), (".image.image", "files:1")]),
    ("CreateContainerRequest.config.mounts.recursive_read_only", &[(".readonly", "true")]),
    ("CreateContainerRequest.config.devices.", &[(".host_path", "/dev/fuse")]),
];
/// Where the lists are that [`BESIDE`] is about.
const LISTS: &[&str] = &[".port_mappings", ".envs", ".mounts", ".devices"];

/// Other fields without which a field means nothing.
const NEEDS: &[(&str, &str, &str)] = &[
    (".run_as_group.value", "run_as_user.value", "1000"),
    (".memory_swap_limit_in_bytes", "memory_limit_in_bytes", "67108864"),
    (".hugepage_limits.limit", "page_size", "2MB"),
    (".namespace_options.target_id", "pid", "3"),
    (".localhost_ref", "profile_type", "2"),
];

/// Values, by how a field's path ends; 1, `true` or `value` for others.
const VALUES: &[(&str, &str)] = &[
    (".cpu_period", "50000"),
    (".cpu_quota", "50000"),
    (".cpu_shares", "512"),
    (".memory_limit_in_bytes", "67108864"),
    (".memory_swap_limit_in_bytes", "134217728"),
    (".cpuset_cpus", "0-3"),
    (".cpuset_mems", "0"),
    (".page_size", "2MB"),
    (".limit", "2097152"),
    (".unified", "memory.high=1048576"),
    (".container_path", "/other"),
    (".host_path", "/dev/other"),
    (".permissions", "r"),
    (".image_sub_path", "some/where"),
    (".mounts.image.image", "files:1"),
    (".config.image.image", "other:1"),
    (".localhost_ref", "/profile"),
    (".apparmor_profile", "localhost/profile"),
    (".seccomp_profile_path", "runtime/default"),
    (".apparmor.profile_type", "1"),
    (".seccomp.profile_type", "0"),
    (".security_context.privileged", "true"),
    (".CDI_devices.name", "vendor.com/class=1"),
    (".stop_signal", "19"),
    (".servers", "10.0.0.10"),
    (".host_ip", "127.0.0.1"),
    (".namespace_options.network", "2"),
    (".namespace_options.pid", "2"),
    (".namespace_options.ipc", "2"),
    (".userns_options.mode", "2"),
    (".sysctls", "net.ipv4.ip_forward=1"),
    (".runtime_handler", "runc"),
    (".cgroup_parent", "/kubepods/pod1"),
];

/// What isn't taken apart any further.
const WHOLE: &[&str] = &[
    "RunPodSandboxRequest.config.windows",
    "RunPodSandboxRequest.config.linux.overhead",
    "RunPodSandboxRequest.config.linux.resources",
    "CreateContainerRequest.config.windows",
    "CreateContainerRequest.sandbox_config",
    "UpdateContainerResourcesRequest.windows",
];

/// What a row can't show of itself: by how the field's path ends, the longest that fits.
const NOTES: &[(&str, &str)] = &[
    ("config.metadata.name", "part of Docker's name of the container"),
    ("config.metadata.namespace", "part of Docker's name of the container"),
    ("config.metadata.uid", "part of Docker's name of the container"),
    ("config.metadata.attempt", "part of Docker's name of the container"),
    ("RunPodSandboxRequest.config.log_directory", "CreateContainer is told again, and puts log files there"),
    ("config.linux.overhead", "kept, and told by a verbose status; the pod's own cgroup is the kubelet's"),
    ("config.linux.resources", "kept, and told by a verbose status; the pod's own cgroup is the kubelet's"),
    ("config.windows", "refused"),
    ("UpdateContainerResourcesRequest.windows", "refused"),
    ("RunPodSandboxRequest.config.linux.security_context.privileged", "allows containers of the pod to be privileged"),
    ("port_mappings.protocol", "TCP, UDP or SCTP; in CNI mode passed to the plugins"),
    ("port_mappings.container_port", "in CNI mode passed to the plugins"),
    ("port_mappings.host_port", "in CNI mode passed to the plugins; 0 publishes nothing"),
    ("port_mappings.host_ip", "in CNI mode passed to the plugins"),
    ("dns_config.servers", "the pod's resolv.conf"),
    ("dns_config.searches", "the pod's resolv.conf"),
    ("dns_config.options", "the pod's resolv.conf"),
    ("namespace_options.target_id", "the container whose processes are seen, with pid TARGET: one of the pod"),
    ("security_context.namespace_options.network", "containers share their sandbox's, whatever they ask for"),
    (
        "RunPodSandboxRequest.config.linux.security_context.namespace_options.network",
        "the node's, or one of the pod's own",
    ),
    ("security_context.namespace_options.ipc", "containers share their sandbox's, whatever they ask for"),
    (
        "RunPodSandboxRequest.config.linux.security_context.namespace_options.ipc",
        "the node's, or one that containers join",
    ),
    ("RunPodSandboxRequest.config.linux.security_context.namespace_options.target_id", "of containers only"),
    ("userns_options.mode", "NODE is what there is; POD is refused"),
    ("host_id", "of user namespaces per pod: refused with their mode"),
    ("container_id", "of user namespaces per pod: refused with their mode"),
    ("length", "of user namespaces per pod: refused with their mode"),
    ("Mappings.host_id", "refused: Docker has no id-mapped mounts"),
    ("Mappings.container_id", "refused: Docker has no id-mapped mounts"),
    ("Mappings.length", "refused: Docker has no id-mapped mounts"),
    ("profile_type", "RuntimeDefault is the engine's; on Docker 20.10 a daemon.json can replace that of seccomp"),
    ("seccomp.localhost_ref", "the file's content is sent; at most 1 MiB"),
    ("apparmor.localhost_ref", "must be loaded"),
    ("supplemental_groups_policy", "users and groups of the image are looked up where Docker does the other thing"),
    (
        "RunPodSandboxRequest.config.linux.security_context.supplemental_groups_policy",
        "no image's groups matter to the pause program",
    ),
    ("add_ambient_capabilities", "refused: Docker can't set them"),
    ("selinux_relabel", "by `HostConfig.Binds` (`Z`) where the engine has SELinux"),
    ("mounts.host_path", "links are resolved; what is missing is refused"),
    ("mounts.propagation", "refused where the mount of the source has less"),
    ("mounts.image.image", "must be on the node; told back as it was asked for, and its id beside it"),
    ("mounts.image_sub_path", "looked for in the image when the container is created"),
    ("image.annotations", "choose nothing on Docker"),
    ("image.runtime_handler", "must be one of the engine's; one image store serves all"),
    ("config.image.image", "looked up, and sent by its id"),
    ("config.image.image_ref", "of image volumes"),
    ("mounts.image.user_specified_image", "the name that the kubelet tells itself"),
    ("mounts.image.image_ref", "told back, as it is found on the node"),
    ("log_path", "joined with the pod's log directory"),
    ("pod_sandbox_id", "the sandbox that the container joins"),
    ("sandbox_config", "its log_directory and security_context.privileged; the rest was RunPodSandbox's"),
    ("devices.host_path", "must be a device, or a directory of them"),
    ("CDI_devices.name", "the engine must have CDI on"),
    ("UpdateContainerResourcesRequest.container_id", "the container that is updated"),
    ("UpdateContainerResourcesRequest.annotations", "for runtimes that hook on them; Docker's has none"),
    (
        "UpdateContainerResourcesRequest.linux.oom_score_adj",
        "`/proc/<pid>/oom_score_adj`; -1000 to 1000, none below the node's own without CAP_SYS_RESOURCE",
    ),
    ("oom_score_adj", "-1000 to 1000; none below the node's own without CAP_SYS_RESOURCE"),
    ("memory_limit_in_bytes", "at least 6 MiB, Docker's own bound; swap goes with it"),
    ("unified", "cgroup v2; `memory.swap.max` beside a memory limit is `HostConfig.MemorySwap`"),
    ("hugepage_limits.limit", "reservations too"),
    ("envs.value", "UTF-8"),
    ("sysctls", "those of namespaces that the pod has for itself"),
    ("stdin_once", "with stdin"),
];

#[test]
fn the_page_tells_what_becomes_of_each_field() {
    let page = page();
    if std::env::var("DOCS").is_ok_and(|wish| wish == "write") {
        std::fs::write(PAGE, &page).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    let (kept, page): (Vec<_>, Vec<_>) = (kept.lines().collect(), page.lines().collect());
    let stale: Vec<_> = kept.iter().filter(|line| !page.contains(line)).collect();
    let missing: Vec<_> = page.iter().filter(|line| !kept.contains(line)).collect();
    assert!(kept == page, "docs/fields.md is stale (DOCS=write makes it new): {stale:#?}\nshould be: {missing:#?}");
}

#[test]
fn every_note_is_of_a_field() {
    let paths: Vec<_> = REQUESTS.iter().flat_map(|(request, _)| leaves(request)).collect();
    let used: BTreeSet<_> = paths.iter().filter_map(|path| note(path)).collect();
    let idle: Vec<_> = NOTES.iter().filter(|note| !used.contains(note)).collect();
    assert!(idle.is_empty(), "of no field: {idle:#?}");
}

fn page() -> String {
    let mut page = "# What becomes of each field\n\n\
        Made by `tests/fields.rs` out of the translation itself, and checked by it. The second column is what changes in the body \
        that Docker is sent when the field is set; a row without one tells beside it what is done instead. Nothing is ignored \
        silently: what can't be done is refused with the field's name.\n"
        .to_owned();
    for (request, what) in REQUESTS {
        write!(page, "\n## {request}: {what}\n\n| field | Docker | needs | |\n|---|---|---|---|\n").unwrap();
        for path in leaves(request) {
            let (made, needs) = row(request, &path);
            let (_, note) = note(&path).copied().unwrap_or_default();
            let field = path.trim_start_matches(&format!("{request}."));
            assert!(!made.is_empty() || !note.is_empty(), "{path} does nothing, and nobody says why");
            writeln!(page, "| `{field}` | {made} | {needs} | {note} |").unwrap();
        }
    }
    page
}

/// The note whose path fits best.
fn note(path: &str) -> Option<&'static (&'static str, &'static str)> {
    let fits = NOTES.iter().filter(|(end, _)| path.ends_with(end));
    fits.max_by_key(|(end, _)| end.len())
}

/// What a field changes, and the API version that it needs.
fn row(request: &str, path: &str) -> (String, String) {
    let whole = WHOLE.contains(&path);
    let base = tree(request, path);
    let mut set = base.clone();
    if whole {
        set.insert(path.to_owned(), String::new());
    } else {
        set.insert(path.to_owned(), value(path));
    }
    let newest = node(ApiVersion::NEWEST);
    let (without, with) = (made(request, &base, &newest), made(request, &set, &newest));
    let old = made(request, &set, &node(ApiVersion::OLDEST));
    let needs = match old {
        Err(Error::Unimplemented(text)) => {
            text.split("needs engine ").nth(1).map(|rest| rest.split(" or").next().unwrap_or(rest).to_owned())
        }
        _ => None,
    };
    let with = match with {
        Ok(with) => with,
        Err(error) => {
            // or by that of what it is a part of
            let mut parts = path.rsplit('.').take(3).filter(|part| !["config", "mounts"].contains(part));
            let is_named = parts.any(|field| error.to_string().contains(field));
            assert!(is_named, "{path} is refused without its name: {error}");
            return ("refused".to_owned(), String::new());
        }
    };
    // where what stands beside the field can't be without it, the bare request is compared with
    let without = without.or_else(|_| made(request, &tree(request, request), &newest)).unwrap_or_default();
    let changed: BTreeSet<String> =
        with.iter().filter(|(key, value)| without.get(*key) != Some(value)).map(|(key, _)| named(key)).collect();
    let changed: Vec<_> = changed.into_iter().filter(|name| !name.is_empty()).collect();
    (changed.join(", "), needs.unwrap_or_default())
}

/// A place in a body as the page names it.
fn named(place: &str) -> String {
    match place.strip_prefix("Labels.") {
        Some("io.dockershim.cgroup") => "the container's cgroup".to_owned(),
        Some("io.dockershim.keys") => String::new(),
        Some(label) if label.starts_with("io.") => format!("label `{label}`"),
        Some(_) => "`Labels`".to_owned(),
        None => format!("`{place}`"),
    }
}

/// The fields of a request beside a field, so that it can be made.
fn tree(request: &str, path: &str) -> BTreeMap<String, String> {
    let base = BASE.iter().filter(|(field, _)| field.starts_with(request));
    let mut tree: BTreeMap<_, _> = base.map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect();
    for (_, beside) in BESIDE.iter().filter(|(prefix, _)| path.starts_with(prefix)) {
        let list = LISTS.iter().find_map(|list| path.find(list).map(|at| &path[..at + list.len()])).unwrap();
        tree.extend(beside.iter().map(|(field, value)| (format!("{list}{field}"), (*value).to_owned())));
    }
    for (_, field, value) in NEEDS.iter().filter(|(end, _, _)| path.ends_with(end)) {
        // beside the field itself, or beside the message it is the value of
        let parent = path.trim_end_matches(".value").rsplit_once('.').unwrap().0;
        tree.insert(format!("{parent}.{field}"), (*value).to_owned());
    }
    tree
}

fn value(path: &str) -> String {
    let known = VALUES.iter().filter(|(end, _)| path.ends_with(end)).max_by_key(|(end, _)| end.len());
    known.map_or_else(String::new, |(_, value)| (*value).to_owned())
}

fn node(api: ApiVersion) -> Node {
    Node {
        api,
        cgroup_driver: CgroupDriver::Cgroupfs,
        cgroup_v2: true,
        oom_score_floor: None,
        apparmor: true,
        selinux: false,
        seccomp: true,
        cdi: true,
        runtimes: vec!["runc".to_owned()],
        log: LogOptions { max_size_bytes: 1, max_files: 2 },
    }
}

/// What a request makes, by its place.
fn made(request: &str, fields: &BTreeMap<String, String>, node: &Node) -> Result<BTreeMap<String, Value>, Error> {
    let bytes = encode(request, request, fields);
    let mut places = BTreeMap::new();
    match request {
        "RunPodSandboxRequest" => {
            let cri::RunPodSandboxRequest { config, runtime_handler } = Message::decode(&bytes[..]).unwrap();
            let create = sandbox::create_body(&sandbox_request(&config.unwrap(), &runtime_handler), node)?;
            flatten("", serde_json::to_value(create.body).unwrap(), &mut places);
            places.insert("name".to_owned(), create.name.into());
        }
        "CreateContainerRequest" => {
            let request = Message::decode(&bytes[..]).unwrap();
            let create = create_container(&request, node)?;
            flatten("", serde_json::to_value(create.body).unwrap(), &mut places);
            places.insert("name".to_owned(), create.name.into());
        }
        _ => {
            let cri::UpdateContainerResourcesRequest { linux, .. } = Message::decode(&bytes[..]).unwrap();
            let limits = resources::limits("linux", &linux.unwrap_or_default(), node)?;
            flatten("", serde_json::to_value(limits.update_body()).unwrap(), &mut places);
            let wishes = serde_json::to_value(&limits.wishes).unwrap();
            places.insert("Labels.io.dockershim.cgroup".to_owned(), wishes);
        }
    }
    Ok(places)
}

fn sandbox_request<'a>(config: &'a cri::PodSandboxConfig, runtime_handler: &'a str) -> SandboxRequest<'a> {
    SandboxRequest {
        config,
        runtime_handler,
        image: "sha256:0",
        network: Network::Bridge,
        bare: false,
        seccomp_content: Some("{}"),
        fingerprint: "",
        created_at_ns: 1,
    }
}

fn create_container(
    request: &cri::CreateContainerRequest,
    node: &Node,
) -> Result<dockershim::translate::node::Create, Error> {
    let config = request.config.as_ref().unwrap();
    let named = config.image.as_ref().map_or("", |image| &image.image);
    let inspect = ImageInspect { id: format!("sha256:{named}"), ..ImageInspect::default() };
    let facts = Arc::new(image::facts(&inspect));
    let source = |mount: &cri::Mount| match image_of(mount) {
        Some(_) => Source::Image(facts.clone()),
        None => Source::Path(mount.host_path.clone()),
    };
    let accounts = Accounts::parse(b"root:x:0:0::/:\n", b"");
    let (pod, sources) = (pod(), config.mounts.iter().map(source).collect::<Vec<_>>());
    // as a pod whose containers may be privileged
    let allowed = cri::LinuxSandboxSecurityContext { privileged: true, ..Default::default() };
    let linux = cri::LinuxPodSandboxConfig { security_context: Some(allowed), ..Default::default() };
    let sandbox_config = cri::PodSandboxConfig { linux: Some(linux), ..Default::default() };
    let request = ContainerRequest {
        config,
        sandbox_config: Some(&sandbox_config),
        sandbox: &pod,
        image: &facts,
        accounts: must_know_accounts(config, &facts)?.then_some(&accounts),
        sources: &sources,
        target: Some("c0de"),
        etc: None,
        seccomp_content: Some("{}"),
        log_path: "",
        fingerprint: "",
        created_at_ns: 1,
    };
    container::create_body(&request, node)
}

fn pod() -> Sandbox {
    let labels = [("io.kubernetes.docker.type", "podsandbox")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let inspect = ContainerInspect {
        id: "5a4d".to_owned(),
        name: "/k8s_POD_pod_default_0-1_0".to_owned(),
        config: ContainerConfig { labels: labels.into_iter().collect(), ..Default::default() },
        ..Default::default()
    };
    sandbox::from_inspect(&inspect).unwrap()
}

/// The values of a body by their places; a list is one value.
fn flatten(place: &str, value: Value, places: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(&if place.is_empty() { key } else { format!("{place}.{key}") }, value, places);
            }
        }
        value => {
            places.insert(place.to_owned(), value);
        }
    }
}

fn package() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    set.file.into_iter().find(|file| file.package() == "runtime.v1").unwrap()
}

fn message(name: &str) -> DescriptorProto {
    let name = name.trim_start_matches(".runtime.v1.");
    package().message_type.into_iter().find(|message| message.name() == name).unwrap_or_default()
}

/// The message that a field holds; None for values, lists of them, and maps.
fn held(field: &FieldDescriptorProto) -> Option<DescriptorProto> {
    let held = (field.r#type() == Type::Message).then(|| message(field.type_name()))?;
    (!held.field.is_empty()).then_some(held)
}

/// Each field of a request that holds a value, by its path.
fn leaves(request: &str) -> Vec<String> {
    fn walk(path: &str, message: &DescriptorProto, found: &mut Vec<String>) {
        for field in &message.field {
            let path = format!("{path}.{}", field.name());
            match held(field) {
                Some(inner) if !WHOLE.contains(&path.as_str()) => walk(&path, &inner, found),
                _ => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(request, &message(request), &mut found);
    found
}

/// A message with these fields, on the wire; a list gets one element.
fn encode(path: &str, name: &str, fields: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in message(name).field {
        let path = format!("{path}.{}", field.name());
        let number = u32::try_from(field.number()).unwrap();
        let below = format!("{path}.");
        if fields.keys().any(|set| set.starts_with(&below)) {
            let inner = encode(&path, field.type_name(), fields);
            prost::encoding::bytes::encode(number, &inner, &mut bytes);
        } else if let Some(value) = fields.get(&path) {
            encode_value(number, &field, value, &mut bytes);
        }
    }
    bytes
}

fn encode_value(number: u32, field: &FieldDescriptorProto, value: &str, bytes: &mut Vec<u8>) {
    let text = if value.is_empty() { "value" } else { value };
    let is_map = field.label() == Label::Repeated && field.r#type() == Type::Message;
    match field.r#type() {
        Type::Message if is_map => {
            let (key, value) = text.split_once('=').unwrap_or(("key", text));
            let mut entry = Vec::new();
            prost::encoding::bytes::encode(1, &key.as_bytes().to_vec(), &mut entry);
            prost::encoding::bytes::encode(2, &value.as_bytes().to_vec(), &mut entry);
            prost::encoding::bytes::encode(number, &entry, bytes);
        }
        Type::Message => prost::encoding::bytes::encode(number, &Vec::new(), bytes),
        Type::String | Type::Bytes => prost::encoding::bytes::encode(number, &text.as_bytes().to_vec(), bytes),
        _ => prost::encoding::uint64::encode(number, &value.parse().unwrap_or(1), bytes),
    }
}
