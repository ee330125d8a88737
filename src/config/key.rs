//! What the daemon can be told, as keys: each flag of `cli.rs` is also a key of the configuration file and a variable of the
//! environment. Names, defaults and help are read off the flags; a key has nothing of its own. Pure.

use clap::{Arg, ArgAction, Args, Command};

use super::cli::{Flags, RELOADED, WITHOUT_MEANING};

/// Variables of the environment that are ours begin so.
pub(super) const PREFIX: &str = "DOCKERSHIM_";

/// One thing that can be told.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The flag without its dashes, and the key in the file.
    pub(super) name: String,
    pub(super) shape: Shape,
    /// Whether it may have several values.
    pub(super) many: bool,
    pub(super) default: Vec<String>,
    /// One sentence.
    pub(super) doc: String,
    /// What a value is: `DURATION`, `DIR`.
    pub(super) unit: String,
    pub(super) group: String,
}

/// What a value is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Number,
    Switch,
}

impl Key {
    fn of(arg: &Arg) -> Key {
        let default: Vec<_> = arg.get_default_values().iter().map(|text| text.to_string_lossy().into_owned()).collect();
        let shape = match default.first().map(String::as_str) {
            Some("true" | "false") => Shape::Switch,
            Some(text) if text.parse::<i64>().is_ok() => Shape::Number,
            _ => Shape::Text,
        };
        let text = |text: Option<String>| text.unwrap_or_default();
        Key {
            name: text(arg.get_long().map(str::to_owned)),
            shape,
            many: matches!(arg.get_action(), ArgAction::Append),
            default,
            doc: text(arg.get_help().map(ToString::to_string)),
            unit: text(arg.get_value_names().and_then(|names| names.first().map(ToString::to_string))),
            group: text(arg.get_help_heading().map(str::to_owned)),
        }
    }

    /// The variable: `log-level` → `DOCKERSHIM_LOG_LEVEL`.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The id that clap knows the flag by: its field's name.
    pub(super) fn id(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Whether it means anything here.
    pub(super) fn has_meaning(&self) -> bool {
        self.group != WITHOUT_MEANING
    }

    /// Whether a reload puts a new value to use.
    pub(super) fn is_reloaded(&self) -> bool {
        RELOADED.contains(&self.name.as_str())
    }
}

/// All of them, in the flags' order.
pub(super) fn all() -> Vec<Key> {
    Flags::augment_args(Command::default()).get_arguments().map(Key::of).collect()
}

/// The name most like a mistyped one, if there is one that may have been meant.
pub(super) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let likeness = names.map(|name| (strsim::jaro_winkler(wrong, name), name));
    let best = likeness.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness > 0.7).map(|(_, name)| name.to_owned())
}

/// `; did you mean "log-level"?`, or nothing.
pub(super) fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_a_key_and_a_variable() {
        let keys = all();
        let key = |name: &str| keys.iter().find(|key| key.name == name).unwrap();
        assert_eq!(key("log-level").variable(), "DOCKERSHIM_LOG_LEVEL");
        assert_eq!((key("log-level").shape, key("log-level").many), (Shape::Text, false));
        assert_eq!(key("log-spool-files").shape, Shape::Number);
        assert_eq!(key("allow-other-adapter").shape, Shape::Switch);
        assert!(key("container-runtime-endpoint").many && key("cni-bin-dir").many);
        assert!(key("cni-conf-dir").has_meaning() && !key("runtime-cgroups").has_meaning());
    }

    #[test]
    fn every_key_says_what_it_is() {
        for key in all() {
            let told = [&key.name, &key.doc, &key.unit, &key.group];
            assert!(told.iter().all(|text| !text.is_empty()), "{key:?}");
            assert_eq!(key.default.len(), 1, "{key:?}");
        }
        assert!(RELOADED.iter().all(|name| all().iter().any(|key| key.name == *name)));
    }

    #[test]
    fn the_nearest_name_is_one_that_may_have_been_meant() {
        let names = ["log-level", "log-format", "cni-bin-dir"];
        assert_eq!(nearest("loglevel", names.into_iter()).as_deref(), Some("log-level"));
        assert_eq!(nearest("cni-bindir", names.into_iter()).as_deref(), Some("cni-bin-dir"));
        assert_eq!(nearest("zzz", names.into_iter()), None);
    }
}
