//! Limits of a container: CRI's resources into Docker's fields, and what Docker's API has no field for into wishes, files of
//! the container's cgroup that are written right after its start. Pure.
//!
//! Memory and swap always go together: Docker refuses a memory limit above the swap limit it has stored, and doubles an
//! unset one. With no word on swap a container gets none.

use std::collections::BTreeMap;

use bollard::models::{ContainerUpdateBody, HostConfig};

use super::node::Node;
use crate::cri;
use crate::engine::model;
use crate::error::{Error, Result};

/// Docker's own lower bound of a memory limit.
const MIN_MEMORY_BYTES: i64 = 6 << 20;
/// The kernel's bounds of a period of cpu time, and its lower one of a quota, microseconds.
const PERIOD_US: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
const MIN_QUOTA_US: i64 = 1_000;
const SWAP_MAX: &str = "memory.swap.max";
const OOM_GROUP: &str = "memory.oom.group";

/// Docker's part and the cgroup's part of a container's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    cpu_period: i64,
    cpu_quota: i64,
    cpu_shares: i64,
    memory: i64,
    memory_swap: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    /// As asked for.
    pub oom_score_adj: i64,
    /// Cgroup file name to value.
    pub wishes: BTreeMap<String, String>,
}

/// Takes resources apart; `at` is their path in the request.
pub fn limits(at: &str, resources: &cri::LinuxContainerResources, node: &Node) -> Result<Limits> {
    let cri::LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit_in_bytes,
        oom_score_adj,
        cpuset_cpus,
        cpuset_mems,
        hugepage_limits,
        unified,
        memory_swap_limit_in_bytes,
    } = resources;
    let field = |name: &str| format!("{at}.{name}");
    let at_least = |name: &str, value: i64, least: i64| {
        if value < least { Err(Error::invalid(field(name), format!("{value} is below {least}"))) } else { Ok(value) }
    };
    let memory = at_least("memory_limit_in_bytes", *memory_limit_in_bytes, 0)?;
    if memory > 0 && memory < MIN_MEMORY_BYTES {
        let reason = format!("{memory} bytes; Docker's least is {MIN_MEMORY_BYTES} (6 MiB)");
        return Err(Error::invalid(field("memory_limit_in_bytes"), reason));
    }
    if !(-1000..=1000).contains(oom_score_adj) {
        return Err(Error::invalid(field("oom_score_adj"), format!("{oom_score_adj} is not within -1000 and 1000")));
    }
    if *cpu_period != 0 && !PERIOD_US.contains(cpu_period) {
        let (least, most) = (PERIOD_US.start(), PERIOD_US.end());
        return Err(Error::invalid(field("cpu_period"), format!("{cpu_period} is not within {least} and {most}")));
    }
    if !matches!(cpu_quota, -1..=0) {
        at_least("cpu_quota", *cpu_quota, MIN_QUOTA_US)?;
    }
    for (name, set) in [("cpuset_cpus", cpuset_cpus), ("cpuset_mems", cpuset_mems)] {
        if !set.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-')) {
            return Err(Error::invalid(field(name), format!("{set:?} is not a list such as 0-3,7")));
        }
    }
    let mut wishes = wishes(&field("unified"), unified, node)?;
    hugepages(&field("hugepage_limits"), hugepage_limits, &mut wishes)?;
    Ok(Limits {
        cpu_period: *cpu_period,
        cpu_quota: *cpu_quota,
        cpu_shares: at_least("cpu_shares", *cpu_shares, 0)?,
        memory,
        memory_swap: memory_swap(
            &field("memory_swap_limit_in_bytes"),
            memory,
            *memory_swap_limit_in_bytes,
            &mut wishes,
        )?,
        cpuset_cpus: cpuset_cpus.clone(),
        cpuset_mems: cpuset_mems.clone(),
        oom_score_adj: *oom_score_adj,
        wishes,
    })
}

