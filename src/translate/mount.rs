//! Mounts of a container, by Docker's Mounts interface: it fails for a missing source, where Binds would make a directory.
//! Only an SELinux relabel, which Mounts lacks, goes through Binds. Pure: sources come in with their links resolved.

use bollard::models::{Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountImageOptions, MountType};

use super::etc;
use super::node::Node;
use crate::cri;
use crate::engine::feature::Feature;
use crate::engine::model::MountPoint;
use crate::error::{Error, Result};

/// Docker's two ways to mount.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<Mount>,
    pub(super) binds: Vec<String>,
}

/// Takes mounts apart; `sources` are their host paths with links resolved, one each.
pub(super) fn mounts(mounts: &[cri::Mount], sources: &[String], node: &Node) -> Result<Mounts> {
    let mut made = Mounts::default();
    for (index, mount) in mounts.iter().enumerate() {
        let source = sources.get(index).map_or(mount.host_path.as_str(), String::as_str);
        let at = format!("config.mounts[{index}]");
        let asked = check(&at, mount)?;
        match &mount.image {
            Some(image) if !image.image.is_empty() => made.mounts.push(image_mount(&at, mount, image, node)?),
            _ if mount.selinux_relabel && node.selinux => made.binds.push(bind_text(&at, source, mount, asked)?),
            _ => made.mounts.push(bind(&at, source, mount, asked, node)?),
        }
    }
    Ok(made)
}

/// Refuses what contradicts itself or Docker can't do; gives the propagation.
fn check(at: &str, mount: &cri::Mount) -> Result<cri::MountPropagation> {
    let cri::Mount {
        container_path,
        host_path: _,
        readonly,
        selinux_relabel: _,
        propagation,
        uid_mappings,
        gid_mappings,
        recursive_read_only,
        image,
        image_sub_path,
    } = mount;
    if !container_path.starts_with('/') {
        return Err(Error::invalid(
            format!("{at}.container_path"),
            format!("{container_path:?} is not an absolute path"),
        ));
    }
    for (field, mappings) in [("uidMappings", uid_mappings), ("gidMappings", gid_mappings)] {
        if !mappings.is_empty() {
            return Err(Error::Unimplemented(format!("{at}.{field}: Docker has no id-mapped mounts")));
        }
    }
    let unknown = |_| Error::invalid(format!("{at}.propagation"), format!("{propagation} is unknown"));
    let propagation = cri::MountPropagation::try_from(*propagation).map_err(unknown)?;
    let private = propagation == cri::MountPropagation::PropagationPrivate;
    let is_image = image.as_ref().is_some_and(|image| !image.image.is_empty());
    if !is_image && !image_sub_path.is_empty() {
        return Err(Error::invalid(format!("{at}.image_sub_path"), "needs an image beside it"));
    }
    if is_image && !private {
        return Err(Error::invalid(format!("{at}.propagation"), "of an image can only be private"));
    }
    if *recursive_read_only && !(*readonly && private) {
        return Err(Error::invalid(format!("{at}.recursive_read_only"), "needs readonly and private propagation"));
    }
    Ok(propagation)
}

fn image_mount(at: &str, mount: &cri::Mount, image: &cri::ImageSpec, node: &Node) -> Result<Mount> {
    // the kubelet counts failures that begin so
    let prefixed = |error: Error| match error {
        Error::Unimplemented(text) => Error::Unimplemented(format!("ImageVolumeMountFailed: {text}")),
        other => other,
    };
    node.need(&format!("{at}.image"), Feature::ImageMount).map_err(prefixed)?;
    if !mount.readonly {
        return Err(Error::invalid(format!("{at}.readonly"), "an image can only be mounted read-only"));
    }
    let sub_path = (!mount.image_sub_path.is_empty()).then(|| mount.image_sub_path.clone());
    Ok(Mount {
        target: Some(mount.container_path.clone()),
        source: Some(image.image.clone()),
        typ: Some(MountType::IMAGE),
        image_options: Some(MountImageOptions { subpath: sub_path }),
        ..Mount::default()
    })
}

