//! The Docker Engine: reached, of a version that is known, and made so that pods can be relied on. Pure.

use super::facts::{Facts, Space};
use super::finding::{Check, Finding, Group, Judged, Skip, count};
use crate::engine::Error;
use crate::engine::feature::ApiVersion;
use crate::engine::model::Version;
use crate::translate::label;

pub(super) const GROUP: Group = Group {
    name: "engine",
    checks: &[
        Check::new("DKR-01", "the Engine answers", answers),
        Check::new("DKR-02", "the Engine's API is spoken here", api),
        Check::new("DKR-03", "the Engine is not newer than what has been tried", not_newer),
        Check::new("DKR-04", "container logs are files", log_driver),
        Check::new("DKR-05", "pods outlive a restart of dockerd", live_restore),
        Check::new("DKR-06", "images share their layers", storage_driver),
        Check::new("DKR-07", "the Engine runs as root, and its containers' root is root", users),
        Check::new("DKR-08", "there is room for images and containers", room),
        Check::new("DKR-09", "no authorization plugin is in the way", authorization),
    ],
};

/// Below these shares of what is free the kubelet, when not told otherwise, removes images and then evicts pods.
const LEAST_BYTES_PERCENT: u64 = 15;
const LEAST_INODES_PERCENT: u64 = 5;
/// With less than this no image can be pulled.
const LEAST_BYTES: u64 = 100 << 20;

fn answers(facts: &Facts) -> Judged {
    let socket = facts.config.docker_socket.display();
    let next = format!("systemctl status docker; docker --host unix://{socket} version");
    let engine = match &facts.engine {
        Ok(engine) => engine,
        // it has answered
        Err(Error::TooOld { .. }) => return Ok(Finding::ok(socket.to_string())),
        Err(error) => return Ok(Finding::failed(format!("{socket}: {error}"), next)),
    };
    let (info, list) = (engine.info.as_ref().err(), engine.containers.as_ref().err());
    let said = [("/info", info), ("/containers/json", list)];
    match said.iter().find_map(|(path, error)| error.map(|error| (path, error))) {
        None => Ok(Finding::ok(format!("Docker {} on {socket}", engine.version.version))),
        // which is about the version
        Some((_, Error::BadRequest { .. })) => Ok(Finding::ok(socket.to_string())),
        Some((path, error)) => {
            Ok(Finding::failed(format!("{socket} answers GET /version, but GET {path}: {error}"), next))
        }
    }
}

fn api(facts: &Facts) -> Judged {
    if let Err(error @ Error::TooOld { .. }) = &facts.engine {
        return Ok(Finding::failed(error.to_string(), "apt-get install docker.io"));
    }
    let version = &facts.engine()?.version;
    match speaks_too_new(version) {
        Some(oldest) => Ok(Finding::failed(
            format!("the Engine speaks API {oldest} and later, and dockershim knows {} at most", ApiVersion::NEWEST),
            "install a newer dockershim",
        )),
        None => Ok(Finding::ok(format!("API {}", version.api_version))),
    }
}

/// The oldest API that the Engine speaks, if that is newer than all that we do.
fn speaks_too_new(version: &Version) -> Option<ApiVersion> {
    ApiVersion::parse(&version.min_api_version).filter(|oldest| *oldest > ApiVersion::NEWEST)
}

fn not_newer(facts: &Facts) -> Judged {
    let version = &facts.engine()?.version;
    if speaks_too_new(version).is_some() {
        return Err(Skip::because("its API isn't spoken (DKR-02)"));
    }
    match ApiVersion::parse(&version.api_version) {
        Some(api) if api > ApiVersion::NEWEST => Ok(Finding::warning(
            format!(
                "Docker {} (API {api}) is newer than any that dockershim was tried with; it is spoken to as API {}",
                version.version,
                ApiVersion::NEWEST
            ),
            "dockershim check --run-pod",
        )),
        _ => Ok(Finding::ok(format!("Docker {}", version.version))),
    }
}

/// Our own containers have json-file whatever the Engine's default is; those of another adapter have the default.
fn log_driver(facts: &Facts) -> Judged {
    let (driver, containers) = (&facts.info()?.logging_driver, facts.containers()?);
    let theirs = containers.iter().filter(|container| label::is_of_another_adapter(&container.labels)).count();
    if driver == "json-file" || driver.is_empty() || theirs == 0 {
        return Ok(Finding::ok("json-file, which dockershim asks for"));
    }
    Ok(Finding::warning(
        format!(
            "the Engine's own driver is {driver}: {} of another adapter may have no logs that kubectl can show, until made anew",
            count(theirs, "container")
        ),
        "docker inspect --format '{{.Name}} {{.HostConfig.LogConfig.Type}}' $(docker ps --quiet)",
    ))
}

