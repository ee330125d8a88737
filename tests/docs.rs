//! What the documentation tells to type is what the program takes: each `dockershim …` in code, be it a block or within a line, goes through
//! the program's own parser. What a command does is tested elsewhere.
#![expect(clippy::unwrap_used, reason = "a test stops at what it can't do")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;
use dockershim::config::cli::Cli;

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain(["README.md", "CHANGELOG.md"].map(|page| root.join(page))).collect()
}

/// The code of a page: lines of blocks, and what stands between backticks.
fn code(page: &str) -> Vec<String> {
    let (mut all, mut fenced, mut prose) = (Vec::new(), false, String::new());
    for line in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            all.push(line.trim().to_owned());
        } else {
            prose += line;
            prose.push(' ');
        }
    }
    all.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    all
}

/// The arguments that a line of code gives to the program; None when it runs another.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.split(['|', '&', '#', '>', '<']).next().unwrap().trim();
    let line = line.strip_prefix("sudo ").unwrap_or(line).trim_end_matches(" 2");
    let rest = line.strip_prefix("target/debug/").unwrap_or(line).strip_prefix("dockershim ")?;
    // what is in brackets may be left away
    let words = rest.split_whitespace().filter(|word| !word.starts_with('['));
    Some(words.map(|word| word.trim_matches(['\'', '"']).to_owned()).collect())
}

#[test]
fn every_command_line_of_the_documentation_is_taken() {
    let mut seen = 0;
    for page in pages() {
        for line in code(&fs::read_to_string(&page).unwrap()) {
            let Some(words) = arguments(&line) else { continue };
            seen += 1;
            let words = std::iter::once("dockershim").chain(words.iter().map(String::as_str));
            let error = Cli::command().try_get_matches_from(words).err();
            let told = error.filter(|error| {
                !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
                    // the name of the command alone, to speak of it
                    && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            });
            assert!(told.is_none(), "{}: {line}\n{}", page.display(), told.unwrap());
        }
    }
    assert!(seen > 30, "only {seen} have been found: are they looked for rightly?");
}
