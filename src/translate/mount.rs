//! Mounts of a container, by Docker's Mounts interface: it fails for a missing source, where Binds would make a directory.
//! Only an SELinux relabel, which Mounts lacks, goes through Binds. Pure: sources come in with their links resolved.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard::models::{Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountImageOptions, MountType};

use serde::{Deserialize, Serialize};

use super::etc;
use super::image::ImageFacts;
use super::node::Node;
use crate::cri;
use crate::engine::feature::Feature;
use crate::engine::model::{AskedMount, MountPoint};
use crate::error::{Error, Result};

/// What a mount is made of, as it was found on the node.
#[derive(Clone, Debug)]
pub enum Source {
    /// A host path, links resolved.
    Path(String),
    /// An image.
    Image(Arc<ImageFacts>),
    /// An image that wasn't looked for: the engine can't mount any.
    NoImage,
}

/// Docker's two ways to mount, and what is to be told of image volumes.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<Mount>,
    pub(super) binds: Vec<String>,
    pub(super) volumes: BTreeMap<String, Volume>,
}

/// An image volume as it is to be told back: the Engine tells neither its name nor its sub-path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Volume {
    image: String,
    reference: String,
    sub_path: String,
}

/// The image of an image volume.
pub fn image_of(mount: &cri::Mount) -> Option<&cri::ImageSpec> {
    mount.image.as_ref().filter(|image| !image.image.is_empty())
}

/// What the kubelet counts failures of image volumes by.
pub const IMAGE_FAILURE: &str = "ImageVolumeMountFailed";

/// Takes mounts apart; `sources` are what they are made of, one each.
pub(super) fn mounts(mounts: &[cri::Mount], sources: &[Source], node: &Node) -> Result<Mounts> {
    let mut made = Mounts::default();
    let mut taken = HashMap::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("config.mounts[{index}]");
        let asked = check(&at, mount)?;
        // as the Engine tells it
        let mount = &cri::Mount { container_path: clean(&mount.container_path), ..mount.clone() };
        if let Some(other) = taken.insert(mount.container_path.clone(), index) {
            return Err(Error::invalid(format!("{at}.container_path"), format!("is that of mounts[{other}] too")));
        }
        match (image_of(mount), sources.get(index)) {
            (Some(image), source) => made.add_image(&at, mount, image, source, node)?,
            (None, Some(Source::Path(source))) if mount.selinux_relabel && node.selinux => {
                made.binds.push(bind_text(&at, source, mount, asked)?);
            }
            (None, Some(Source::Path(source))) => made.mounts.push(bind(&at, source, mount, asked, node)?),
            (None, _) => return Err(Error::invalid(format!("{at}.host_path"), "was not looked for")),
        }
    }
    Ok(made)
}

