//! `dockershim check`: is this node fit for pods, is dockershim at work, and what is to be done about what isn't?
//!
//! ```text
//! gather/: files, sockets, the Engine ─▶ facts.rs ─▶ one file of judges for each group ─▶ findings ─▶ tell.rs: lines, or JSON
//!                                                                  pod/: with --run-pod, a pod ─┘
//! ```
//!
//! Each check has an ID that never changes its meaning; docs/troubleshooting.md has a section for each.
//! **Invariants**: a judge sees the facts and nothing else; nothing of the node is changed, and no pod but the one of `--run-pod` is touched.

mod cgroup;
mod engine;
mod facts;
mod finding;
mod gather;
mod images;
mod network;
mod pod;
mod sockets;
mod state;
mod system;
mod tell;
#[cfg(test)]
mod testing;

use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::Config;
use facts::Facts;
use finding::{Check, Finding, Group, Item};

pub use finding::Verdict;

/// How the node is checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Before dockershim runs: only what can be known then.
    pub pre: bool,
    /// One JSON object instead of lines.
    pub json: bool,
    /// Runs a pod, too.
    pub run_pod: bool,
    /// The kubelet's configuration; None for where its process, or its habit, has it.
    pub kubelet_config: Option<PathBuf>,
    /// Where the node's files are: `/`. Paths of the configuration are beneath it, too.
    pub root: PathBuf,
}

/// All checks, in the order in which they are told.
const GROUPS: [Group; 7] =
    [engine::GROUP, cgroup::GROUP, network::GROUP, sockets::GROUP, images::GROUP, system::GROUP, state::GROUP];

/// Checks the node for a daemon with this configuration and tells each finding in `out`. The worst of them; an error is one of
/// writing to `out`.
pub async fn run(config: &Config, options: &Options, out: &mut dyn Write) -> io::Result<Verdict> {
    let facts = gather::gather(config, options).await;
    let mut items = Vec::new();
    for Group { name, checks } in GROUPS {
        let found: Vec<Item> = checks.iter().map(|check| item(check, &facts)).collect();
        if !options.json {
            tell::group(name, &found, out)?;
        }
        items.extend(found);
    }
    if options.run_pod {
        let steps: &mut dyn Write = if options.json { &mut io::sink() } else { &mut *out };
        writeln!(steps, "{}", pod::GROUP)?;
        let finding = pod::run(&facts.our_socket(), steps).await?;
        writeln!(steps)?;
        items.push(Item { check: pod::CHECK, finding });
    }
    // skipped is less than well
    let verdict = items.iter().map(|item| item.finding.verdict).fold(Verdict::Ok, Ord::max);
    if options.json {
        tell::json(verdict, &items, out)?
    } else {
        tell::sum(&items, out)?
    }
    Ok(verdict)
}

fn item(check: &Check, facts: &Facts) -> Item {
    let finding = (check.judge)(facts).unwrap_or_else(Finding::from);
    Item { check: check.name, finding }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../docs/troubleshooting.md");

    fn names() -> Vec<finding::Name> {
        GROUPS.iter().flat_map(|group| group.checks).map(|check| check.name).chain([pod::CHECK]).collect()
    }

    /// Those of IDs; what comes before the first group are questions.
    fn sections() -> impl Iterator<Item = &'static str> {
        let (_, checks) = PAGE.split_once("\n## Engine\n").unwrap();
        checks.split("\n### ").skip(1).map(|section| section.split("\n## ").next().unwrap())
    }

    #[test]
    fn the_page_has_a_section_for_each_check_and_for_nothing_else() {
        // `### DKR-01`, whose anchor is `#dkr-01`, and then the title in bold
        let told: Vec<_> = sections()
            .map(|section| {
                let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
                (
                    heading,
                    text.trim_start().strip_prefix("**").and_then(|text| text.split(".**").next()).unwrap_or_default(),
                )
            })
            .collect();
        let expected: Vec<_> = names().iter().map(|name| (name.id, name.title)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn each_section_says_what_to_do() {
        for section in sections() {
            assert!(section.contains("\n    "), "no command in {section}");
        }
    }

    #[test]
    fn an_id_is_given_once() {
        let ids: BTreeSet<_> = names().iter().map(|name| name.id).collect();
        assert_eq!(ids.len(), names().len());
    }
}
