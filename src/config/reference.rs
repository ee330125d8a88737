//! The configuration in words: the commented file of `config default`, and the values of `config dump`. Made from the keys alone,
//! so that no key can be missing.

use std::io::{self, Write};

use super::key::{self, Key, Shape};
use super::resolve::{Resolved, Setting};

const HEAD: &str = "\
# The configuration of dockershim: /etc/dockershim/config.toml, or where --config says.
#
# Every key is here, commented out, with its default. A flag of the same name goes before the file, and so does a variable:
# log-level is --log-level and DOCKERSHIM_LOG_LEVEL. `dockershim config check` looks at a changed file; `dockershim config dump`
# tells what is used, and where it comes from.
#
# A DURATION is 300ms, 30s or 1h30m, a SIZE 65536, 64k or 16m, in powers of 1024.
";

/// Prints the file with all defaults.
pub fn write_default(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(HEAD.as_bytes())?;
    for (group, keys) in by_group(key::all().into_iter().filter(Key::has_meaning)) {
        write!(out, "\n### {group}\n")?;
        for key in keys {
            writeln!(out, "\n# {}", sentence(&key))?;
            writeln!(out, "#{} = {}", key.name, value(&key, &key.default))?;
        }
    }
    Ok(())
}

/// Prints all values with their origins; what comes out is a configuration file itself.
pub fn write_dump(resolved: &Resolved, out: &mut dyn Write) -> io::Result<()> {
    for Setting { key, values, origin } in resolved.settings.iter().filter(|setting| setting.key.has_meaning()) {
        let values: Vec<_> = values.iter().map(|value| value.to_string_lossy().into_owned()).collect();
        writeln!(out, "{:<72} # {origin}", format!("{} = {}", key.name, value(key, &values)))?;
    }
    Ok(())
}

fn by_group(keys: impl Iterator<Item = Key>) -> Vec<(String, Vec<Key>)> {
    let mut groups: Vec<(String, Vec<Key>)> = Vec::new();
    for key in keys {
        match groups.last_mut() {
            Some((group, keys)) if *group == key.group => keys.push(key),
            _ => groups.push((key.group.clone(), vec![key])),
        }
    }
    groups
}

fn sentence(key: &Key) -> String {
    let reloaded = if key.is_reloaded() { "; a reload changes it" } else { "" };
    format!("{}{reloaded}. ({})", key.doc, key.unit)
}

/// As the file has it.
pub(super) fn value(key: &Key, values: &[String]) -> String {
    let single = |text: &String| match key.shape {
        Shape::Text => quoted(text),
        // "T" is a switch too
        Shape::Switch => super::cli::switch(text).is_ok_and(|on| on).to_string(),
        Shape::Number => text.clone(),
    };
    match values {
        [one] if !key.many => single(one),
        many => format!("[{}]", many.iter().map(single).collect::<Vec<_>>().join(", ")),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::file;
    use super::super::resolve::Typed;
    use super::*;

    fn default_file() -> String {
        let mut out = Vec::new();
        write_default(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn resolve(name: &str, text: &str) -> Resolved {
        let path = std::env::temp_dir().join(format!("dockershim-reference-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let resolved = Resolved::new(&Typed::only_file(path.clone()), []);
        std::fs::remove_file(path).unwrap();
        resolved.unwrap()
    }

    #[test]
    fn the_default_file_has_every_key_and_means_the_defaults() {
        let whole = default_file();
        let uncommented: String = whole
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let meant = key::all().into_iter().filter(Key::has_meaning);
        for key in meant {
            let line = format!("\n{} = ", key.name);
            assert_eq!(uncommented.matches(&line).count(), 1, "{}", key.name);
            assert!(whole.contains(&key.doc) && whole.contains(&key.unit), "{}", key.name);
        }
        let (asis, set) = (resolve("asis", &whole), resolve("set", &uncommented));
        assert_eq!(format!("{:?}", asis.config), format!("{:?}", set.config));
    }

    #[test]
    fn a_dump_is_a_file_that_means_the_same_and_tells_origins() {
        let resolved = resolve("dump", "cni-bin-dir = [\"/a\", \"/b\\\"\"]\nlog-spool-files = 9\n");
        let mut out = Vec::new();
        write_dump(&resolved, &mut out).unwrap();
        let dump = String::from_utf8(out).unwrap();
        assert!(dump.contains(".toml:2\n") && dump.contains("# default\n"), "{dump}");
        assert_eq!(format!("{:?}", resolve("again", &dump).config), format!("{:?}", resolved.config));
    }

    /// With UPDATE_DOCS set, the page is written anew.
    #[test]
    fn the_configuration_page_is_what_the_keys_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let page = page();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(on_disk == page, "docs/configuration.md is not what the flags say: `make docs` writes it anew");
    }

    const PAGE_HEAD: &str = "\
# Configuration

<!-- Made from the flags in src/config/cli.rs by `make docs`; do not edit. -->

Everything can be told by a flag, by a variable of the environment, or in a file. A flag goes before a variable, a variable before
the file, the file before the default; a list is taken whole from one of them. What is told wrongly is refused, with its place:

    dockershim: /etc/dockershim/config.toml:3: unknown key \"loglevel\"; did you mean \"log-level\"?

| command | |
|---|---|
| `dockershim config default` | prints a file with every key, its meaning and its default |
| `dockershim config check [FILE]` | checks a file |
| `dockershim config dump [FLAGS]` | prints what would be used, and where each value comes from |

The file is `/etc/dockershim/config.toml`; `--config PATH` or `DOCKERSHIM_CONFIG` names another one. It is flat
[TOML](https://toml.io), the keys are the names of the flags: `log-level = \"debug\"` is `--log-level=debug` and
`DOCKERSHIM_LOG_LEVEL=debug`. A list is `[\"a\", \"b\"]` in the file, the flag given twice, and has commas in a variable. A DURATION
is `300ms`, `30s` or `1h30m`; a SIZE is `65536`, `64k` or `16m`, in powers of 1024.

`systemctl reload dockershim` (SIGHUP) reads everything again. What a reload changes is marked ↻; other changes are named in the
log, and wait for a restart. A file that can't be used changes nothing, and the log says why.
";

    /// docs/configuration.md.
    fn page() -> String {
        let mut page = PAGE_HEAD.to_owned();
        for (group, keys) in by_group(key::all().into_iter()) {
            page.push_str(&format!("\n## {group}\n\n| flag or key | value | default | |\n|---|---|---|---|\n"));
            for key in keys {
                let mark = if key.is_reloaded() { " ↻" } else { "" };
                let default =
                    if key.default[0].is_empty() { "empty".to_owned() } else { format!("`{}`", key.default[0]) };
                let (name, unit, doc) = (&key.name, key.unit.replace('|', "\\|"), &key.doc);
                page.push_str(&format!("| `--{name}`{mark} | {unit} | {default} | {doc} |\n"));
            }
        }
        page
    }

    proptest! {
        #[test]
        fn any_text_is_quoted_as_toml_reads_it(text in any::<String>()) {
            let keys = key::all();
            let path = std::env::temp_dir().join(format!("dockershim-quoted-{}.toml", std::process::id()));
            std::fs::write(&path, format!("pod-infra-container-image = {}\n", quoted(&text))).unwrap();
            let entries = file::read(&path, &keys).unwrap().unwrap();
            std::fs::remove_file(&path).unwrap();
            prop_assert_eq!(OsString::from(&entries[0].values[0]), OsString::from(&text));
        }
    }
}
