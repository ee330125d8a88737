//! The house rules, held against the sources themselves: what a reviewer would otherwise have to remember.
//!
//! A rule is a function from the house to its violations; `RULES` names each and says why it is there. A rule that can't
//! fail is none: `every_rule_can_fail` breaks each of them on purpose. Nothing here compiles or runs the product.

use std::fmt;
use std::fs;
use std::path::Path;

use scan::{Source, has_word, words_after};

#[test]
fn the_house_is_tidy() {
    let house = House::standing_at(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut report = String::new();
    for rule in RULES {
        for violation in (rule.look)(&house) {
            report.push_str(&format!("{violation}\n    {}: {}\n", rule.name, rule.why));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// One rule.
struct Rule {
    name: &'static str,
    why: &'static str,
    look: fn(&House) -> Vec<Violation>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "module docs",
        why: "a file opens by saying what it is for and what it must not do",
        look: files_open_with_module_docs,
    },
    Rule { name: "file size", why: "what is longer than 400 lines of code is two things", look: files_are_short },
    Rule {
        name: "file names",
        why: "a name that fits everything tells nothing; name the subject",
        look: files_are_named_for_their_subject,
    },
    Rule {
        name: "loose ends",
        why: "what isn't done is an issue, what isn't run is not a test",
        look: nothing_is_left_for_later,
    },
    Rule {
        name: "pure",
        why: "what is pure can be tested without a machine: no waiting, no files, no processes, no clock",
        look: pure_files_only_compute,
    },
    Rule {
        name: "engine's border",
        why: "translation knows Docker's data, never the engine that carries it",
        look: translate_knows_no_engine,
    },
    Rule {
        name: "bollard",
        why: "only the engine room talks to dockerd; bodies are plain data",
        look: bollard_stays_inside,
    },
    Rule { name: "tonic", why: "only the server (and check, a client) speaks gRPC", look: tonic_stays_inside },
    Rule {
        name: "gRPC codes",
        why: "server/status.rs is the one map from errors to codes",
        look: codes_are_in_one_map,
    },
    Rule { name: "programs", why: "only CNI plugins are ever executed on a node", look: only_plugins_are_executed },
    Rule {
        name: "HTTP codes",
        why: "engine/error.rs alone knows what Docker's status codes mean",
        look: http_codes_are_in_one_map,
    },
    Rule {
        name: "RPCs",
        why: "each RPC has a verb of its name, or says that it is not implemented",
        look: every_rpc_has_a_verb,
    },
    Rule {
        name: "rooms",
        why: "ARCHITECTURE.md is the map: each folder of src/ is on it",
        look: every_room_is_on_the_map,
    },
];

/// What the rules look at.
#[derive(Default)]
struct House {
    /// Every Rust file.
    sources: Vec<Source>,
    /// Folders of `src/`.
    rooms: Vec<String>,
    /// Empty when missing, so that what must be in it is missing too.
    architecture: String,
    proto: String,
}

/// A place, and what is wrong there.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

impl House {
    fn standing_at(root: &Path) -> House {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let mut house =
            House { architecture: read("ARCHITECTURE.md"), proto: read("proto/api.proto"), ..House::default() };
        for path in ["build.rs", "src", "tests", "benches"] {
            house.collect(root, Path::new(path));
        }
        let rooms = fs::read_dir(root.join("src")).expect("src/ can be read").flatten();
        let rooms = rooms.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
        house.rooms = rooms.map(|name| name.to_string_lossy().into_owned()).collect();
        assert!(house.sources.len() > 50 && house.rooms.len() > 5, "the sources are where they are looked for");
        house
    }

    fn collect(&mut self, root: &Path, path: &Path) {
        let full = root.join(path);
        if full.is_dir() {
            for entry in fs::read_dir(&full).expect("a folder can be read").flatten() {
                self.collect(root, &path.join(entry.file_name()));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&full).expect("a source can be read");
            self.sources.push(Source::new(&path.display().to_string(), &text));
        }
    }

    /// What is built into the program.
    fn product(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.is_product())
    }

    /// The product's lines outside some places, where `wrong` finds something.
    fn lines_outside(&self, allowed: &[&str], wrong: impl Fn(&str) -> Option<String>) -> Vec<Violation> {
        let elsewhere = self.product().filter(|source| !allowed.iter().any(|place| source.path.starts_with(place)));
        elsewhere.flat_map(|source| source.product_lines(&wrong)).map(Violation::from).collect()
    }
}

impl From<scan::Found<'_>> for Violation {
    fn from(found: scan::Found<'_>) -> Self {
        Violation { path: found.path.to_owned(), line: found.line, what: found.what }
    }
}

// --- the rules ---

fn files_open_with_module_docs(house: &House) -> Vec<Violation> {
    let opens = |source: &Source| {
        source.text.starts_with("//! ")
            || source.path == "src/lib.rs" && source.text.starts_with("#![doc = include_str!(")
    };
    let bare = house.sources.iter().filter(|source| !opens(source));
    bare.map(|source| whole_file(&source.path, "does not open with //!")).collect()
}

fn files_are_short(house: &House) -> Vec<Violation> {
    let sized = house.product().map(|source| (source, source.code_lines()));
    let long = sized.filter(|(_, lines)| *lines > 400);
    long.map(|(source, lines)| whole_file(&source.path, &format!("has {lines} lines of code"))).collect()
}

fn files_are_named_for_their_subject(house: &House) -> Vec<Violation> {
    let bad = ["util", "utils", "helper", "helpers", "common", "misc", "types"];
    let is_bad = |source: &&Source| source.path.trim_end_matches(".rs").split('/').any(|part| bad.contains(&part));
    house.sources.iter().filter(is_bad).map(|source| whole_file(&source.path, "says nothing by its name")).collect()
}

fn nothing_is_left_for_later(house: &House) -> Vec<Violation> {
    let in_code = |line: &str| {
        let macros = ["todo", "unimplemented"].into_iter().find(|name| line.contains(&format!("{name}!")));
        macros.map(|name| format!("{name}!")).or_else(|| line.contains("#[ignore").then(|| "#[ignore]".to_owned()))
    };
    let in_prose = |line: &str| {
        let mark = ["FIXME", "TODO", "XXX", "HACK"].into_iter().find(|mark| has_word(line, mark));
        mark.map(str::to_owned)
    };
    let found = house.sources.iter().flat_map(|source| source.code(in_code).chain(source.prose(in_prose)));
    found.map(Violation::from).collect()
}

fn pure_files_only_compute(house: &House) -> Vec<Violation> {
    let banned = ["async", "await", "tokio", "std::fs", "std::process", "std::env", "SystemTime", "Instant"];
    let impure = |line: &str| banned.into_iter().find(|word| has_word(line, word)).map(|word| format!("uses {word}"));
    let pure = house.product().filter(|source| source.path.starts_with("src/translate/") || source.calls_itself_pure());
    pure.flat_map(|source| source.product_lines(&impure)).map(Violation::from).collect()
}

fn translate_knows_no_engine(house: &House) -> Vec<Violation> {
    let beyond_data = |line: &str| {
        let named = words_after(line, "crate::engine").find(|next| !["::model", "::feature"].contains(next));
        named.map(|next| format!("uses crate::engine{next}, which is neither a model nor the feature table"))
    };
    let translate = house.product().filter(|source| source.path.starts_with("src/translate/"));
    translate.flat_map(|source| source.product_lines(&beyond_data)).map(Violation::from).collect()
}

fn bollard_stays_inside(house: &House) -> Vec<Violation> {
    let beyond_data = |line: &str| {
        let named = words_after(line, "bollard").find(|next| !["::models", "::auth"].contains(next));
        named.map(|next| format!("uses bollard{next}, which is more than a body"))
    };
    let anything = |line: &str| has_word(line, "bollard").then(|| "uses bollard".to_owned());
    let mut found = house.lines_outside(&["src/engine/"], beyond_data);
    found.extend(house.lines_outside(&["src/engine/", "src/translate/", "src/service/"], anything));
    found
}

fn tonic_stays_inside(house: &House) -> Vec<Violation> {
    let anything = |line: &str| has_word(line, "tonic").then(|| "uses tonic".to_owned());
    house.lines_outside(&["src/server/", "src/check/", "src/cri.rs", "build.rs"], anything)
}

fn codes_are_in_one_map(house: &House) -> Vec<Violation> {
    let code = |line: &str| {
        words_after(line, "Code").any(|next| next.starts_with("::")).then(|| "names a gRPC code".to_owned())
    };
    house.lines_outside(&["src/server/status.rs"], code)
}

fn only_plugins_are_executed(house: &House) -> Vec<Violation> {
    let ways = ["process::Command", "tokio::process", "Command::new"];
    let starts = |line: &str| ways.into_iter().find(|way| has_word(line, way)).map(|way| format!("uses {way}"));
    house.lines_outside(&["src/cni/plugin.rs", "build.rs"], starts)
}

fn http_codes_are_in_one_map(house: &House) -> Vec<Violation> {
    let knows = |line: &str| {
        ["304", "404", "409"].into_iter().find(|code| has_word(line, code)).map(|code| format!("knows {code}"))
    };
    house.lines_outside(&["src/engine/error.rs"], knows)
}

fn every_rpc_has_a_verb(house: &House) -> Vec<Violation> {
    let anywhere = |room: &str, needle: &str| {
        house.product().filter(|source| source.path.starts_with(room)).any(|source| source.text.contains(needle))
    };
    let rpc = |(at, line): (usize, &str)| {
        let name = line.trim_start().strip_prefix("rpc ")?.split('(').next()?;
        let verb = anywhere("src/service/", &format!("fn {}(", snake(name)));
        let refused = anywhere("src/server/", &format!("unimplemented(\"{name}\")"));
        let what = match (verb, refused) {
            (false, false) => "has neither a verb in src/service/ nor an unimplemented(…) in src/server/",
            (true, true) => "has a verb, and is called unimplemented all the same",
            _ => return None,
        };
        Some(Violation { path: "proto/api.proto".to_owned(), line: at + 1, what: format!("{name} {what}") })
    };
    house.proto.lines().enumerate().filter_map(rpc).collect()
}

fn every_room_is_on_the_map(house: &House) -> Vec<Violation> {
    let unnamed = house.rooms.iter().filter(|room| !house.architecture.contains(&format!("`{room}/`")));
    unnamed.map(|room| whole_file("ARCHITECTURE.md", &format!("does not name `{room}/`"))).collect()
}

fn whole_file(path: &str, what: &str) -> Violation {
    Violation { path: path.to_owned(), line: 0, what: what.to_owned() }
}

/// `StopPodSandbox` → `stop_pod_sandbox`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// What the rules know of Rust: comments, strings, the test module, words.
mod scan {
    /// A Rust file, with what is code and what is prose told apart; both keep the file's lines.
    pub(super) struct Source {
        /// From the root, `src/engine/mod.rs`.
        pub(super) path: String,
        pub(super) text: String,
        /// Without comments and without what stands in strings.
        code: Vec<String>,
        /// Comments only.
        prose: Vec<String>,
    }

    /// Something in a line.
    pub(super) struct Found<'a> {
        pub(super) path: &'a str,
        pub(super) line: usize,
        pub(super) what: String,
    }

    impl Source {
        pub(super) fn new(path: &str, text: &str) -> Source {
            let (code, prose) = tell_apart(text);
            let lines = |text: String| text.lines().map(str::to_owned).collect();
            Source { path: path.to_owned(), text: text.to_owned(), code: lines(code), prose: lines(prose) }
        }

        /// Whether it is built into the program.
        pub(super) fn is_product(&self) -> bool {
            let is_test =
                self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
            !is_test && !self.path.starts_with("benches/")
        }

        /// Whether its head says so.
        pub(super) fn calls_itself_pure(&self) -> bool {
            self.text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .any(|line| has_word(line, "Pure") || has_word(line, "pure"))
        }

        /// Lines of code that are no tests.
        pub(super) fn code_lines(&self) -> usize {
            let tests = self.in_tests();
            self.code.iter().zip(tests).filter(|(line, in_tests)| !in_tests && !line.trim().is_empty()).count()
        }

        pub(super) fn code(&self, wrong: impl Fn(&str) -> Option<String>) -> impl Iterator<Item = Found<'_>> {
            found(&self.path, &self.code, wrong)
        }

        pub(super) fn prose(&self, wrong: impl Fn(&str) -> Option<String>) -> impl Iterator<Item = Found<'_>> {
            found(&self.path, &self.prose, wrong)
        }

        /// Code that is no test.
        pub(super) fn product_lines(&self, wrong: impl Fn(&str) -> Option<String>) -> impl Iterator<Item = Found<'_>> {
            let tests = self.in_tests();
            self.code(wrong).filter(move |found| !tests[found.line - 1])
        }

        /// For each line whether it belongs to an item under `#[cfg(test)]` in the first column.
        fn in_tests(&self) -> Vec<bool> {
            let (mut in_tests, mut within) = (Vec::new(), false);
            for line in &self.code {
                let begins = line.starts_with("#[cfg(test)]");
                in_tests.push(within || begins);
                let ends = line == "}" || !line.starts_with([' ', '#']) && line.ends_with(';');
                within = begins || within && !ends;
            }
            in_tests
        }
    }

    fn found<'a>(
        path: &'a str,
        lines: &'a [String],
        wrong: impl Fn(&str) -> Option<String>,
    ) -> impl Iterator<Item = Found<'a>> {
        let found = move |(at, line): (usize, &'a String)| wrong(line).map(|what| Found { path, line: at + 1, what });
        lines.iter().enumerate().filter_map(found)
    }

    /// What follows each occurrence of a word: `::name`, or one character.
    pub(super) fn words_after<'a>(text: &'a str, word: &str) -> impl Iterator<Item = &'a str> {
        let hits: Vec<usize> = text.match_indices(word).map(|(at, _)| at).collect();
        let length = word.len();
        hits.into_iter().filter(move |at| stands_alone(text, *at, length)).map(move |at| {
            let rest = &text[at + length..];
            let name = rest.strip_prefix("::").map_or(0, |name| 2 + name.find(|c| !is_word(c)).unwrap_or(name.len()));
            let first = rest.chars().next().map_or(0, char::len_utf8);
            &rest[..name.max(first)]
        })
    }

    /// Whether a word stands in a line, not as a part of another.
    pub(super) fn has_word(line: &str, word: &str) -> bool {
        words_after(line, word).next().is_some()
    }

    fn stands_alone(text: &str, at: usize, length: usize) -> bool {
        !text[..at].ends_with(is_word) && !text[at + length..].starts_with(is_word)
    }

    fn is_word(c: char) -> bool {
        c.is_alphanumeric() || c == '_'
    }

    /// What a piece of Rust is.
    enum Piece {
        Code,
        Comment,
        /// A string or character.
        Text,
    }

    /// Code and prose of a Rust text, each with all line ends.
    fn tell_apart(text: &str) -> (String, String) {
        let (mut code, mut prose, mut rest) = (String::new(), String::new(), text);
        while !rest.is_empty() {
            let (piece, length) = next_piece(rest, code.ends_with(|c| is_word(c) && c != 'b'));
            let (text, tail) = rest.split_at(length);
            let blank: String = text.chars().filter(|c| *c == '\n').collect();
            let (in_code, in_prose) = match piece {
                Piece::Code => (text, blank.as_str()),
                Piece::Comment => (blank.as_str(), text),
                Piece::Text => (&*format!("\"{blank}\""), blank.as_str()),
            };
            code.push_str(in_code);
            prose.push_str(in_prose);
            rest = tail;
        }
        (code, prose)
    }

    /// What a text that isn't empty begins with, and how long that is.
    fn next_piece(text: &str, within_word: bool) -> (Piece, usize) {
        let length = match text.as_bytes()[0] {
            b'/' if text.starts_with("//") => return (Piece::Comment, text.find('\n').unwrap_or(text.len())),
            b'/' if text.starts_with("/*") => {
                return (Piece::Comment, text.find("*/").map_or(text.len(), |end| end + 2));
            }
            b'"' => string(text),
            b'r' if !within_word => raw_string(text),
            b'\'' => character(text),
            _ => None,
        };
        match length {
            Some(length) => (Piece::Text, length),
            None => (Piece::Code, text.chars().next().map_or(0, char::len_utf8)),
        }
    }

    /// Length of the string that begins here.
    fn string(text: &str) -> Option<usize> {
        let mut escaped = false;
        let ends = |(_, c): &(usize, char)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        };
        text.char_indices().skip(1).find(ends).map(|(at, _)| at + 1)
    }

    /// Length of the raw string that begins here, if this `r` begins one.
    fn raw_string(text: &str) -> Option<usize> {
        let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
        let inner = text[1 + hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        Some(2 + hashes + inner.find(&close)? + close.len())
    }

    /// Length of the character that begins here, if this is not a lifetime.
    fn character(text: &str) -> Option<usize> {
        let mut inner = text.char_indices().skip(1);
        match (inner.next()?.1, inner.next()?) {
            ('\\', (at, escaped)) => {
                let from = at + escaped.len_utf8();
                Some(from + text[from..].find('\'')? + 1)
            }
            (_, (at, '\'')) => Some(at + 1),
            _ => None,
        }
    }
}

