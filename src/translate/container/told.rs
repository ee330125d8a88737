//! A container told: an inspect into what the index keeps, and from there what ListContainers and ContainerStatus answer. Pure.

use std::collections::BTreeMap;

use super::super::image::ImageFacts;
use super::super::name::{self, Name};
use super::super::node::Create;
use super::super::sandbox::created_at_ns;
use super::super::{filter, label, mount, resources, signal, state};
use super::ImageRecord;
use crate::cri;
use crate::engine::model::{self, ContainerInspect, MountPoint};
use crate::id::{ContainerId, ImageId, SandboxId};
use crate::index::model::{Container, State, log_end, name_end};
use crate::index::{OwnText, Packed};

/// What an inspect of a container just created will say, as far as it is read: saves asking.
pub fn as_created(id: &str, create: &Create, image: &ImageFacts) -> ContainerInspect {
    let Create { name, body } = create;
    let host = body.host_config.clone().unwrap_or_default();
    let bind = |mount: &bollard::models::Mount| MountPoint {
        kind: mount.typ.map_or_else(String::new, |kind| kind.to_string()),
        source: mount.source.clone().unwrap_or_default(),
        destination: mount.target.clone().unwrap_or_default(),
        rw: !mount.read_only.unwrap_or_default(),
        propagation: mount
            .bind_options
            .as_ref()
            .and_then(|o| o.propagation)
            .map_or_else(String::new, |p| p.to_string()),
    };
    let asked = |mount: &bollard::models::Mount| model::AskedMount {
        target: mount.target.clone().unwrap_or_default(),
        bind_options: model::BindOptions {
            read_only_force_recursive: mount
                .bind_options
                .as_ref()
                .and_then(|options| options.read_only_force_recursive)
                .unwrap_or_default(),
        },
    };
    ContainerInspect {
        id: id.to_owned(),
        name: format!("/{name}"),
        image: body.image.clone().unwrap_or_default(),
        state: model::ContainerState { status: "created".to_owned(), ..Default::default() },
        config: model::ContainerConfig {
            image: body.image.clone().unwrap_or_default(),
            labels: body.labels.clone().unwrap_or_default().into_iter().collect(),
            user: body.user.clone().unwrap_or_default(),
            tty: body.tty.unwrap_or_default(),
            open_stdin: body.open_stdin.unwrap_or_default(),
            stdin_once: body.stdin_once.unwrap_or_default(),
            stop_signal: body.stop_signal.clone().unwrap_or_else(|| image.stop_signal.clone()),
            ..model::ContainerConfig::default()
        },
        mounts: host.mounts.iter().flatten().map(bind).collect(),
        host_config: model::HostConfig {
            cgroup_parent: host.cgroup_parent.unwrap_or_default(),
            cpu_period: host.cpu_period.unwrap_or_default(),
            cpu_quota: host.cpu_quota.unwrap_or_default(),
            cpu_shares: host.cpu_shares.unwrap_or_default(),
            memory: host.memory.unwrap_or_default(),
            memory_swap: host.memory_swap.unwrap_or_default(),
            cpuset_cpus: host.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: host.cpuset_mems.unwrap_or_default(),
            oom_score_adj: host.oom_score_adj.unwrap_or_default(),
            mounts: host.mounts.iter().flatten().map(asked).collect(),
            ..Default::default()
        },
        ..ContainerInspect::default()
    }
}