/// What a path is made of, however it is written.
pub(super) fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// An absolute path without what says nothing.
fn clean(path: &str) -> String {
    parts(path).flat_map(|part| ["/", part]).collect()
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
    let why = match container_path {
        path if !path.starts_with('/') => Some("is not an absolute path"),
        path if parts(path).any(|part| part == "..") => Some("leads out of where it seems to"),
        path if parts(path).next().is_none() => Some("is the container's own root"),
        path if path.contains('\0') => Some("has a NUL in it"),
        _ => None,
    };
    if let Some(why) = why {
        return Err(Error::invalid(format!("{at}.container_path"), format!("{container_path:?} {why}")));
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
    if image_sub_path.starts_with('/') || image_sub_path.split('/').any(|part| part == "..") {
        let reason = format!("{image_sub_path:?} is not a path within the image");
        return Err(Error::invalid(format!("{at}.image_sub_path"), reason));
    }
    if is_image && !private {
        return Err(Error::invalid(format!("{at}.propagation"), "of an image can only be private"));
    }
    if *recursive_read_only && !(*readonly && private) {
        return Err(Error::invalid(format!("{at}.recursive_read_only"), "needs readonly and private propagation"));
    }
    Ok(propagation)
}

impl Mounts {
    fn add_image(
        &mut self,
        at: &str,
        mount: &cri::Mount,
        image: &cri::ImageSpec,
        source: Option<&Source>,
        node: &Node,
    ) -> Result<()> {
        node.need(&format!("{IMAGE_FAILURE}: {at}.image"), Feature::ImageMount)?;
        if !mount.readonly {
            return Err(Error::invalid(format!("{at}.readonly"), "an image can only be mounted read-only"));
        }
        let Some(Source::Image(facts)) = source else {
            return Err(Error::invalid(format!("{at}.image"), "was not looked for"));
        };
        let volume = Volume {
            image: image.image.clone(),
            reference: facts.id.to_string(),
            sub_path: mount.image_sub_path.clone(),
        };
        self.volumes.insert(mount.container_path.clone(), volume);
        self.mounts.push(Mount {
            target: Some(mount.container_path.clone()),
            source: Some(facts.id.to_string()),
            typ: Some(MountType::IMAGE),
            image_options: (!mount.image_sub_path.is_empty())
                .then(|| MountImageOptions { subpath: Some(mount.image_sub_path.clone()) }),
            ..Mount::default()
        });
        Ok(())
    }
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
pub(super) fn told(
    mounts: &[MountPoint],
    asked: &[AskedMount],
    volumes: &BTreeMap<String, Volume>,
    sandbox: &str,
) -> Vec<cri::Mount> {
    let recursive =
        |path: &str| asked.iter().any(|mount| mount.target == path && mount.bind_options.read_only_force_recursive);
    let shown = mounts.iter().filter(|mount| matches!(mount.kind.as_str(), "bind" | "image"));
    let shown = shown.filter(|mount| !etc::is_ours(&mount.source, &mount.destination, sandbox));
    let mut told: Vec<cri::Mount> = shown
        .map(|mount| {
            let propagation = match mount.propagation.as_str() {
                "rslave" | "slave" => cri::MountPropagation::PropagationHostToContainer,
                "rshared" | "shared" => cri::MountPropagation::PropagationBidirectional,
                _ => cri::MountPropagation::PropagationPrivate,
            };
            let told = cri::Mount {
                container_path: mount.destination.clone(),
                readonly: !mount.rw,
                propagation: propagation.into(),
                recursive_read_only: recursive(&mount.destination),
                ..cri::Mount::default()
            };
            match volumes.get(&mount.destination) {
                None => cri::Mount { host_path: mount.source.clone(), ..told },
                Some(Volume { image, reference, sub_path }) => cri::Mount {
                    image: Some(cri::ImageSpec {
                        image: image.clone(),
                        image_ref: reference.clone(),
                        ..cri::ImageSpec::default()
                    }),
                    image_sub_path: sub_path.clone(),
                    readonly: true,
                    ..told
                },
            }
        })
        .collect();
    told.sort_by(|a, b| a.container_path.cmp(&b.container_path));
    told
}

#[cfg(test)]
mod tests {
    use super::super::image::facts;
    use super::super::node::tests::node;
    use super::*;
    use crate::engine::feature::ApiVersion;
    use crate::engine::model::{BindOptions, ImageInspect};

    fn engine(minor: u16) -> Node {
        Node { api: ApiVersion { major: 1, minor }, ..node() }
    }

    fn mount() -> cri::Mount {
        cri::Mount { container_path: "/data".into(), host_path: "/host".into(), ..Default::default() }
    }

    fn found() -> Vec<Source> {
        vec![Source::Path("/real".to_owned())]
    }

    fn made(mount: cri::Mount, minor: u16) -> Result<Mounts> {
        mounts(&[mount], &found(), &engine(minor))
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
            (cri::Mount { container_path: "/".into(), ..mount() }, "container_path"),
            (cri::Mount { container_path: "/.//./".into(), ..mount() }, "container_path"),
            (cri::Mount { container_path: "..".into(), ..mount() }, "container_path"),
            (cri::Mount { container_path: "/a/../..".into(), ..mount() }, "container_path"),
            (cri::Mount { container_path: "/a\0b".into(), ..mount() }, "container_path"),
            (cri::Mount { image_sub_path: "a".into(), ..mount() }, "image_sub_path"),
            (cri::Mount { image_sub_path: "../a".into(), image: Some(image()), ..mount() }, "image_sub_path"),
            (cri::Mount { image_sub_path: "/a".into(), image: Some(image()), ..mount() }, "image_sub_path"),
            (
                cri::Mount {
                    recursive_read_only: true,
                    readonly: true,
                    propagation: cri::MountPropagation::PropagationBidirectional.into(),
                    ..mount()
                },
                "recursive_read_only",
            ),
            (cri::Mount { recursive_read_only: true, ..mount() }, "recursive_read_only"),
            (cri::Mount { propagation: 7, ..mount() }, "propagation"),
            (cri::Mount { uid_mappings: vec![mapping], ..mount() }, "uidMappings"),
        ] {
            let error = made(bad, 48).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.mounts[0].{at}: ")), "{error}");
        }
    }

    #[test]
    fn two_mounts_have_two_places() {
        let twice = [mount(), mount()];
        let error = mounts(&twice, &[found(), found()].concat(), &engine(41)).unwrap_err().to_string();
        assert!(error.starts_with("config.mounts[1].container_path: "), "{error}");
        let many: Vec<_> =
            (0..1000).map(|number| cri::Mount { container_path: format!("/data/{number}"), ..mount() }).collect();
        assert_eq!(mounts(&many, &vec![found().remove(0); 1000], &engine(41)).unwrap().mounts.len(), 1000);
    }

    fn image() -> cri::ImageSpec {
        cri::ImageSpec { image: "app:1".into(), ..Default::default() }
    }

    #[test]
    fn an_image_needs_an_engine_that_mounts_images() {
        let inspect =
            ImageInspect { id: "sha256:1".into(), repo_digests: vec!["app@sha256:2".into()], ..Default::default() };
        let sources = [Source::Image(Arc::new(facts(&inspect)))];
        let volume = cri::Mount { image: Some(image()), readonly: true, image_sub_path: "a/b".into(), ..mount() };
        let made = |mount: &cri::Mount, minor| mounts(std::slice::from_ref(mount), &sources, &engine(minor));
        let Mounts { mut mounts, volumes, .. } = made(&volume, 48).unwrap();
        let bind = mounts.remove(0);
        assert_eq!(bind.source.as_deref(), Some("sha256:1"));
        assert_eq!(bind.image_options.unwrap().subpath.as_deref(), Some("a/b"));
        let error = made(&volume, 47).unwrap_err();
        assert!(matches!(error, Error::Unimplemented(_)), "{error:?}");
        assert!(
            error.to_string().starts_with("ImageVolumeMountFailed: ") && error.to_string().contains("1.48"),
            "{error}"
        );
        assert!(made(&cri::Mount { readonly: false, ..volume.clone() }, 48).is_err());
        let point = MountPoint {
            kind: "image".into(),
            source: "/var/lib/x".into(),
            destination: "/data".into(),
            ..Default::default()
        };
        let told = told(&[point], &[], &volumes, "5a4d").remove(0);
        assert_eq!((told.image.unwrap().image_ref.as_str(), told.image_sub_path.as_str()), ("sha256:1", "a/b"));
        assert_eq!((told.host_path.as_str(), told.readonly), ("", true));
    }

    #[test]
    fn a_relabel_goes_through_binds_where_selinux_is_on() {
        let relabel = cri::Mount { selinux_relabel: true, readonly: true, ..mount() };
        assert_eq!(made(relabel.clone(), 48).unwrap().mounts.len(), 1);
        let enforcing = Node { selinux: true, ..engine(48) };
        let made = mounts(&[relabel], &found(), &enforcing).unwrap();
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
        let options = BindOptions { read_only_force_recursive: true };
        let asked = [AskedMount { target: "/b".into(), bind_options: options }];
        let points = [
            point("bind", "/b", false, "rslave"),
            point("volume", "/v", true, ""),
            point("bind", "/a", true, "rprivate"),
            MountPoint { source: "/state/5a4d/hosts".into(), ..point("bind", "/etc/hosts", true, "") },
        ];
        let told = told(&points, &asked, &BTreeMap::new(), "5a4d");
        assert_eq!((told[0].recursive_read_only, told[1].recursive_read_only), (false, true));
        assert_eq!(told.iter().map(|mount| mount.container_path.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
        assert!(told[1].readonly && told[1].propagation() == cri::MountPropagation::PropagationHostToContainer);
    }
}