/// Private propagation is left to the Engine, which widens it where its own root directory is mounted.
pub(super) fn bind(
    at: &str,
    source: &str,
    mount: &cri::Mount,
    propagation: cri::MountPropagation,
    node: &Node,
) -> Result<Mount> {
    if !source.starts_with('/') {
        return Err(Error::invalid(format!("{at}.host_path"), format!("{source:?} is not an absolute path")));
    }
    if mount.recursive_read_only {
        node.need(&format!("{at}.recursive_read_only"), Feature::RecursiveReadOnly)?;
    }
    let can_say = mount.readonly && node.api.has(Feature::RecursiveReadOnly);
    let options = MountBindOptions {
        propagation: match propagation {
            cri::MountPropagation::PropagationPrivate => None,
            cri::MountPropagation::PropagationHostToContainer => Some(MountBindOptionsPropagationEnum::RSLAVE),
            cri::MountPropagation::PropagationBidirectional => Some(MountBindOptionsPropagationEnum::RSHARED),
        },
        // from API 1.44 on the Engine would make every read-only bind recursively so
        read_only_non_recursive: (can_say && !mount.recursive_read_only).then_some(true),
        read_only_force_recursive: (can_say && mount.recursive_read_only).then_some(true),
        ..MountBindOptions::default()
    };
    Ok(Mount {
        target: Some(mount.container_path.clone()),
        source: Some(source.to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(mount.readonly),
        bind_options: Some(options),
        ..Mount::default()
    })
}

/// `source:target:options`, relabelled for this pod alone.
fn bind_text(at: &str, source: &str, mount: &cri::Mount, propagation: cri::MountPropagation) -> Result<String> {
    if mount.recursive_read_only {
        return Err(Error::invalid(
            format!("{at}.recursive_read_only"),
            "Docker can't relabel such a mount for SELinux",
        ));
    }
    if source.contains(':') || mount.container_path.contains(':') {
        return Err(Error::invalid(format!("{at}.selinux_relabel"), "Docker can't relabel a path with a colon in it"));
    }
    let access = if mount.readonly { "ro" } else { "rw" };
    let propagation = match propagation {
        cri::MountPropagation::PropagationPrivate => "",
        cri::MountPropagation::PropagationHostToContainer => ",rslave",
        cri::MountPropagation::PropagationBidirectional => ",rshared",
    };
    Ok(format!("{source}:{}:{access},Z{propagation}", mount.container_path))
}

/// The mounts of a sandbox's container that an inspect shows: binds and images, not the volumes of the image nor our own files.
pub(super) fn told(mounts: &[MountPoint], sandbox: &str) -> Vec<cri::Mount> {
    let shown = mounts.iter().filter(|mount| matches!(mount.kind.as_str(), "bind" | "image"));
    let shown = shown.filter(|mount| !etc::is_ours(&mount.source, &mount.destination, sandbox));
    let mut told: Vec<cri::Mount> = shown
        .map(|mount| {
            let propagation = match mount.propagation.as_str() {
                "rslave" | "slave" => cri::MountPropagation::PropagationHostToContainer,
                "rshared" | "shared" => cri::MountPropagation::PropagationBidirectional,
                _ => cri::MountPropagation::PropagationPrivate,
            };
            cri::Mount {
                container_path: mount.destination.clone(),
                host_path: mount.source.clone(),
                readonly: !mount.rw,
                propagation: propagation.into(),
                ..cri::Mount::default()
            }
        })
        .collect();
    told.sort_by(|a, b| a.container_path.cmp(&b.container_path));
    told
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::node;
    use super::*;
    use crate::engine::feature::ApiVersion;

    fn engine(minor: u16) -> Node {
        Node { api: ApiVersion { major: 1, minor }, ..node() }
    }

    fn mount() -> cri::Mount {
        cri::Mount { container_path: "/data".into(), host_path: "/host".into(), ..Default::default() }
    }

    fn made(mount: cri::Mount, minor: u16) -> Result<Mounts> {
        mounts(&[mount], &["/real".to_owned()], &engine(minor))
    }

    #[test]
    fn a_bind_has_its_resolved_source_and_propagation() {
        let shared = cri::Mount { propagation: cri::MountPropagation::PropagationBidirectional.into(), ..mount() };
        let bind = made(shared, 41).unwrap().mounts.remove(0);
        assert_eq!(bind.source.as_deref(), Some("/real"));
        assert_eq!(bind.bind_options.unwrap().propagation, Some(MountBindOptionsPropagationEnum::RSHARED));
    }

    #[test]
    fn plain_read_only_stays_so_on_every_engine() {
        let readonly = cri::Mount { readonly: true, ..mount() };
        let of = |minor| made(readonly.clone(), minor).unwrap().mounts.remove(0).bind_options.unwrap();
        assert_eq!(of(41).read_only_non_recursive, None);
        assert_eq!(of(44).read_only_non_recursive, Some(true));
        let recursive = cri::Mount { recursive_read_only: true, ..readonly };
        let options = made(recursive.clone(), 44).unwrap().mounts.remove(0).bind_options.unwrap();
        assert_eq!((options.read_only_non_recursive, options.read_only_force_recursive), (None, Some(true)));
        assert!(made(recursive, 43).unwrap_err().to_string().contains("1.44"));
    }

    #[test]
    fn contradictions_are_refused_by_field() {
        let mapping = cri::IdMapping { host_id: 1, container_id: 0, length: 1 };
        for (bad, at) in [
            (cri::Mount { container_path: "data".into(), ..mount() }, "container_path"),
            (cri::Mount { recursive_read_only: true, ..mount() }, "recursive_read_only"),
            (cri::Mount { propagation: 7, ..mount() }, "propagation"),
            (cri::Mount { uid_mappings: vec![mapping], ..mount() }, "uidMappings"),
        ] {
            let error = made(bad, 48).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.mounts[0].{at}: ")), "{error}");
        }
    }

    #[test]
    fn an_image_needs_an_engine_that_mounts_images() {
        let image = cri::ImageSpec { image: "sha256:1".into(), ..Default::default() };
        let volume = cri::Mount { image: Some(image), readonly: true, image_sub_path: "a/b".into(), ..mount() };
        let bind = made(volume.clone(), 48).unwrap().mounts.remove(0);
        assert_eq!(bind.image_options.unwrap().subpath.as_deref(), Some("a/b"));
        assert!(made(volume.clone(), 47).unwrap_err().to_string().starts_with("ImageVolumeMountFailed: "));
        assert!(made(cri::Mount { readonly: false, ..volume }, 48).is_err());
    }

    #[test]
    fn a_relabel_goes_through_binds_where_selinux_is_on() {
        let relabel = cri::Mount { selinux_relabel: true, readonly: true, ..mount() };
        assert_eq!(made(relabel.clone(), 48).unwrap().mounts.len(), 1);
        let enforcing = Node { selinux: true, ..engine(48) };
        let made = mounts(&[relabel], &["/real".to_owned()], &enforcing).unwrap();
        assert_eq!(made.binds, ["/real:/data:ro,Z"]);
    }

    #[test]
    fn volumes_of_the_image_and_files_of_ours_are_not_the_pods() {
        let point = |kind: &str, destination: &str, rw, propagation: &str| MountPoint {
            kind: kind.into(),
            source: "/s".into(),
            destination: destination.into(),
            rw,
            propagation: propagation.into(),
        };
        let points = [
            point("bind", "/b", false, "rslave"),
            point("volume", "/v", true, ""),
            point("bind", "/a", true, "rprivate"),
            MountPoint { source: "/state/5a4d/hosts".into(), ..point("bind", "/etc/hosts", true, "") },
        ];
        let told = told(&points, "5a4d");
        assert_eq!(told.iter().map(|mount| mount.container_path.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
        assert!(told[1].readonly && told[1].propagation() == cri::MountPropagation::PropagationHostToContainer);
    }
}
