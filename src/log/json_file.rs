//! Reads one line of Docker's json-file: `{"log":"text\n","stream":"stdout","attrs":{…},"time":"2026-01-02T03:04:05.6Z"}`.
//! Pure. Keys come in any order, unknown ones are passed over, and no byte sequence is a reason to panic.

use memchr::{memchr, memchr2, memrchr};

/// Which of its outputs a container wrote to. With a terminal there is only stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As both formats write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// What one line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it was written to.
    pub stream: Stream,
    /// RFC 3339 with up to nine digits of a second, as Docker wrote it; nothing but digits and `T:.Z+-`.
    pub time: &'a [u8],
    /// What was written; ends with a newline unless the container's line goes on in the next entry.
    pub log: Escaped<'a>,
}

/// The inside of a JSON string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Escaped<'a> {
    inside: &'a [u8],
    /// So many bytes come before the first escape.
    plain: usize,
}

/// Reads a line, given without its newline (there is none within). None when it isn't one that Docker writes.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    parse_usual(line).or_else(|| parse_any(line))
}

/// Reads a line in the one form that Docker writes while it adds no attributes, from both ends: the text in between is looked at
/// once. None: it may be a line all the same.
fn parse_usual(line: &[u8]) -> Option<Entry<'_>> {
    let rest = line.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}")?;
    let (rest, time) = rest.split_at(memrchr(b'"', rest)? + 1);
    let rest = rest.strip_suffix(b"\",\"time\":\"")?;
    let (rest, stream) = match rest.strip_suffix(b"\",\"stream\":\"stdout") {
        Some(rest) => (rest, Stream::Stdout),
        None => (rest.strip_suffix(b"\",\"stream\":\"stderr")?, Stream::Stderr),
    };
    let log = Escaped::whole(rest)?;
    is_time(time).then_some(Entry { stream, time, log })
}

/// Reads a line with its keys in any order and others among them.
fn parse_any(line: &[u8]) -> Option<Entry<'_>> {
    let mut scanner = Scanner { rest: line };
    let (mut log, mut stream, mut time) = (Escaped::default(), None, None);
    scanner.expect(b'{')?;
    loop {
        let key = scanner.string()?;
        scanner.expect(b':')?;
        match key.inside {
            b"log" => log = scanner.string()?,
            b"stream" => stream = Some(scanner.string()?.inside),
            b"time" => time = Some(scanner.string()?.inside),
            _ => scanner.skip_value(),
        }
        if scanner.expect(b'}').is_some() {
            break;
        }
        scanner.expect(b',')?;
    }
    if scanner.next().is_some() {
        return None;
    }
    let stream = match stream? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let time = time.filter(|time| is_time(time))?;
    Some(Entry { stream, time, log })
}

/// Where in a damaged line a whole one may begin: dockerd died within a line and the next one follows it, or a hole of NULs
/// precedes it. Inside a JSON string the quotes would be escaped, so what is found here can't be a container's text.
pub fn restart(line: &[u8]) -> Option<&[u8]> {
    const START: &[u8] = b"{\"log\":\"";
    let at = line.windows(START.len()).rposition(|window| window == START)?;
    line.get(at..)
}

/// Enough to keep the CRI line's fields apart, whatever the file holds.
fn is_time(time: &[u8]) -> bool {
    let belongs = |byte| matches!(byte, b'0'..=b'9' | b'T' | b':' | b'.' | b'Z' | b'+' | b'-');
    !time.is_empty() && time.iter().fold(true, |all, byte| all & belongs(*byte))
}

/// What of a line is still to be read.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// The next byte that isn't white space, still to be read.
    fn next(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    /// Passes over one byte; None, with nothing read, when another comes next.
    fn expect(&mut self, byte: u8) -> Option<()> {
        if self.next()? != byte {
            return None;
        }
        self.rest = &self.rest[1..];
        Some(())
    }

    /// The inside of a string, escapes as they are.
    fn string(&mut self) -> Option<Escaped<'a>> {
        self.expect(b'"')?;
        let (mut end, mut plain) = (0, None);
        loop {
            end += memchr2(b'"', b'\\', self.rest.get(end..)?)?;
            let plain = *plain.get_or_insert(end);
            if self.rest[end] == b'"' {
                let inside = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                return Some(Escaped { inside, plain });
            }
            end += 2;
        }
    }

    /// Passes over any value, up to the `,` or `}` after it. Loose, but not recursive: depth costs nothing.
    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.next() {
            match byte {
                b'"' => {
                    if self.string().is_none() {
                        self.rest = &[];
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' | b'}' | b']' if depth == 0 => return,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.rest = &self.rest[1..];
        }
    }
}