/// Memory and swap together, as Docker wants it: 0 without a memory limit, -1 for no limit of swap.
///
/// `memory.swap.max` of the unified hierarchy says the swap alone; with a memory limit it becomes Docker's own field,
/// without one it stays a wish.
fn memory_swap(at: &str, memory: i64, asked: i64, wishes: &mut BTreeMap<String, String>) -> Result<i64> {
    if memory == 0 {
        return if asked > 0 { Err(Error::invalid(at, "needs a memory limit beside it")) } else { Ok(0) };
    }
    match wishes.remove(SWAP_MAX).as_deref() {
        Some("max") => Ok(-1),
        Some(swap) => {
            let swap: u64 = swap
                .parse()
                .map_err(|_| Error::invalid(at, format!("{SWAP_MAX} {swap:?} is not a number of bytes")))?;
            let sum = i64::try_from(swap).ok().and_then(|swap| memory.checked_add(swap));
            sum.ok_or_else(|| Error::invalid(at, format!("{SWAP_MAX} {swap} is too large")))
        }
        None if asked == 0 => Ok(memory),
        None if asked == -1 || asked >= memory => Ok(asked),
        None => Err(Error::invalid(at, format!("{asked} is below the memory limit {memory}"))),
    }
}

/// `unified` as wishes. On cgroup v1 the two that the kubelet sends with practically every container mean nothing new: the
/// swap limit becomes Docker's field, and there is no killing by group.
fn wishes(at: &str, unified: &BTreeMap<String, String>, node: &Node) -> Result<BTreeMap<String, String>> {
    let mut wishes = BTreeMap::new();
    for (file, value) in unified {
        let is_file = file.contains('.')
            && file.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_BKMG".contains(&b));
        if !is_file || file.starts_with('.') || file.starts_with("cgroup.") || value.contains('\n') {
            return Err(Error::invalid(format!("{at}[{file:?}]"), "is not a controller's file and one line"));
        }
        if !node.cgroup_v2 && file != SWAP_MAX && file != OOM_GROUP {
            return Err(Error::invalid(format!("{at}[{file:?}]"), "needs cgroup v2, and this node has v1"));
        }
        if node.cgroup_v2 || file == SWAP_MAX {
            wishes.insert(file.clone(), value.clone());
        }
    }
    Ok(wishes)
}

/// One limit per page size. The kubelet sends a zero for each size that the pod doesn't use.
fn hugepages(at: &str, limits: &[cri::HugepageLimit], wishes: &mut BTreeMap<String, String>) -> Result<()> {
    for (index, cri::HugepageLimit { page_size, limit }) in limits.iter().enumerate() {
        let number = page_size.strip_suffix('B').unwrap_or_default().trim_end_matches(['K', 'M', 'G']);
        let is_size = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_size || page_size.len() > number.len() + 2 {
            return Err(Error::invalid(
                format!("{at}[{index}].page_size"),
                format!("{page_size:?} is not a size such as 2MB"),
            ));
        }
        wishes.insert(format!("hugetlb.{page_size}.max"), limit.to_string());
    }
    Ok(())
}

impl Limits {
    /// Puts Docker's part into a create body.
    pub(super) fn apply(&self, host: &mut HostConfig, node: &Node) {
        host.cpu_period = Some(self.cpu_period);
        host.cpu_quota = Some(self.cpu_quota);
        host.cpu_shares = Some(self.cpu_shares);
        host.memory = Some(self.memory);
        host.memory_swap = Some(self.memory_swap);
        host.cpuset_cpus = Some(self.cpuset_cpus.clone());
        host.cpuset_mems = Some(self.cpuset_mems.clone());
        host.oom_score_adj = Some(node.oom_score(self.oom_score_adj));
    }

    /// As the body of an update: what is zero or empty stays as it is.
    pub fn update_body(&self) -> ContainerUpdateBody {
        let number = |value: i64| (value != 0).then_some(value);
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        ContainerUpdateBody {
            cpu_period: number(self.cpu_period),
            cpu_quota: number(self.cpu_quota),
            cpu_shares: number(self.cpu_shares),
            memory: number(self.memory),
            memory_swap: number(self.memory_swap),
            cpuset_cpus: text(&self.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems),
            ..ContainerUpdateBody::default()
        }
    }

    /// All wishes after an update on top of `known` ones. A memory limit takes the swap along into Docker's own field: an older
    /// wish for it would only undo that.
    pub fn wishes_on_top_of(&self, known: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = known.clone();
        if self.memory != 0 {
            all.remove(SWAP_MAX);
        }
        all.extend(self.wishes.clone());
        all
    }
}

/// The field that a wish came from; `at` is the resources' path in the request.
pub fn field_of_wish(at: &str, file: &str) -> String {
    if file.starts_with("hugetlb.") { format!("{at}.hugepage_limits") } else { format!("{at}.unified[{file:?}]") }
}

