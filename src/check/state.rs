//! What is kept: our state directory, and pods that another adapter has left. Pure.

use super::facts::{Facts, Holder, StateDir};
use super::finding::{Check, Finding, Group, Judged, count};
use crate::engine::model::ContainerSummary;
use crate::translate::label;
use crate::translate::name::{self, Name};
use crate::translate::node::Network;

pub(super) const GROUP: Group = Group {
    name: "state",
    checks: &[
        Check::new("STATE-01", "the state directory can be used", directory),
        Check::new("STATE-03", "pods of another adapter can be taken over", other_pods),
    ],
};

/// Things that one finding names.
const NAMED: usize = 3;

fn directory(facts: &Facts) -> Judged {
    let StateDir { found, is_dir, mode, owner, unwritable, broken, holder, cached_networks: _ } = &facts.state;
    let (dir, place) = (facts.config.state_dir.display(), found.display());
    if !is_dir {
        return Ok(Finding::failed(format!("{place} is no directory"), format!("ls -ld {place}")));
    }
    if let Some(error) = unwritable {
        return Ok(Finding::failed(
            format!("nothing can be written in {place}: {error}"),
            format!("findmnt --target {place}"),
        ));
    }
    if *found == facts.config.state_dir && (mode & 0o022 != 0 || !facts.trusts(*owner)) {
        let cause = format!("{dir} is user {owner}'s and has mode {mode:04o}: others can change what pods mount");
        return Ok(Finding::failed(cause, format!("chown root:root {dir} && chmod 0711 {dir}")));
    }
    if !broken.is_empty() {
        let some: Vec<_> = broken.iter().take(NAMED).map(|path| path.display().to_string()).collect();
        let cause = format!("{} can't be understood and count as not there", count(broken.len(), "record"));
        return Ok(Finding::warning(cause, format!("rm {}", some.join(" "))));
    }
    Ok(held(facts, holder.as_ref()))
}

fn held(facts: &Facts, holder: Option<&Holder>) -> Finding {
    let dir = facts.config.state_dir.display();
    match (holder, facts.pre) {
        (Some(Holder { pid, .. }), false) => Finding::ok(format!("{dir}, in use by process {pid}")),
        (None, true) => Finding::ok(format!("{dir}, in use by nobody")),
        (Some(Holder { pid, .. }), true) => Finding::warning(
            format!("a dockershim (process {pid}) has {dir} already"),
            "dockershim check, without --pre",
        ),
        (None, false) => Finding::warning(
            format!("no dockershim has {dir}: none runs, or it has another --root-directory than this check"),
            "systemctl status dockershim; dockershim config dump",
        ),
    }
}

/// A container whose name is a pod's, of another adapter.
struct Theirs<'a> {
    container: &'a ContainerSummary,
    name: Option<Name>,
}

impl Theirs<'_> {
    fn is_sandbox(&self) -> bool {
        matches!(self.name, Some(Name::Sandbox(_)))
    }

    fn runs(&self) -> bool {
        self.container.state == "running"
    }

    /// Whether CNI made its network, so that CNI must unmake it.
    fn wants_cni(&self) -> bool {
        self.is_sandbox() && self.runs() && self.container.host_config.network_mode == "none"
    }
}

fn other_pods(facts: &Facts) -> Judged {
    let theirs: Vec<_> = facts.containers()?.iter().filter_map(theirs).collect();
    let odd: Vec<_> = theirs.iter().filter(|their| their.name.is_none()).collect();
    if let Some(first) = odd.first() {
        let name = first.container.own_name().unwrap_or(&first.container.id);
        return Ok(Finding::warning(
            format!(
                "{} with a pod's labels have other names than the kubelet's, and are left alone: {name}",
                count(odd.len(), "container")
            ),
            "docker ps --all --filter label=io.kubernetes.docker.type",
        ));
    }
    let (pods, runs) = (theirs.iter().filter(|their| their.is_sandbox()), theirs.iter().filter(|their| their.runs()));
    let (pods, runs) = (pods.count(), runs.count());
    if theirs.is_empty() {
        return Ok(Finding::ok("there are none"));
    }
    let seen =
        format!("{} with {} of another adapter, {runs} running", count(pods, "pod"), count(theirs.len(), "container"));
    let cached = &facts.state.cached_networks;
    let lost = theirs.iter().filter(|their| their.wants_cni() && !cached.contains(&their.container.id)).count();
    if facts.config.network == Network::Cni && lost > 0 {
        let cache = facts.config.cni.cache.display();
        return Ok(Finding::warning(
            format!(
                "{seen}; {} have no result in {cache}: their addresses aren't known, and are not given back",
                count(lost, "pod")
            ),
            format!("ls {cache}/results; --cni-cache-dir, if it is elsewhere"),
        ));
    }
    Ok(Finding::ok(format!("{seen}: dockershim takes them over as they are")))
}

fn theirs(container: &ContainerSummary) -> Option<Theirs<'_>> {
    if !label::is_of_another_adapter(&container.labels) {
        return None;
    }
    let name = container.own_name().and_then(|name| name::parse(name.trim_start_matches('/')));
    Some(Theirs { container, name: name.filter(|name| label::agrees_with(&container.labels, name)) })
}