impl<'a> Escaped<'a> {
    /// The inside of a string that ends where `inside` does. None when it ends before, or not even there.
    fn whole(inside: &'a [u8]) -> Option<Self> {
        let (mut at, mut plain) = (0, None);
        while let Some(found) = memchr2(b'"', b'\\', inside.get(at..)?) {
            at += found;
            plain.get_or_insert(at);
            if inside[at] == b'"' {
                return None;
            }
            at += 2;
        }
        Some(Escaped { inside, plain: plain.unwrap_or(inside.len()) })
    }

    /// Appends what the string stands for. A lone surrogate becomes U+FFFD; what is no escape, and bytes that aren't UTF-8, pass
    /// as they are. Says how many newlines there were.
    pub fn decode_into(&self, out: &mut Vec<u8>) -> usize {
        let (plain, mut rest) = self.inside.split_at(self.plain);
        out.extend_from_slice(plain);
        if rest == b"\\n" {
            out.push(b'\n');
            return 1;
        }
        let mut newlines = 0;
        while let Some(at) = memchr(b'\\', rest) {
            out.extend_from_slice(&rest[..at]);
            let used = decode_escape(&rest[at..], out);
            newlines += usize::from(out.last() == Some(&b'\n'));
            rest = &rest[at + used..];
        }
        out.extend_from_slice(rest);
        newlines
    }
}

/// Appends what the escape at the start of `text` stands for; says how long it is.
fn decode_escape(text: &[u8], out: &mut Vec<u8>) -> usize {
    let plain = match text.get(1) {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 0x08,
        Some(b'f') => 0x0c,
        Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
        Some(b'u') => return decode_unicode(text, out),
        _ => {
            out.push(b'\\');
            return 1;
        }
    };
    out.push(plain);
    2
}

/// The same for `\uXXXX` and for a pair of them.
fn decode_unicode(text: &[u8], out: &mut Vec<u8>) -> usize {
    let Some(first) = code_unit(text) else {
        out.push(b'\\');
        return 1;
    };
    let second = text.get(6..).and_then(code_unit);
    let (code, used) = match (first, second) {
        (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => (0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00), 12),
        _ => (first, 6),
    };
    let decoded = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
    used
}