/// Tells wishes as they were read back from the cgroup.
pub fn tell_wishes(resources: &mut cri::LinuxContainerResources, wishes: &BTreeMap<String, String>) {
    (resources.hugepage_limits, resources.unified) = wishes_told(wishes);
}

/// What ContainerStatus tells of the limits that an inspect shows, and of the wishes beside them.
pub(super) fn told(host: &model::HostConfig, wishes: &BTreeMap<String, String>) -> cri::LinuxContainerResources {
    let (hugepage_limits, unified) = wishes_told(wishes);
    cri::LinuxContainerResources {
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpu_shares: host.cpu_shares,
        memory_limit_in_bytes: host.memory,
        oom_score_adj: host.oom_score_adj,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        hugepage_limits,
        unified,
        memory_swap_limit_in_bytes: host.memory_swap,
    }
}

/// Wishes as the fields they came from.
fn wishes_told(wishes: &BTreeMap<String, String>) -> (Vec<cri::HugepageLimit>, BTreeMap<String, String>) {
    let (huge, unified): (BTreeMap<_, _>, BTreeMap<_, _>) =
        wishes.clone().into_iter().partition(|(file, _)| file.starts_with("hugetlb."));
    let page = |(file, limit): (String, String)| {
        let page_size = file.strip_prefix("hugetlb.")?.split('.').next()?.to_owned();
        let limit = if limit == "max" { u64::MAX } else { limit.parse().ok()? };
        Some(cri::HugepageLimit { page_size, limit })
    };
    (huge.into_iter().filter_map(page).collect(), unified)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::node::tests::node;
    use super::*;

    const MIB: i64 = 1 << 20;

    fn of(resources: &cri::LinuxContainerResources) -> Result<Limits> {
        limits("config.linux.resources", resources, &node())
    }

    fn unified(items: &[(&str, &str)]) -> BTreeMap<String, String> {
        items.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_the_kubelet_sends_with_every_container_is_taken() {
        let resources = cri::LinuxContainerResources {
            memory_limit_in_bytes: 64 * MIB,
            hugepage_limits: vec![cri::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
            unified: unified(&[("memory.oom.group", "1"), ("memory.swap.max", "0")]),
            ..Default::default()
        };
        let limits = of(&resources).unwrap();
        assert_eq!((limits.memory, limits.memory_swap), (64 * MIB, 64 * MIB));
        assert_eq!(limits.wishes, unified(&[("hugetlb.2MB.max", "0"), ("memory.oom.group", "1")]));
    }

    #[test]
    fn swap_without_a_memory_limit_is_a_wish() {
        let resources =
            cri::LinuxContainerResources { unified: unified(&[("memory.swap.max", "0")]), ..Default::default() };
        let limits = of(&resources).unwrap();
        assert_eq!((limits.memory, limits.memory_swap), (0, 0));
        assert_eq!(limits.wishes, unified(&[("memory.swap.max", "0")]));
    }

    #[test]
    fn swap_of_the_unified_hierarchy_is_added_to_the_memory() {
        for (swap, wanted) in [("max", -1), ("0", 64 * MIB), ("1048576", 65 * MIB)] {
            let resources = cri::LinuxContainerResources {
                memory_limit_in_bytes: 64 * MIB,
                unified: unified(&[("memory.swap.max", swap)]),
                ..Default::default()
            };
            assert_eq!(of(&resources).unwrap().memory_swap, wanted);
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_by_field() {
        let base = cri::LinuxContainerResources::default;
        let cases = [
            ("cpu_period", cri::LinuxContainerResources { cpu_period: -1, ..base() }),
            ("cpu_period", cri::LinuxContainerResources { cpu_period: 999, ..base() }),
            ("cpu_period", cri::LinuxContainerResources { cpu_period: i64::MAX, ..base() }),
            ("cpu_quota", cri::LinuxContainerResources { cpu_quota: -2, ..base() }),
            ("cpu_quota", cri::LinuxContainerResources { cpu_quota: 999, ..base() }),
            ("cpuset_cpus", cri::LinuxContainerResources { cpuset_cpus: "0 1".into(), ..base() }),
            ("cpuset_mems", cri::LinuxContainerResources { cpuset_mems: "/".into(), ..base() }),
            (
                "memory_swap_limit_in_bytes",
                cri::LinuxContainerResources {
                    memory_limit_in_bytes: 64 * MIB,
                    unified: unified(&[("memory.swap.max", "-5")]),
                    ..base()
                },
            ),
            (
                "memory_swap_limit_in_bytes",
                cri::LinuxContainerResources {
                    memory_limit_in_bytes: i64::MAX,
                    unified: unified(&[("memory.swap.max", "1")]),
                    ..base()
                },
            ),
            ("cpu_shares", cri::LinuxContainerResources { cpu_shares: i64::MIN, ..base() }),
            ("memory_limit_in_bytes", cri::LinuxContainerResources { memory_limit_in_bytes: 5 * MIB, ..base() }),
            ("memory_limit_in_bytes", cri::LinuxContainerResources { memory_limit_in_bytes: -1, ..base() }),
            ("oom_score_adj", cri::LinuxContainerResources { oom_score_adj: 1001, ..base() }),
            ("memory_swap_limit_in_bytes", cri::LinuxContainerResources { memory_swap_limit_in_bytes: 9, ..base() }),
            ("unified[\"../x\"]", cri::LinuxContainerResources { unified: unified(&[("../x", "1")]), ..base() }),
            (
                "unified[\"cgroup.procs\"]",
                cri::LinuxContainerResources { unified: unified(&[("cgroup.procs", "1")]), ..base() },
            ),
            (
                "hugepage_limits[0].page_size",
                cri::LinuxContainerResources {
                    hugepage_limits: vec![cri::HugepageLimit { page_size: "2KMB".into(), limit: 1 }],
                    ..base()
                },
            ),
            (
                "hugepage_limits[0].page_size",
                cri::LinuxContainerResources {
                    hugepage_limits: vec![cri::HugepageLimit { page_size: "../2MB".into(), limit: 1 }],
                    ..base()
                },
            ),
        ];
        for (field, resources) in cases {
            let error = of(&resources).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.linux.resources.{field}: ")), "{error}");
        }
    }

    #[test]
    fn an_update_leaves_alone_what_it_does_not_name() {
        let change = cri::LinuxContainerResources { cpu_shares: 512, ..Default::default() };
        let body = of(&change).unwrap().update_body();
        assert_eq!((body.cpu_shares, body.memory, body.memory_swap, body.cpuset_cpus), (Some(512), None, None, None));
    }

    #[test]
    fn a_memory_limit_takes_an_older_wish_for_swap_along() {
        let known = unified(&[("memory.oom.group", "1"), ("memory.swap.max", "0")]);
        let memory = cri::LinuxContainerResources { memory_limit_in_bytes: 64 * MIB, ..Default::default() };
        assert_eq!(of(&memory).unwrap().wishes_on_top_of(&known), unified(&[("memory.oom.group", "1")]));
        let swap = cri::LinuxContainerResources { unified: unified(&[("memory.swap.max", "7")]), ..Default::default() };
        let both = unified(&[("memory.oom.group", "1"), ("memory.swap.max", "7")]);
        assert_eq!(of(&swap).unwrap().wishes_on_top_of(&known), both);
    }

    #[test]
    fn wishes_are_told_as_the_fields_they_came_from() {
        let mut told = cri::LinuxContainerResources::default();
        tell_wishes(&mut told, &unified(&[("hugetlb.2MB.max", "max"), ("memory.high", "4096")]));
        assert_eq!((told.hugepage_limits[0].limit, told.unified), (u64::MAX, unified(&[("memory.high", "4096")])));
        assert_eq!(field_of_wish("linux", "memory.high"), "linux.unified[\"memory.high\"]");
        assert_eq!(field_of_wish("linux", "hugetlb.2MB.max"), "linux.hugepage_limits");
    }

    proptest! {
        #[test]
        fn no_numbers_wrap_or_panic(a: i64, b: i64, c: i64, swap in ".{0,20}") {
            let resources = cri::LinuxContainerResources {
                cpu_quota: a,
                memory_limit_in_bytes: b,
                memory_swap_limit_in_bytes: c,
                unified: unified(&[("memory.swap.max", &swap)]),
                ..Default::default()
            };
            if let Ok(limits) = of(&resources) {
                prop_assert!(limits.memory_swap == -1 || limits.memory_swap >= limits.memory);
            }
        }
    }
}
