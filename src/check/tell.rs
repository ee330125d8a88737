//! Findings for people, and for programs. The JSON's shape is a promise: fields may be added, none changes or goes while its
//! `version` stays.

use std::io::{self, Write};

use serde::Serialize;

use super::finding::{Finding, Item, Verdict};

/// Tells a group, a line for each check; below what isn't well, what to do and where it is explained.
pub(super) fn group(name: &str, items: &[Item], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{name}")?;
    items.iter().try_for_each(|item| line(item, out))?;
    writeln!(out)
}

fn line(item: &Item, out: &mut dyn Write) -> io::Result<()> {
    let Item { check, finding: Finding { verdict, cause, next } } = item;
    let mark = match verdict {
        Verdict::Ok => '✓',
        Verdict::Warning => '!',
        Verdict::Failed => '✗',
        Verdict::Skipped => '-',
    };
    writeln!(out, "{mark} {:<8} {}: {cause}", check.id, check.title)?;
    let Some(next) = next else { return Ok(()) };
    for (n, line) in next.lines().enumerate() {
        writeln!(out, "{:>17} {line}", if n == 0 { "next:" } else { "" })?;
    }
    writeln!(out, "{:>17} {}", "see:", check.doc())
}

/// Tells how many checks ended how.
pub(super) fn sum(items: &[Item], out: &mut dyn Write) -> io::Result<()> {
    let count = |verdict| items.iter().filter(|item| item.finding.verdict == verdict).count();
    let [ok, warning, failed, skipped] = [Verdict::Ok, Verdict::Warning, Verdict::Failed, Verdict::Skipped].map(count);
    writeln!(out, "{ok} well, {warning} to be warned of, {failed} failed, {skipped} skipped")
}

/// The version of the JSON's shape.
const SHAPE: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    dockershim: &'static str,
    verdict: Verdict,
    checks: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    id: &'static str,
    title: &'static str,
    verdict: Verdict,
    cause: &'a str,
    next: Option<&'a str>,
    doc: String,
}

impl Told<'_> {
    fn of(item: &Item) -> Told<'_> {
        let Item { check, finding: Finding { verdict, cause, next } } = item;
        Told { id: check.id, title: check.title, verdict: *verdict, cause, next: next.as_deref(), doc: check.doc() }
    }
}

/// Tells all findings as one JSON object.
pub(super) fn json(verdict: Verdict, items: &[Item], out: &mut dyn Write) -> io::Result<()> {
    let checks = items.iter().map(Told::of).collect();
    let report = Report { version: SHAPE, dockershim: env!("CARGO_PKG_VERSION"), verdict, checks };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Name;
    use super::*;

    fn items() -> [Item; 2] {
        let check = |id| Name { id, title: "a title" };
        [
            Item { check: check("A-01"), finding: Finding::ok("seen") },
            Item { check: check("A-02"), finding: Finding::failed("broken", "mend it\nand look") },
        ]
    }

    fn text(tell: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        tell(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_are_told_what_to_do_about_what_is_not_well() {
        let told = text(|out| group("engine", &items(), out).and_then(|()| sum(&items(), out)).unwrap());
        let expected = "engine\n\
                        ✓ A-01     a title: seen\n\
                        ✗ A-02     a title: broken\n            \
                        next: mend it\n                  \
                        and look\n             \
                        see: docs/troubleshooting.md#a-02\n\
                        \n1 well, 0 to be warned of, 1 failed, 0 skipped\n";
        assert_eq!(told, expected);
    }

    #[test]
    fn programs_are_told_the_same_in_a_shape_that_stays() {
        let told = text(|out| json(Verdict::Failed, &items(), out).unwrap());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let expected = serde_json::json!({
            "version": 1,
            "dockershim": env!("CARGO_PKG_VERSION"),
            "verdict": "failed",
            "checks": [
                { "id": "A-01", "title": "a title", "verdict": "ok", "cause": "seen", "next": null,
                  "doc": "docs/troubleshooting.md#a-01" },
                { "id": "A-02", "title": "a title", "verdict": "failed", "cause": "broken", "next": "mend it\nand look",
                  "doc": "docs/troubleshooting.md#a-02" },
            ],
        });
        assert_eq!(told, expected);
    }
}
