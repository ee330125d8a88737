//! What a check is, and what it says. Pure.

use serde::Serialize;

use super::facts::Facts;

/// How a check ended; the later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It can't be known now, or doesn't matter here.
    Skipped,
    /// All is well.
    Ok,
    /// Pods run, but something will not be as expected.
    Warning,
    /// Pods don't run, or can't be relied on.
    Failed,
}

impl Verdict {
    /// The exit code of the program.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Skipped | Verdict::Ok => 0,
            Verdict::Failed => 1,
            Verdict::Warning => 2,
        }
    }
}

/// The name of a check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// `DKR-01`; never given to another check.
    pub(super) id: &'static str,
    /// What holds when it is well.
    pub(super) title: &'static str,
}

impl Name {
    /// Where it is explained.
    pub(super) fn doc(self) -> String {
        format!("docs/troubleshooting.md#{}", self.id.to_ascii_lowercase())
    }
}

/// A check.
pub(super) struct Check {
    pub(super) name: Name,
    /// Pure.
    pub(super) judge: fn(&Facts) -> Judged,
}

impl Check {
    pub(super) const fn new(id: &'static str, title: &'static str, judge: fn(&Facts) -> Judged) -> Check {
        Check { name: Name { id, title }, judge }
    }
}

/// Checks that belong together.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) checks: &'static [Check],
}

/// A finding, or why there is none.
pub(super) type Judged = Result<Finding, Skip>;

/// Why a check is skipped.
#[derive(Debug)]
pub(super) struct Skip(pub(super) String);

impl Skip {
    pub(super) fn because(why: impl Into<String>) -> Skip {
        Skip(why.into())
    }
}

/// What a check has found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// What is wrong, or what was seen.
    pub(super) cause: String,
    /// What to type next.
    pub(super) next: Option<String>,
}

impl Finding {
    pub(super) fn ok(seen: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, cause: seen.into(), next: None }
    }

    pub(super) fn warning(cause: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warning, cause: cause.into(), next: Some(next.into()) }
    }

    pub(super) fn failed(cause: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Failed, cause: cause.into(), next: Some(next.into()) }
    }
}

impl From<Skip> for Finding {
    fn from(Skip(why): Skip) -> Self {
        Finding { verdict: Verdict::Skipped, cause: why, next: None }
    }
}

/// A check's name, and what it has found.
pub(super) struct Item {
    pub(super) check: Name,
    pub(super) finding: Finding,
}

/// `1 pod`, `2 pods`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
