//! Writes CRI log lines: `<time> <stdout|stderr> <F|P> <content>` and a newline; `F` when the container's own line ends here,
//! `P` when it goes on in the next line of the same stream. Pure, and the same input always gives the same bytes: after a crash
//! the pump finds out by comparing how far the file has come.

use memchr::memchr;

use super::json_file::{self, Entry};

/// Appends the CRI lines of whole json-file lines, each with its newline. Says how many lines were damaged: what of a damaged
/// line can be read is kept, the rest is passed over.
pub fn convert(lines: &[u8], out: &mut Vec<u8>) -> u64 {
    let (mut damaged, mut rest) = (0, lines);
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let entry = json_file::parse(line).or_else(|| {
            damaged += 1;
            json_file::parse(json_file::restart(line)?)
        });
        if let Some(entry) = entry {
            push(&entry, out);
        }
    }
    damaged
}

/// Appends one entry. Docker ends an entry at each newline; should one hold newlines inside, it becomes as many CRI lines, which
/// say the same. An empty entry says nothing and becomes nothing.
pub fn push(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let content = push_head(entry, out);
    let newlines = entry.log.decode_into(out);
    if out.len() == content {
        out.truncate(start);
    } else if newlines > usize::from(out.ends_with(b"\n")) {
        let text = out.split_off(content);
        out.truncate(start);
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            let content = push_head(entry, out);
            out.extend_from_slice(piece);
            finish(content, out);
        }
    } else {
        finish(content, out);
    }
}

/// Appends what comes before the content; says where that begins.
fn push_head(entry: &Entry<'_>, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(entry.time);
    out.push(b' ');
    out.extend_from_slice(entry.stream.as_str().as_bytes());
    out.extend_from_slice(b" F ");
    out.len()
}

/// Ends the line whose content begins at `content`: without a newline of its own it is a part of one.
fn finish(content: usize, out: &mut Vec<u8>) {
    if out.last() != Some(&b'\n') {
        out[content - 2] = b'P';
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str, stream: &str) -> String {
        serde_json::json!({ "log": text, "stream": stream, "time": "2026-01-02T03:04:05.6Z" }).to_string() + "\n"
    }

    fn cri(spool: &str) -> (String, u64) {
        let mut out = Vec::new();
        let damaged = convert(spool.as_bytes(), &mut out);
        (String::from_utf8(out).unwrap(), damaged)
    }

    /// What the containers wrote to a stream, as a reader of the CRI lines puts it together.
    fn read_back(lines: &str, stream: &str) -> String {
        let mut text = String::new();
        for line in lines.split_terminator('\n') {
            let fields: Vec<&str> = line.splitn(4, ' ').collect();
            assert_eq!(fields[0], "2026-01-02T03:04:05.6Z");
            if fields[1] == stream {
                text += fields[3];
                match fields[2] {
                    "F" => text.push('\n'),
                    tag => assert_eq!(tag, "P"),
                }
            }
        }
        text
    }

    #[test]
    fn whole_lines_are_full_and_others_partial() {
        let spool = json("one\n", "stdout") + &json("tw", "stderr") + &json("o\n", "stderr") + &json("\n", "stdout");
        let expected = "2026-01-02T03:04:05.6Z stdout F one\n2026-01-02T03:04:05.6Z stderr P tw\n\
                        2026-01-02T03:04:05.6Z stderr F o\n2026-01-02T03:04:05.6Z stdout F \n";
        assert_eq!(cri(&spool), (expected.to_owned(), 0));
    }

    #[test]
    fn a_newline_inside_does_not_break_the_framing() {
        let expected =
            "2026-01-02T03:04:05.6Z stdout F a\n2026-01-02T03:04:05.6Z stdout F \n2026-01-02T03:04:05.6Z stdout P b\n";
        assert_eq!(cri(&json("a\n\nb", "stdout")).0, expected);
    }

    #[test]
    fn an_empty_entry_becomes_nothing() {
        assert_eq!(cri(&json("", "stdout")), (String::new(), 0));
    }

    #[test]
    fn damaged_lines_are_counted_and_the_others_kept() {
        let spool = format!("garbage\n{}\n{{\"log\":\"torn{}", json("a\n", "stdout"), json("b\n", "stdout"));
        let (lines, damaged) = cri(&spool);
        assert_eq!(damaged, 3);
        assert_eq!(read_back(&lines, "stdout"), "a\nb\n");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(writes in prop::collection::vec((".{0,20}\n?", any::<bool>()), 0..20)) {
            let name = |stderr: &bool| if *stderr { "stderr" } else { "stdout" };
            let spool: String = writes.iter().map(|(text, stderr)| json(text, name(stderr))).collect();
            let (lines, damaged) = cri(&spool);
            prop_assert_eq!(damaged, 0);
            for stderr in [false, true] {
                let written: String = writes.iter().filter(|write| write.1 == stderr).map(|write| write.0.as_str()).collect();
                prop_assert_eq!(read_back(&lines, name(&stderr)), written);
            }
        }

        #[test]
        fn converting_in_parts_gives_the_same(writes in prop::collection::vec("(?s).{0,20}", 1..10), cut in any::<prop::sample::Index>()) {
            let spool: Vec<String> = writes.iter().map(|text| json(text, "stdout")).collect();
            let cut = cut.index(spool.len());
            let parts = cri(&spool[..cut].concat()).0 + &cri(&spool[cut..].concat()).0;
            prop_assert_eq!(cri(&spool.concat()).0, parts);
        }

        #[test]
        fn every_output_is_whole_lines(spool: Vec<u8>) {
            let mut out = Vec::new();
            convert(&spool, &mut out);
            prop_assert!(out.is_empty() || out.ends_with(b"\n"));
        }
    }
}
