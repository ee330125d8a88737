//! The configuration file: flat TOML, each key the name of a flag. It is read whole, and every key in it is looked at, also those
//! that a flag overrides. What a value means is not known here.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Error;
use super::key::{Key, Shape, nearest, suggestion};

/// Far more than all keys with all their comments take.
const LARGEST: u64 = 64 << 10;

/// What a file says about one key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// As a flag would have them.
    pub(super) values: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

/// Reads a file; None when there is none.
pub(super) fn read(path: &Path, keys: &[Key]) -> Result<Option<Vec<Entry>>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        // a pipe would be waited for, a device has no end
        Ok(metadata) if !metadata.is_file() => return Err(failed(io::Error::other("it is no regular file"))),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(Error::TooLarge { path: path.to_owned(), limit: LARGEST });
    }
    let text = String::from_utf8(bytes).map_err(|error| failed(io::Error::other(error.utf8_error())))?;
    if text.trim().is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    parse(path, &text, keys).map(Some)
}

/// The entries of a text, in its order; `path` is for errors.
fn parse(path: &Path, text: &str, keys: &[Key]) -> Result<Vec<Entry>, Error> {
    let wrong = |at: usize, reason: String| Error::File { path: path.to_owned(), line: line(text, at), reason };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(at, format!("{}, in {:?}", error.message(), words(text, at)))
    })?;
    let known: Vec<_> = keys.iter().filter(|key| key.has_meaning()).collect();
    let mut entries = Vec::new();
    for (name, value) in table.get_ref() {
        let (at, name) = (name.span().start, name.get_ref().as_ref());
        let Some(key) = known.iter().find(|key| key.name == name) else {
            let nearest = nearest(name, known.iter().map(|key| key.name.as_str()));
            let reason = format!("unknown key {name:?}{}", suggestion(nearest.as_deref()));
            return Err(wrong(at, format!("{reason}; `dockershim config default` lists all keys")));
        };
        let values = values(key, value).map_err(|reason| wrong(at, format!("{name}: {reason}")))?;
        entries.push(Entry { name: name.to_owned(), values, line: line(text, at) });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// The values of a key, as a flag would have them.
fn values(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    match value.get_ref() {
        DeValue::Array(values) if key.many && values.is_empty() => Err("the list is empty".to_owned()),
        DeValue::Array(values) if key.many => values.iter().map(|value| single(key, value.get_ref())).collect(),
        value => Ok(vec![single(key, value)?]),
    }
}

fn single(key: &Key, value: &DeValue<'_>) -> Result<String, String> {
    match (key.shape, value) {
        (Shape::Text, DeValue::String(text)) => Ok(text.to_string()),
        (Shape::Number, DeValue::Integer(number)) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        (Shape::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (shape, other) => Err(format!("{} is wanted, not {} {}", wanted(key, shape), article(other), other.type_str())),
    }
}

fn wanted(key: &Key, shape: Shape) -> String {
    let default = &key.default[0];
    match shape {
        Shape::Text => format!("text such as {default:?}"),
        Shape::Number => format!("a number such as {default}"),
        Shape::Switch => "true or false".to_owned(),
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Integer(_) | DeValue::Array(_) => "an",
        _ => "a",
    }
}

/// The line of a place in a text.
fn line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The line itself, or its beginning.
fn words(text: &str, at: usize) -> String {
    let line = text.lines().nth(line(text, at) - 1).unwrap_or_default();
    line.trim().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key;
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Entry>, String> {
        parse(Path::new("/c.toml"), text, &key::all()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_taken_as_flags_have_them() {
        let text = "log-level = \"debug\" # loud\nlog-spool-files = 8\n\nallow-other-adapter = true\n\
                    cni-bin-dir = [\"/a\",\n  \"/b\"]\ncontainer-runtime-endpoint = 'fd://'\n";
        let entry = |name: &str, values: &[&str], line| Entry {
            name: name.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            line,
        };
        let expected = [
            entry("log-level", &["debug"], 1),
            entry("log-spool-files", &["8"], 2),
            entry("allow-other-adapter", &["true"], 4),
            entry("cni-bin-dir", &["/a", "/b"], 5),
            entry("container-runtime-endpoint", &["fd://"], 7),
        ];
        assert_eq!(parsed(text).unwrap(), expected);
        assert_eq!(parsed("# nothing\n"), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_file_line_and_key() {
        let cases = [
            ("\nlogg-level = \"info\"", "/c.toml:2: unknown key \"logg-level\"; did you mean \"log-level\"?"),
            ("[server]\nlog-level = \"info\"", "/c.toml:1: unknown key \"server\""),
            ("runtime-cgroups = \"/x\"", "/c.toml:1: unknown key \"runtime-cgroups\""),
            ("log-level = 3", "/c.toml:1: log-level: text such as \"info\" is wanted, not an integer"),
            ("log-level = [\"info\"]", "/c.toml:1: log-level: text such as \"info\" is wanted, not an array"),
            ("log-spool-files = \"4\"", "/c.toml:1: log-spool-files: a number such as 4 is wanted, not a string"),
            ("log-spool-files = 0x4", "/c.toml:1: log-spool-files: a number such as 4 is wanted, not an integer"),
            ("allow-other-adapter = 1", "/c.toml:1: allow-other-adapter: true or false is wanted, not an integer"),
            ("cni-bin-dir = [1]", "/c.toml:1: cni-bin-dir: text such as"),
            ("cni-bin-dir = []", "/c.toml:1: cni-bin-dir: the list is empty"),
            ("log-level = \"a\"\n\nlog-level = \"b\"", "/c.toml:3: duplicate key"),
            ("log-level = ", "/c.toml:1: "),
            ("a\n= b", "/c.toml:1: "),
        ];
        for (text, told) in cases {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_by_its_name() {
        let path = std::env::temp_dir().join(format!("dockershim-config-{}.toml", std::process::id()));
        let error = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            read(&path, &key::all()).unwrap_err().to_string()
        };
        let long = [b"# ".as_slice(), &[b'x'; 1 << 20]].concat();
        let cases =
            [(&b""[..], "is empty"), (b" \n", "is empty"), (&long, "more than 65536 bytes"), (b"a = \xff", "utf-8")];
        for (content, told) in cases {
            let error = error(content);
            assert!(error.contains(told) && error.contains(&path.display().to_string()), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path, &key::all()).unwrap(), None);
        let error = read(Path::new("/"), &key::all()).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_gives_entries_or_an_error(text in ".{0,200}", name in "[a-z-]{1,12}") {
            let _ = parsed(&text);
            let _ = parsed(&format!("{name} = {text}\n{text}"));
        }
    }
}