fn live_restore(facts: &Facts) -> Judged {
    if facts.info()?.live_restore_enabled {
        return Ok(Finding::ok("live-restore is on"));
    }
    Ok(Finding::warning(
        "live-restore is off: when dockerd is restarted or upgraded, all pods end",
        "put \"live-restore\": true into /etc/docker/daemon.json, then: systemctl reload docker",
    ))
}

fn storage_driver(facts: &Facts) -> Judged {
    let driver = facts.info()?.driver.as_str();
    let next = "put \"storage-driver\": \"overlay2\" into /etc/docker/daemon.json, then: systemctl restart docker";
    match driver {
        "vfs" => Ok(Finding::warning(
            "the storage driver vfs copies the whole image for each container: slow, and the disk fills up",
            next,
        )),
        "aufs" | "devicemapper" | "overlay" => {
            Ok(Finding::warning(format!("the storage driver {driver} is gone from newer Engines"), next))
        }
        other => Ok(Finding::ok(other)),
    }
}

fn users(facts: &Facts) -> Judged {
    let options = &facts.info()?.security_options;
    let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
    if has("rootless") {
        return Ok(Finding::failed(
            "the Engine is rootless: it can make neither the network nor the cgroups of a pod",
            "systemctl enable --now docker",
        ));
    }
    if has("userns") {
        return Ok(Finding::failed(
            "userns-remap is on: containers can't join the namespaces of a sandbox, nor read what the kubelet mounts",
            "remove userns-remap from /etc/docker/daemon.json, then: systemctl restart docker",
        ));
    }
    Ok(Finding::ok("neither rootless nor userns-remap"))
}

fn room(facts: &Facts) -> Judged {
    let root = &facts.info()?.docker_root_dir;
    let Some(space) = facts.engine()?.space else {
        return Err(Skip::because(format!("{root} can't be seen from here")));
    };
    let Space { total_bytes, available_bytes, inodes, inodes_available } = space;
    let percent = |part: u64, whole: u64| part.saturating_mul(100).checked_div(whole).unwrap_or(100);
    let (bytes_left, inodes_left) = (percent(available_bytes, total_bytes), percent(inodes_available, inodes));
    let seen =
        format!("{root} has {} MiB ({bytes_left} %) and {inodes_left} % of its inodes left", available_bytes >> 20);
    let next = "docker system df, then: docker image prune --all";
    if available_bytes < LEAST_BYTES || (inodes > 0 && inodes_available == 0) {
        Ok(Finding::failed(seen, next))
    } else if bytes_left < LEAST_BYTES_PERCENT || inodes_left < LEAST_INODES_PERCENT {
        Ok(Finding::warning(format!("{seen}: a kubelet removes images there, and then evicts pods"), next))
    } else {
        Ok(Finding::ok(seen))
    }
}

fn authorization(facts: &Facts) -> Judged {
    let plugins = &facts.info()?.plugins.authorization;
    if plugins.is_empty() {
        return Ok(Finding::ok("none"));
    }
    Ok(Finding::warning(
        format!("{} may refuse any call of dockershim's, and sees no body above 1 MiB", plugins.join(", ")),
        "dockershim check --run-pod",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::testing;
    use super::*;

    /// What a real disk can't be brought to in a test: the verdict on so much that is left.
    #[test]
    fn room_is_judged_as_the_kubelet_does() {
        let space = |available_bytes, inodes, inodes_available| Space {
            total_bytes: 1000 << 30,
            available_bytes,
            inodes,
            inodes_available,
        };
        let cases = [
            (space(500 << 30, 1000, 500), Verdict::Ok),
            (space(500 << 30, 0, 0), Verdict::Ok),
            (space(149 << 30, 1000, 500), Verdict::Warning),
            (space(500 << 30, 1000, 49), Verdict::Warning),
            (space(500 << 30, 1000, 0), Verdict::Failed),
            (space(99 << 20, 1000, 500), Verdict::Failed),
        ];
        for (space, verdict) in cases {
            let mut facts = testing::facts();
            facts.engine.as_mut().unwrap().space = Some(space);
            let finding = room(&facts).unwrap();
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        }
        let mut facts = testing::facts();
        facts.engine.as_mut().unwrap().space = None;
        assert!(room(&facts).is_err());
    }
}
