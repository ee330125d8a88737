//! One configuration from all that is told: a flag goes before a variable of the environment, that before the file, that before
//! the default. Each value keeps where it came from, for errors, for `config dump`, and for what a reload changes.
//!
//! File and environment are turned into the flags that would say the same, so there is one way in which a value is understood.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Parser};

use super::cli::{self, Cli, DEFAULT_ENGINE, DEFAULT_FILE};
use super::file::{self, Entry};
use super::key::{self, Key, PREFIX, Shape, nearest, suggestion};
use super::{Config, Error};

/// The variable that names the file.
const FILE_VARIABLE: &str = "DOCKERSHIM_CONFIG";

/// The variable that Docker's own programs read; only an empty `docker-endpoint` asks for it.
const DOCKER_HOST: &str = "DOCKER_HOST";

/// A daemon's configuration, with the origin of each value.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    pub(super) settings: Vec<Setting>,
}

/// A key and what it is set to.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) key: Key,
    pub(super) values: Vec<OsString>,
    pub(super) origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// What was typed, apart from defaults; kept for reloads.
#[derive(Clone, Debug)]
pub struct Typed {
    file: Option<PathBuf>,
    values: Vec<(String, Vec<OsString>)>,
}

impl Typed {
    /// What the arguments of the daemon, or those of `config dump`, say.
    pub fn of(matches: &ArgMatches) -> Typed {
        let mut matches = matches;
        while let Some((_, inner)) = matches.subcommand() {
            matches = inner;
        }
        let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let keys = key::all().into_iter().filter(|key| typed(&key.id()));
        let values = |id: &str| matches.get_raw(id).into_iter().flatten().map(OsStr::to_owned).collect();
        Typed {
            file: typed("config").then(|| matches.get_one::<PathBuf>("config").cloned()).flatten(),
            values: keys.map(|key| (key.name.clone(), values(&key.id()))).collect(),
        }
    }

    /// Nothing but a file.
    pub fn only_file(path: PathBuf) -> Typed {
        Typed { file: Some(path), values: Vec::new() }
    }
}

/// What a reload has changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes {
    /// Keys whose new values are used from now on.
    pub now: Vec<String>,
    /// Keys whose new values wait for a restart.
    pub at_restart: Vec<String>,
}

impl Resolved {
    /// Puts everything together, and checks all of it.
    pub fn new(typed: &Typed, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Resolved, Error> {
        let keys = key::all();
        let known = |name: &OsStr| is_ours(name) || name == DOCKER_HOST;
        let environment: Vec<_> = environment.into_iter().filter(|(name, _)| known(name)).collect();
        refuse_unknown(&keys, &environment)?;
        let named = environment.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, path)| PathBuf::from(path));
        let file = typed.file.clone().or(named);
        let path = file.as_deref().unwrap_or_else(|| Path::new(DEFAULT_FILE));
        let entries = file::read(path, &keys)?;
        if entries.is_none() && file.is_some() {
            return Err(Error::NoFile { path: path.to_owned() });
        }
        let told = Told { typed, environment: &environment, path, entries: &entries.unwrap_or_default() };
        let settings: Vec<_> = keys.into_iter().map(|key| told.docker_host(told.setting(key))).collect();
        let config = config(&settings).map_err(|error| error.at(&settings))?;
        Ok(Resolved { config, settings })
    }

    /// For each flag that was typed and means nothing here: the flag, and why.
    pub fn without_meaning(&self) -> impl Iterator<Item = (&str, &str)> {
        let typed = self.settings.iter().filter(|setting| !setting.key.has_meaning());
        let typed = typed.filter(|setting| setting.origin != Origin::Default);
        typed.map(|setting| (setting.key.name.as_str(), setting.key.doc.as_str()))
    }

    /// Takes over what can change while the daemon runs. The rest stays as it is, and is told again at the next reload.
    pub fn reload(&mut self, new: Resolved) -> Changes {
        let mut changes = Changes { now: Vec::new(), at_restart: Vec::new() };
        for (old, new) in self.settings.iter_mut().zip(new.settings) {
            if old.values == new.values {
                continue;
            }
            if old.key.is_reloaded() {
                changes.now.push(new.key.name.clone());
                *old = new;
            } else {
                changes.at_restart.push(new.key.name);
            }
        }
        self.config.log_level = new.config.log_level;
        changes
    }
}

