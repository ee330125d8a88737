//! How systemd takes the text of a unit apart: lines, words, quotes, specifiers, variables. Pure.

use std::collections::BTreeMap;

/// The assignments of a section, in their order, with nothing around keys and values.
pub(super) fn assignments(text: &str, section: &str) -> Vec<(String, String)> {
    let (mut found, mut within) = (Vec::new(), false);
    for line in logical_lines(text, " ") {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            within = name == section;
        } else if let (true, Some((key, value))) = (within, line.split_once('=')) {
            found.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// Lines without comments; one that ends with a backslash goes on in the next, with `joint` between them.
pub(super) fn logical_lines(text: &str, joint: &str) -> Vec<String> {
    let (mut lines, mut begun) = (Vec::new(), String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        match line.strip_suffix('\\') {
            Some(part) => begun.extend([part, joint]),
            None => lines.push(std::mem::take(&mut begun) + line),
        }
    }
    lines.push(begun);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// The words of a text: quotes hold them together, and a backslash begins what C has for a character.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (_, '\\') => word.get_or_insert_default().push(escaped(&mut rest)?),
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// What stands after a backslash.
fn escaped(rest: &mut std::str::Chars<'_>) -> Result<char, String> {
    let c = rest.next().ok_or("ends with a backslash")?;
    let number = |digits: String, radix| {
        let byte = u8::from_str_radix(&digits, radix).ok().filter(u8::is_ascii).filter(|byte| *byte > 0);
        byte.map(char::from).ok_or_else(|| format!("\\{c}{digits} is no character"))
    };
    Ok(match c {
        '\\' | '"' | '\'' => c,
        's' => ' ',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' => number(rest.by_ref().take(2).collect(), 16)?,
        '0'..='7' => number(std::iter::once(c).chain(rest.by_ref().take(2)).collect(), 8)?,
        _ => return Err(format!("\\{c} is not understood")),
    })
}

/// A word with its specifiers replaced, if they are the same for all services.
pub(super) fn specified(word: &str) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), word.chars());
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(match rest.next() {
            Some('%') => "%",
            Some('t') => "/run",
            Some('S') => "/var/lib",
            Some('C') => "/var/cache",
            Some('L') => "/var/log",
            Some('E') => "/etc",
            other => {
                return Err(format!(
                    "the specifier %{} is not understood",
                    other.map(String::from).unwrap_or_default()
                ));
            }
        });
    }
    Ok(out)
}

/// A word with its variables replaced: `$NAME` alone is as many words as it holds, `${NAME}` a part of one, `$$` a dollar sign.
pub(super) fn expanded(word: &str, variables: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
        return variables.get(name).map_or(Ok(Vec::new()), |value| words(value));
    }
    let (mut out, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        rest = match (after.strip_prefix('$'), braced.filter(|(name, _)| is_name(name))) {
            (Some(after), _) => {
                out.push('$');
                after
            }
            (None, Some((name, after))) => {
                out.push_str(variables.get(name).map_or("", String::as_str));
                after
            }
            (None, None) => {
                out.push('$');
                after
            }
        };
    }
    out.push_str(rest);
    Ok(vec![out])
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A value of an environment file: quotes and backslashes are no part of it, nor are blanks around it.
pub(super) fn unquoted(value: &str) -> String {
    let (mut out, mut quote, mut rest) = (String::new(), None, value.trim().chars());
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None | Some('"'), '\\') => out.extend(rest.next()),
            (_, c) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_goes_on_after_a_backslash_whatever_comments_stand_between() {
        let text = "; first\n[A]\nk = 1 \\\n# between\n  2\nk=\n[B]\nk=3\nno assignment\n[A]\nl=a=b\\";
        let found = |section: &str| {
            let pairs = assignments(text, section);
            pairs.iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>()
        };
        assert_eq!(found("A"), ["k:1  2", "k:", "l:a=b"]);
        assert_eq!(found("B"), ["k:3"]);
    }

    #[test]
    fn words_are_held_together_by_quotes() {
        for (text, expected) in [
            ("", &[][..]),
            ("  a\tb  ", &["a", "b"]),
            (r#"--x="a b" 'c "d"' """#, &["--x=a b", "c \"d\"", ""]),
            (r"a\x20b \101\s\\ \t", &["a b", "A \\", "\t"]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        for text in ["'a", "a\\", r"\q", r"\xzz", r"\x00", r"\xff", r"\9"] {
            assert!(words(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_specifiers_that_are_the_same_for_all_are_known() {
        assert_eq!(specified("%t/a%%b").unwrap(), "/run/a%b");
        for word in ["%i", "%H", "a%"] {
            assert!(specified(word).unwrap_err().contains("specifier"), "{word}");
        }
    }

    #[test]
    fn a_variable_alone_is_many_words_and_in_braces_a_part_of_one() {
        let variables = BTreeMap::from([("A".to_owned(), "1 '2 3'".to_owned())]);
        for (word, expected) in [
            ("$A", &["1", "2 3"][..]),
            ("${A}", &["1 '2 3'"]),
            ("x${A}y", &["x1 '2 3'y"]),
            ("$B", &[]),
            ("${B}", &[""]),
            ("x$A", &["x$A"]),
            ("$$A", &["$A"]),
            ("${A", &["${A"]),
            ("$1", &["$1"]),
        ] {
            assert_eq!(expanded(word, &variables).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn values_of_environment_files_lose_their_quotes() {
        for (value, expected) in [(" a b ", "a b"), ("\"a  b\" ", "a  b"), (r"'a\b'", r"a\b"), (r#""a\"b"c"#, "a\"bc")]
        {
            assert_eq!(unquoted(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_or_refused(text in "[ -~\n]{0,80}|.{0,40}") {
            let _ = assignments(&text, "Service");
            let _ = unquoted(&text);
            for word in words(&text).unwrap_or_default() {
                let _ = specified(&word);
                let _ = expanded(&word, &BTreeMap::from([("A".to_owned(), text.clone())]));
            }
        }

        #[test]
        fn quoted_words_come_back_unaltered(all in prop::collection::vec("[ -~]{0,12}", 0..5)) {
            let quoted = |word: &String| format!("'{}'", word.replace('\\', r"\\").replace('\'', r"\'"));
            let text = all.iter().map(quoted).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&text).unwrap(), all);
        }
    }
}