/// What Docker's API can't say of a new container's cgroup: file name to value.
pub fn wishes(create: &Create) -> BTreeMap<String, String> {
    let label = create.body.labels.as_ref().and_then(|labels| labels.get(label::WISHES));
    label.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What the index keeps of a container; None when it isn't one of ours.
pub fn from_inspect(inspect: &ContainerInspect) -> Option<Container> {
    let docker_name = inspect.name.strip_prefix('/').unwrap_or(&inspect.name);
    let Name::Container { name, attempt, pod: _ } = name::parse(docker_name)? else { return None };
    let labels = &inspect.config.labels;
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    if label(label::TYPE) != label::TYPE_CONTAINER || label(label::SANDBOX_ID).is_empty() {
        return None;
    }
    let created_at_ns = created_at_ns(inspect);
    let life = state::life(inspect, created_at_ns);
    let told = label::read(labels);
    let wishes: BTreeMap<String, String> = serde_json::from_str(&label(label::WISHES)).unwrap_or_default();
    let record: ImageRecord = serde_json::from_str(&label(label::IMAGE)).unwrap_or_default();
    let mounts = mount::told(&inspect.mounts, &inspect.host_config.mounts, &record.volumes, &label(label::SANDBOX_ID));
    let resources = resources::told(&inspect.host_config, &wishes);
    let (image, image_ref) = image_told(record, inspect);
    Some(Container {
        id: ContainerId::new(inspect.id.as_str()),
        sandbox_id: SandboxId::new(label(label::SANDBOX_ID)),
        docker_name: OwnText::new(docker_name, &name_end(attempt)),
        name: name.into(),
        attempt,
        labels: told.labels.into(),
        annotations: told.annotations.into(),
        image: Packed::new(&image),
        image_ref: image_ref.into(),
        image_id: ImageId::new(inspect.image.as_str()),
        state: life.state,
        created_at_ns,
        started_at_ns: life.started_at_ns,
        finished_at_ns: life.finished_at_ns,
        exit_code: life.exit_code,
        reason: life.reason,
        message: life.message,
        pid: inspect.state.pid,
        mounts: mounts.iter().map(Packed::new).collect(),
        log_path: OwnText::new(&label(label::LOG_PATH), &log_end(attempt)),
        spool_path: OwnText::new(&inspect.log_path, &inspect.id),
        resources: Packed::new(&resources),
        cgroup_wishes: wishes.into(),
        oom_score_wish: None,
        user: None,
        stop_signal: signal::from_docker(&inspect.config.stop_signal),
        fingerprint: if life.state == State::Exited { String::new() } else { label(label::FINGERPRINT) },
    })
}

/// From our label, or what the Engine knows of one that another adapter made.
fn image_told(record: ImageRecord, inspect: &ContainerInspect) -> (cri::ImageSpec, String) {
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let spec = cri::ImageSpec {
        image: or(record.name, &inspect.config.image),
        user_specified_image: record.user_specified,
        runtime_handler: record.runtime_handler,
        ..cri::ImageSpec::default()
    };
    (spec, or(record.reference, &inspect.image))
}

/// As ListContainers tells it.
pub fn to_item(container: &Container) -> cri::Container {
    cri::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.sandbox_id.to_string(),
        metadata: Some(container.metadata()),
        image: Some(container.image.open()),
        image_ref: container.image_ref.to_string(),
        state: filter::to_cri(container.state).into(),
        created_at: container.created_at_ns,
        labels: container.labels.to_map(),
        annotations: container.annotations.to_map(),
        image_id: container.image_id.to_string(),
    }
}

/// As ContainerStatus tells it.
pub fn to_status(container: &Container) -> cri::ContainerStatus {
    cri::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(container.metadata()),
        state: filter::to_cri(container.state).into(),
        created_at: container.created_at_ns,
        started_at: container.started_at_ns,
        finished_at: container.finished_at_ns,
        exit_code: container.exit_code,
        image: Some(container.image.open()),
        image_ref: container.image_ref.to_string(),
        reason: container.reason.to_owned(),
        message: container.message.clone(),
        labels: container.labels.to_map(),
        annotations: container.annotations.to_map(),
        mounts: container.mounts.iter().map(Packed::open).collect(),
        log_path: container.log_path(),
        resources: Some(cri::ContainerResources { linux: Some(container.resources.open()), windows: None }),
        image_id: container.image_id.to_string(),
        user: container.user.as_ref().map(|linux| cri::ContainerUser { linux: Some(linux.open()) }),
        stop_signal: container.stop_signal.into(),
    }
}