impl Error {
    /// The same, told where the value stands if that is not the command line.
    fn at(self, settings: &[Setting]) -> Error {
        let Error::Value { key, place, reason } = self else { return self };
        let origin = settings.iter().find(|setting| setting.key.name == key).map(|setting| &setting.origin);
        let place = match origin {
            Some(origin @ Origin::File { .. }) => format!("{origin}: {key}"),
            Some(Origin::Variable(name)) => name.clone(),
            _ => place,
        };
        Error::Value { key, place, reason }
    }
}

/// What is typed, and nothing else but what an empty `docker-endpoint` stands for: each key that was told, all of it checked.
pub(super) fn told(
    typed: &Typed,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Setting>, Error> {
    let environment: Vec<_> = environment.into_iter().filter(|(name, _)| name == DOCKER_HOST).collect();
    let told = Told { typed, environment: &environment, path: Path::new(DEFAULT_FILE), entries: &[] };
    let settings: Vec<_> = key::all().into_iter().map(|key| told.docker_host(told.setting(key))).collect();
    config(&settings).map_err(|error| error.at(&settings))?;
    Ok(settings.into_iter().filter(|setting| setting.origin != Origin::Default).collect())
}

/// All that is told.
struct Told<'a> {
    typed: &'a Typed,
    environment: &'a [(OsString, OsString)],
    path: &'a Path,
    entries: &'a [Entry],
}

impl Told<'_> {
    fn setting(&self, key: Key) -> Setting {
        let (values, origin) = self
            .by_flag(&key)
            .or_else(|| self.by_variable(&key))
            .or_else(|| self.by_file(&key))
            .unwrap_or_else(|| (key.default.iter().map(OsString::from).collect(), Origin::Default));
        Setting { key, values, origin }
    }

    /// What an empty `docker-endpoint` stands for; other settings are as they are.
    fn docker_host(&self, setting: Setting) -> Setting {
        if setting.key.name != "docker-endpoint" || setting.values != [""] {
            return setting;
        }
        let host = self.environment.iter().find(|(name, value)| name == DOCKER_HOST && !value.is_empty());
        let (value, origin) = match host {
            Some((_, host)) => (host.clone(), Origin::Variable(DOCKER_HOST.to_owned())),
            None => (DEFAULT_ENGINE.into(), Origin::Default),
        };
        Setting { values: vec![value], origin, ..setting }
    }

    fn by_flag(&self, key: &Key) -> Option<(Vec<OsString>, Origin)> {
        let (_, values) = self.typed.values.iter().find(|(name, _)| *name == key.name)?;
        Some((values.clone(), Origin::Flag))
    }

    /// A list has commas between its values.
    fn by_variable(&self, key: &Key) -> Option<(Vec<OsString>, Origin)> {
        let (name, value) = self.environment.iter().find(|(name, _)| *name == *key.variable())?;
        let values = match value.to_str().filter(|_| key.many) {
            Some(list) => list.split(',').map(OsString::from).collect(),
            None => vec![value.clone()],
        };
        Some((values, Origin::Variable(name.to_string_lossy().into_owned())))
    }

    fn by_file(&self, key: &Key) -> Option<(Vec<OsString>, Origin)> {
        let entry = self.entries.iter().find(|entry| entry.name == key.name)?;
        let values = entry.values.iter().map(OsString::from).collect();
        Some((values, Origin::File { path: self.path.to_owned(), line: entry.line }))
    }
}

fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// A variable that nobody reads is a mistake, as a key is that nobody reads.
fn refuse_unknown(keys: &[Key], environment: &[(OsString, OsString)]) -> Result<(), Error> {
    let meant = keys.iter().filter(|key| key.has_meaning()).map(Key::variable);
    let known: HashSet<_> = meant.chain([FILE_VARIABLE.to_owned()]).collect();
    let ours = environment.iter().map(|(name, _)| name).filter(|name| is_ours(name));
    let unknown = ours.map(|name| name.to_string_lossy()).find(|name| !known.contains(&**name));
    unknown.map_or(Ok(()), |name| {
        let nearest = nearest(&name, known.iter().map(String::as_str));
        Err(Error::UnknownVariable { name: name.into_owned(), suggestion: suggestion(nearest.as_deref()) })
    })
}

/// The configuration that the settings make, as if all of them had been typed.
fn config(settings: &[Setting]) -> Result<Config, Error> {
    let told = || settings.iter().filter(|setting| setting.origin != Origin::Default);
    // each by itself first, so that what can't be a flag is known by its key
    told().try_for_each(|setting| parse(setting.arguments()?).map(drop).map_err(|reason| setting.wrong(reason)))?;
    let arguments = told().map(Setting::arguments).collect::<Result<Vec<_>, _>>()?;
    let cli = parse(arguments.into_iter().flatten()).expect("flags that can be read one by one can be read together");
    Config::from_flags(cli.told.flags)
}

impl Setting {
    /// The flags that say the same.
    fn arguments(&self) -> Result<Vec<OsString>, Error> {
        let argument = |value: &OsString| {
            if self.key.shape == Shape::Switch {
                cli::switch(&value.to_string_lossy()).map_err(|reason| self.wrong(reason))?;
            }
            let mut argument = OsString::from(format!("--{}=", self.key.name));
            argument.push(value);
            Ok(argument)
        };
        self.values.iter().map(argument).collect()
    }

    fn wrong(&self, reason: String) -> Error {
        Error::value(&self.key.name, reason)
    }
}

/// Why not, in one line.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, String> {
    Cli::try_parse_from(std::iter::once("dockershim".into()).chain(arguments)).map_err(|error| first_line(&error))
}