// --- the rules' own tests ---

/// A house with one source in it.
fn house_with(path: &str, text: &str) -> House {
    House { sources: vec![Source::new(path, text)], ..House::default() }
}

fn broken(rule: &str, house: &House) -> Vec<Violation> {
    let rule = RULES.iter().find(|known| known.name == rule).expect("a rule of that name");
    (rule.look)(house)
}

#[test]
fn every_rule_can_fail() {
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(401));
    let proto = |proto: &str| House { proto: proto.to_owned(), ..house_with("src/service/version.rs", "fn version(") };
    let cases: Vec<(&str, House, usize)> = vec![
        ("module docs", house_with("src/a.rs", "// no\nfn f() {}"), 0),
        ("file size", house_with("src/a.rs", &long), 0),
        ("file names", house_with("src/engine/utils.rs", ""), 0),
        ("file names", house_with("src/common/a.rs", ""), 0),
        ("loose ends", house_with("tests/a.rs", "fn f() {\n    todo!()\n}"), 2),
        ("loose ends", house_with("tests/a.rs", "#[ignore = \"slow\"]"), 1),
        ("loose ends", house_with("src/a.rs", "let a = 1; // FIXME"), 1),
        ("pure", house_with("src/translate/a.rs", "async fn f() {}"), 1),
        ("pure", house_with("src/log/a.rs", "//! Lines. Pure.\nuse std::fs;"), 2),
        ("engine's border", house_with("src/translate/a.rs", "use crate::engine::Engine;"), 1),
        ("engine's border", house_with("src/translate/a.rs", "use crate::engine::{Error, model};"), 1),
        ("bollard", house_with("src/index/a.rs", "use bollard::models::Mount;"), 1),
        ("bollard", house_with("src/service/a.rs", "\nuse bollard::Docker;"), 2),
        ("tonic", house_with("src/service/a.rs", "fn f() -> tonic::Status {}"), 1),
        ("gRPC codes", house_with("src/server/runtime.rs", "let code = Code::NotFound;"), 1),
        ("programs", house_with("src/engine/a.rs", "std::process::Command::new(x)"), 1),
        ("programs", house_with("src/cni/netns.rs", "use tokio::process;"), 1),
        ("HTTP codes", house_with("src/service/a.rs", "if status == 404 {}"), 1),
        ("RPCs", proto("  rpc StopContainer(A) returns (B) {}"), 1),
        ("rooms", House { rooms: vec!["engine".to_owned()], ..House::default() }, 0),
    ];
    for (rule, house, line) in &cases {
        let found = broken(rule, house);
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [*line], "{rule}: {found:?}");
    }
    let untried = RULES.iter().filter(|rule| !cases.iter().any(|(name, ..)| *name == rule.name)).map(|rule| rule.name);
    assert_eq!(untried.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn what_is_allowed_is_let_pass() {
    let tested = "//! Pure.\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let verb = House { proto: "rpc Version(A)".to_owned(), ..house_with("src/service/version.rs", "fn version(") };
    let refused = House { proto: "rpc Exec(A)".to_owned(), ..house_with("src/server/a.rs", "unimplemented(\"Exec\")") };
    let cases = [
        ("pure", house_with("src/log/a.rs", tested)),
        ("pure", house_with("src/log/a.rs", "//! Pure.\n// async\nconst A: &str = \"tokio\";")),
        ("pure", house_with("src/log/a.rs", "//! Awaits.\nasync fn f() {}")),
        ("loose ends", house_with("src/a.rs", "const A: &str = \"todo!\"; let b = r#\"#[ignore]\"#;")),
        (
            "engine's border",
            house_with("src/translate/a.rs", "use crate::engine::model;\nuse crate::engine::feature::Feature;"),
        ),
        ("bollard", house_with("src/engine/a.rs", "use bollard::Docker;")),
        ("bollard", house_with("src/translate/a.rs", "use bollard::models::Mount;")),
        ("gRPC codes", house_with("src/a.rs", "std::process::ExitCode::SUCCESS")),
        ("programs", house_with("tests/a.rs", "Command::new(x)")),
        ("HTTP codes", house_with("src/a.rs", "/// 404: it is not there.\nconst PORT: u16 = 4040;")),
        ("RPCs", verb),
        ("RPCs", refused),
    ];
    for (rule, house) in &cases {
        assert_eq!(broken(rule, house), [], "{rule}");
    }
}

#[test]
fn strings_characters_and_comments_are_no_code() {
    let text = "let a = '\"'; // tokio\nlet b = \"x // \\\" tokio\"; let c: &'static str = r##\"tokio \"# \"##; /* tokio\n*/ tokio";
    let source = Source::new("src/a.rs", text);
    let lines: Vec<_> = source.code(|line| has_word(line, "tokio").then(String::new)).map(|found| found.line).collect();
    assert_eq!(lines, [3]);
}