/// The number in a `\uXXXX` at the start of `text`.
fn code_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(escaped: Escaped<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        escaped.decode_into(&mut out);
        out
    }

    fn log(line: &str) -> Option<Vec<u8>> {
        parse(line.as_bytes()).map(|entry| decoded(entry.log))
    }

    /// A line around the inside of a log string.
    fn line_of(inside: &str) -> String {
        format!(r#"{{"log":"{inside}","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}}"#)
    }

    #[test]
    fn a_line_as_docker_writes_it() {
        let line =
            r#"{"log":"a\u003cb\n","stream":"stderr","attrs":{"k":"}\""},"time":"2026-01-02T03:04:05.123456789Z"}"#;
        let entry = parse(line.as_bytes()).unwrap();
        assert_eq!(entry.stream, Stream::Stderr);
        assert_eq!(entry.time, b"2026-01-02T03:04:05.123456789Z");
        assert_eq!(decoded(entry.log), b"a<b\n");
    }

    #[test]
    fn docker_s_own_form_takes_the_short_way() {
        for inside in ["", "x", r"x\n", r#"\"x\"\\\n"#] {
            let line = line_of(inside);
            assert_eq!(parse_usual(line.as_bytes()), parse_any(line.as_bytes()));
            assert!(parse_usual(line.as_bytes()).is_some(), "{line}");
        }
        for other in [r#"torn{"log":"x"#, r#"x\"#, r#"x" ,"stream":"stdout","time":"1Z"#] {
            assert_eq!(parse_usual(line_of(other).as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn key_order_unknown_keys_and_white_space_do_not_matter() {
        let line = r#" { "time" : "1Z", "x":[1,{"y":"]"}], "n":-1.5e3, "t":true, "stream":"stdout" , "log":"x" } "#;
        assert_eq!(log(line), Some(b"x".to_vec()));
        assert_eq!(log(r#"{"stream":"stdout","time":"1Z"}"#), Some(Vec::new()));
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(log(&line_of(r#"\"\\\/\b\f\n\r\t\u0000\u00e9"#)), Some(b"\"\\/\x08\x0c\n\r\t\0\xc3\xa9".to_vec()));
        assert_eq!(log(&line_of(r"\\n")), Some(b"\\n".to_vec()));
        assert_eq!(log(&line_of(r"\ud83d\ude00")), Some("😀".into()));
    }

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        for lone in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\udc00\ud800"] {
            let expected = "\u{fffd}".repeat(lone.len() / 6);
            assert_eq!(log(&line_of(lone)), Some(expected.into()), "{lone}");
        }
        assert_eq!(log(&line_of(r"\ud800x")), Some("\u{fffd}x".into()));
        assert_eq!(log(&line_of(r"\ud83d\ud83d\ude00")), Some("\u{fffd}😀".into()));
    }

    #[test]
    fn what_is_no_escape_passes_as_it_is() {
        assert_eq!(log(&line_of(r"\x41\u12g4\u12")), Some(br"\x41\u12g4\u12".to_vec()));
    }

    #[test]
    fn bytes_that_are_not_utf8_pass_as_they_are() {
        let line = b"{\"log\":\"\xff\xfe\\n\",\"stream\":\"stdout\",\"time\":\"1Z\"}";
        assert_eq!(decoded(parse(line).unwrap().log), b"\xff\xfe\n");
    }

    #[test]
    fn what_docker_would_not_write_is_refused() {
        let whole = line_of("x");
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..cut]), None, "cut at {cut}");
        }
        let stream = whole.replace("stdout", "stdin");
        let time = whole.replace("2026", "20 26");
        let no_time = r#"{"log":"x","stream":"stdout"}"#.to_owned();
        for bad in
            [stream, time, no_time, format!("{whole}x"), format!("\0{whole}"), "{}".to_owned(), "[".repeat(100_000)]
        {
            assert_eq!(log(&bad), None, "{:.80}", bad);
        }
    }

    #[test]
    fn a_whole_line_behind_a_torn_one_or_a_hole_is_found() {
        for before in ["{\"log\":\"lost", "\0\0\0", "garbage"] {
            let line = format!("{before}{}", line_of("x"));
            assert_eq!(parse(line.as_bytes()), None);
            assert_eq!(parse(restart(line.as_bytes()).unwrap()).map(|entry| decoded(entry.log)), Some(b"x".to_vec()));
        }
        let quoted = line_of(&line_of("x").replace('"', "\\\""));
        assert_eq!(restart(quoted.as_bytes()), Some(quoted.as_bytes()));
        assert_eq!(restart(b"nothing"), None);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_what_serde_json_writes(text: String, stderr: bool, attrs: Option<String>) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            let line = serde_json::json!({
                "log": text, "stream": stream.as_str(), "time": "2026-01-02T03:04:05Z", "attrs": { "a": attrs, "b": [1, null] },
            });
            let line = line.to_string();
            let entry = parse(line.as_bytes()).unwrap();
            prop_assert_eq!(decoded(entry.log), text.as_bytes());
            prop_assert_eq!(entry.stream, stream);
        }

        #[test]
        fn escapes_mean_what_serde_json_takes_them_for(units in prop::collection::vec(any::<u16>(), 0..40), letters in "[a-z\\\\\"/bfnrtu0-9]{0,20}") {
            let inside: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>() + &letters;
            let line = line_of(&inside);
            if let Ok(oracle) = serde_json::from_str::<serde_json::Value>(&line) {
                prop_assert_eq!(log(&line), oracle["log"].as_str().map(|text| text.as_bytes().to_vec()));
            }
        }

        #[test]
        fn the_short_way_reads_what_the_long_one_does(inside in "[a-z\\\\\"n,:{}]{0,20}", more in "(\",\"stream\":\"stderr\",\"time\":\"1Z)?") {
            let line = line_of(&(inside + &more));
            if let Some(usual) = parse_usual(line.as_bytes()) {
                prop_assert_eq!(Some(usual), parse_any(line.as_bytes()));
            }
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, pieces in prop::collection::vec("[{}\\[\\]\",:\\\\u0-9a-f]|\"log\":|\"stream\":\"stdout\"|\"time\":\"1Z\"", 0..30)) {
            for line in [bytes, pieces.concat().into_bytes()] {
                for entry in [parse(&line), restart(&line).and_then(parse)].into_iter().flatten() {
                    decoded(entry.log);
                }
            }
        }
    }
}