/// What is wrong, without the usage.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A configuration file of the test's own.
    struct ConfigFile(PathBuf);

    impl ConfigFile {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("dockershim-resolve-{name}-{}.toml", std::process::id()));
            std::fs::write(&path, text).unwrap();
            ConfigFile(path)
        }

        fn flag(&self) -> String {
            format!("--config={}", self.0.display())
        }
    }

    impl Drop for ConfigFile {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    fn resolve(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Resolved, String> {
        let arguments = std::iter::once("dockershim").chain(arguments.iter().copied());
        let matches = Cli::command().try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Resolved::new(&Typed::of(&matches), environment).map_err(|error| error.to_string())
    }

    fn origins(resolved: &Resolved) -> Vec<(String, String)> {
        let told = resolved.settings.iter().filter(|setting| setting.origin != Origin::Default);
        told.map(|setting| (setting.key.name.clone(), setting.origin.to_string())).collect()
    }

    #[test]
    fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
        let file = ConfigFile::new(
            "order",
            "log-level = \"trace\"\nnetwork-plugin = \"bridge\"\nlog-spool-files = 7\nallow-other-adapter = true\n",
        );
        let environment = [("DOCKERSHIM_LOG_LEVEL", "warn"), ("DOCKERSHIM_LOG_SPOOL_FILES", "6"), ("PATH", "/bin")];
        let resolved = resolve(&[&file.flag(), "--log-level", "debug"], &environment).unwrap();
        assert_eq!(resolved.config.log_level, tracing::Level::DEBUG);
        assert_eq!(resolved.config.log_spool.max_files, 6);
        assert!(resolved.config.allow_other_adapter);
        let expected = [
            ("allow-other-adapter", format!("{}:4", file.0.display())),
            ("network-plugin", format!("{}:2", file.0.display())),
            ("log-spool-files", "DOCKERSHIM_LOG_SPOOL_FILES".to_owned()),
            ("log-level", "flag".to_owned()),
        ];
        assert_eq!(origins(&resolved), expected.map(|(name, origin)| (name.to_owned(), origin)));
    }

    #[test]
    fn a_flag_that_repeats_the_default_is_still_a_flag() {
        let resolved = resolve(&["--log-level=info"], &[("DOCKERSHIM_LOG_LEVEL", "debug")]).unwrap();
        assert_eq!(resolved.config.log_level, tracing::Level::INFO);
    }

    #[test]
    fn a_list_is_taken_whole_from_one_place() {
        let file = ConfigFile::new("list", "cni-bin-dir = [\"/a\", \"/b\"]\n");
        let bins = |resolved: Resolved| resolved.config.cni.bin;
        let variable = [("DOCKERSHIM_CNI_BIN_DIR", "/c,/d")];
        assert_eq!(bins(resolve(&[&file.flag()], &[]).unwrap()), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(bins(resolve(&[&file.flag()], &variable).unwrap()), [PathBuf::from("/c"), PathBuf::from("/d")]);
        assert_eq!(bins(resolve(&[&file.flag(), "--cni-bin-dir=/e"], &variable).unwrap()), [PathBuf::from("/e")]);
    }

    #[test]
    fn what_cannot_be_used_is_told_where_it_stands() {
        let file = ConfigFile::new("place", "# ours\nlog-level = \"loud\"\n");
        let place = format!("{}:2: log-level: \"loud\" is none of", file.0.display());
        let variable = [("DOCKERSHIM_LOG_LEVEL", "loud")];
        let switch = [("DOCKERSHIM_ALLOW_OTHER_ADAPTER", "yes")];
        let cases = [
            (resolve(&[&file.flag()], &[]), place.as_str()),
            (resolve(&[], &variable), "DOCKERSHIM_LOG_LEVEL: \"loud\" is none of"),
            (resolve(&["--log-level=loud"], &[]), "--log-level: \"loud\" is none of"),
            (resolve(&[], &[("DOCKERSHIM_ROOT_DIRECTORY", "")]), "DOCKERSHIM_ROOT_DIRECTORY: a value is required"),
            (resolve(&[], &switch), "DOCKERSHIM_ALLOW_OTHER_ADAPTER: \"yes\" is neither true nor false"),
        ];
        for (resolved, told) in cases {
            let error = resolved.unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
        // overridden, and so of no account
        assert!(resolve(&[&file.flag(), "--log-level=info"], &variable).is_ok());
    }

    #[test]
    fn a_variable_that_nobody_reads_is_refused() {
        let error = resolve(&[], &[("DOCKERSHIM_LOGLEVEL", "debug")]).unwrap_err();
        assert!(error.contains("DOCKERSHIM_LOGLEVEL") && error.contains("\"DOCKERSHIM_LOG_LEVEL\"?"), "{error}");
        assert!(resolve(&[], &[("DOCKERSHIM_RUNTIME_CGROUPS", "/x")]).is_err());
    }

    #[test]
    fn an_empty_engine_is_dockers_own_variable() {
        let engine = |environment: &[(&str, &str)]| {
            resolve(&["--docker-endpoint="], environment).map(|resolved| resolved.config.docker_socket)
        };
        assert_eq!(engine(&[("DOCKER_HOST", "unix:///a.sock")]).unwrap(), PathBuf::from("/a.sock"));
        assert_eq!(engine(&[]).unwrap(), PathBuf::from("/var/run/docker.sock"));
        assert!(engine(&[("DOCKER_HOST", "tcp://1.2.3.4:5")]).unwrap_err().starts_with("DOCKER_HOST: \"tcp://"));
        let told = resolve(&["--docker-endpoint=/b.sock"], &[("DOCKER_HOST", "unix:///a.sock")]).unwrap();
        assert_eq!(told.config.docker_socket, PathBuf::from("/b.sock"));
    }

    #[test]
    fn only_a_file_that_was_named_must_be_there() {
        let error = resolve(&["--config=/nowhere/c.toml"], &[]).unwrap_err();
        assert!(error.contains("/nowhere/c.toml") && error.contains("config default"), "{error}");
        assert!(resolve(&[], &[("DOCKERSHIM_CONFIG", "/nowhere/c.toml")]).is_err());
        let file = ConfigFile::new("named", "log-level = \"error\"\n");
        let resolved = resolve(&[], &[("DOCKERSHIM_CONFIG", &file.0.display().to_string())]).unwrap();
        assert_eq!(resolved.config.log_level, tracing::Level::ERROR);
    }

    #[test]
    fn every_flag_of_cri_dockerd_is_taken_as_pflag_takes_it() {
        let arguments = [
            "--container-runtime-endpoint=unix:///run/cri-dockerd.sock",
            "--docker-endpoint",
            "unix:///var/run/docker.sock",
            "--cri-dockerd-root-directory=/var/lib/cri-dockerd",
            "--pod-infra-container-image",
            "registry.k8s.io/pause:3.10",
            "--network-plugin=",
            "--cni-conf-dir=/etc/cni/net.d",
            "--cni-bin-dir=/opt/cni/bin,/usr/lib/cni",
            "--cni-cache-dir=/var/lib/cni/cache",
            "--ipv6-dual-stack",
            "--image-pull-progress-deadline=2m",
            "--runtime-request-timeout=0s",
            "--runtime-cgroups",
            "/docker",
            "--streaming-bind-addr=",
            "--log-level=warn",
            "--log-level=debug",
        ];
        let resolved = resolve(&arguments, &[]).unwrap();
        let told: Vec<_> = resolved.without_meaning().map(|(flag, _)| flag).collect();
        assert_eq!(told, ["ipv6-dual-stack", "runtime-cgroups"]);
        assert_eq!(resolved.config.log_level, tracing::Level::DEBUG, "the last one counts");
        assert_eq!(resolved.config.cni.bin.len(), 2);
        for (switch, on) in [("", true), ("=true", true), ("=1", true), ("=false", false), ("=F", false)] {
            let resolved = resolve(&[&format!("--allow-other-adapter{switch}")], &[]).unwrap();
            assert_eq!(resolved.config.allow_other_adapter, on, "{switch}");
        }
        assert!(resolve(&["--allow-other-adapter=maybe"], &[]).is_err());
        assert_eq!(resolve(&[], &[]).unwrap().without_meaning().count(), 0);
    }

    #[test]
    fn a_reload_takes_what_can_change_and_tells_the_rest() {
        let file = ConfigFile::new("reload", "log-level = \"info\"\nnetwork-plugin = \"bridge\"\n");
        let mut running = resolve(&[&file.flag(), "--log-format=cri"], &[]).unwrap();
        let again = |text: &str| {
            std::fs::write(&file.0, text).unwrap();
            resolve(&[&file.flag(), "--log-format=cri"], &[])
        };
        let new = again("log-level = \"debug\"\nnetwork-plugin = \"cni\"\nlog-format = \"docker\"\n").unwrap();
        let changes = running.reload(new.clone());
        assert_eq!(changes.now, ["log-level"]);
        assert_eq!(changes.at_restart, ["network-plugin"]);
        assert_eq!(running.config.log_level, tracing::Level::DEBUG);
        assert_eq!(running.config.network, crate::translate::node::Network::Bridge);
        assert_eq!(running.reload(new).at_restart, ["network-plugin"], "as long as it waits");
        assert!(again("log-level = 5\n").is_err());
    }
}
