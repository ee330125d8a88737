//! The command line of a systemd service, as systemd would run it: its unit, drop-ins, environment and what they say of each other,
//! as far as that stands in files. Specifiers that only a running systemd knows are refused, not guessed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Error;
use super::words::{assignments, expanded, logical_lines, specified, unquoted, words};

/// Where systemd looks for units and drop-ins, the first that has a file wins.
const DIRS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// What a service runs.
#[derive(Debug)]
pub(super) struct Command {
    /// The files that say so, in their order.
    pub(super) files: Vec<PathBuf>,
    /// The program, and its arguments.
    pub(super) words: Vec<String>,
    /// What its environment is given.
    pub(super) environment: BTreeMap<String, String>,
}

/// Reads a unit by its path, or by its name where systemd would find it.
pub(super) fn read(unit: &str) -> Result<Command, Error> {
    read_in(unit, &DIRS.map(PathBuf::from))
}

fn read_in(unit: &str, dirs: &[PathBuf]) -> Result<Command, Error> {
    let path = find(unit, dirs)?;
    let mut files = vec![path.clone()];
    files.extend(drop_ins(&path, dirs));
    let mut service = Service::default();
    for file in &files {
        service.take(&contents(file)?);
    }
    let (environment, read) = service.environment(&path)?;
    files.extend(read);
    let refused = |reason: String| Error::Unit { path: path.clone(), reason };
    let [command] = service.commands.as_slice() else {
        return Err(refused(format!("has {} commands in ExecStart=, one is wanted", service.commands.len())));
    };
    let words =
        command_words(command, &environment).map_err(|reason| refused(format!("ExecStart={command}: {reason}")))?;
    Ok(Command { files, words, environment })
}

fn find(unit: &str, dirs: &[PathBuf]) -> Result<PathBuf, Error> {
    if unit.contains('/') {
        // by another name it is the same unit, with the same drop-ins
        return Ok(fs::canonicalize(unit).unwrap_or_else(|_| PathBuf::from(unit)));
    }
    let found = dirs.iter().map(|dir| dir.join(unit)).find(|path| path.is_file());
    found.ok_or_else(|| Error::NoUnit { unit: unit.to_owned() })
}

/// The unit's drop-ins: of two with one name, the first directory's counts. A unit elsewhere has only those beside it.
fn drop_ins(path: &Path, dirs: &[PathBuf]) -> Vec<PathBuf> {
    let beside = [path.parent().map(Path::to_owned).unwrap_or_default()];
    let dirs = if dirs.contains(&beside[0]) { dirs } else { &beside };
    let mut folder = path.file_name().map(OsString::from).unwrap_or_default();
    folder.push(".d");
    let mut by_name = BTreeMap::new();
    for entry in dirs.iter().flat_map(|dir| fs::read_dir(dir.join(&folder)).into_iter().flatten()).flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "conf") {
            by_name.entry(entry.file_name()).or_insert_with(|| entry.path());
        }
    }
    by_name.into_values().collect()
}

fn contents(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// What unit and drop-ins say of the service; an empty value takes back what was said before.
#[derive(Default)]
struct Service {
    commands: Vec<String>,
    variables: Vec<String>,
    variable_files: Vec<String>,
}

impl Service {
    fn take(&mut self, text: &str) {
        for (key, value) in assignments(text, "Service") {
            let list = match key.as_str() {
                "ExecStart" => &mut self.commands,
                "Environment" => &mut self.variables,
                "EnvironmentFile" => &mut self.variable_files,
                _ => continue,
            };
            if value.is_empty() { list.clear() } else { list.push(value) }
        }
    }

    /// The environment, and the files that were read for it: they go before the unit's own words.
    fn environment(&self, unit: &Path) -> Result<(BTreeMap<String, String>, Vec<PathBuf>), Error> {
        let mut all = BTreeMap::new();
        for text in &self.variables {
            let refused =
                |reason| Error::Unit { path: unit.to_owned(), reason: format!("Environment={text}: {reason}") };
            for word in words(text).map_err(refused)? {
                let word = specified(&word).map_err(refused)?;
                all.extend(word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
        }
        let mut read = Vec::new();
        for text in &self.variable_files {
            let refused =
                |reason| Error::Unit { path: unit.to_owned(), reason: format!("EnvironmentFile={text}: {reason}") };
            let path = PathBuf::from(specified(text.strip_prefix('-').unwrap_or(text)).map_err(refused)?);
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && text.starts_with('-') => continue,
                Err(source) => return Err(Error::Read { path, source }),
                Ok(text) => text,
            };
            for line in logical_lines(&text, "") {
                all.extend(line.split_once('=').map(|(name, value)| (name.trim().to_owned(), unquoted(value))));
            }
            read.push(path);
        }
        Ok((all, read))
    }
}

/// The words of a command; what stands before the program's name is for systemd.
fn command_words(command: &str, environment: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let program = command.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let prefix = &command[..command.len() - program.len()];
    let mut all = Vec::new();
    for word in words(program)? {
        let word = specified(&word)?;
        if prefix.contains(':') { all.push(word) } else { all.extend(expanded(&word, environment)?) }
    }
    // the name that the program is to see as its own
    if prefix.contains('@') && all.len() > 1 {
        all.remove(1);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directories of a systemd, in a folder of one test's own.
    struct Dirs(PathBuf);

    impl Dirs {
        fn new(name: &str) -> Dirs {
            Dirs(std::env::temp_dir().join(format!("dockershim-unit-{name}-{}", std::process::id())))
        }

        fn put(&self, file: &str, text: &str) -> String {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path.display().to_string()
        }

        fn read(&self, unit: &str) -> Result<Command, String> {
            read_in(unit, &["etc", "lib"].map(|dir| self.0.join(dir))).map_err(|error| error.to_string())
        }

        fn words(&self) -> Vec<String> {
            self.read("cri-docker.service").unwrap().words
        }
    }

    impl Drop for Dirs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_drop_in_takes_the_units_command_back() {
        let dirs = Dirs::new("dropin");
        dirs.put("lib/cri-docker.service", "[Unit]\nExecStart=/no\n[Service]\nExecStart=/usr/bin/cri-dockerd fd://\n");
        assert_eq!(dirs.words(), ["/usr/bin/cri-dockerd", "fd://"]);
        dirs.put("lib/cri-docker.service.d/10-cni.conf", "[Service]\nExecStart=\nExecStart=/never\n");
        dirs.put(
            "etc/cri-docker.service.d/10-cni.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/cri-dockerd \\\n  --a \\\n# why\n  --b=c\n",
        );
        dirs.put("etc/cri-docker.service.d/20-note.txt", "[Service]\nExecStart=\n");
        let command = dirs.read("cri-docker.service").unwrap();
        assert_eq!(command.words, ["/usr/bin/cri-dockerd", "--a", "--b=c"]);
        assert_eq!(command.files.len(), 2, "{:?}", command.files);
        dirs.put("etc/cri-docker.service", "[Service]\nExecStart=/masks\n");
        assert_eq!(dirs.read("cri-docker.service").unwrap().files[0], dirs.0.join("etc/cri-docker.service"));
    }

    #[test]
    fn a_unit_elsewhere_has_the_drop_ins_beside_it() {
        let dirs = Dirs::new("elsewhere");
        let path = dirs.put("x/a.service", "[Service]\nExecStart=/a\n");
        dirs.put("x/a.service.d/1.conf", "[Service]\nExecStart=\nExecStart=/b\n");
        dirs.put("etc/a.service.d/1.conf", "[Service]\nExecStart=\nExecStart=/c\n");
        assert_eq!(dirs.read(&path).unwrap().words, ["/b"]);
    }

    #[test]
    fn variables_come_from_the_unit_and_its_files() {
        let dirs = Dirs::new("variables");
        let file = dirs.put("default", "# ours\nARGS=\"--x=1 --y\"\nIMAGE='r/pause:3.9' \nLATE=file\n");
        dirs.put(
            "lib/cri-docker.service",
            &format!(
                "[Service]\nEnvironment=ARGS=no \"LATE=unit word\"\nEnvironmentFile=-/nowhere\nEnvironmentFile={file}\n\
                 ExecStart=@-/bin/cri-dockerd cri --image ${{IMAGE}} $ARGS $NONE --late=${{LATE}} --none=${{NONE}} $$5\n"
            ),
        );
        let expected = ["/bin/cri-dockerd", "--image", "r/pause:3.9", "--x=1", "--y", "--late=file", "--none=", "$5"];
        assert_eq!(dirs.words(), expected);
        dirs.put(
            "lib/cri-docker.service.d/a.conf",
            "[Service]\nEnvironmentFile=\nEnvironment=\nEnvironment=ARGS=--z\n",
        );
        assert_eq!(dirs.words()[3], "--z");
        dirs.put("lib/cri-docker.service.d/b.conf", "[Service]\nExecStart=\nExecStart=:/bin/cri-dockerd $ARGS\n");
        assert_eq!(dirs.words(), ["/bin/cri-dockerd", "$ARGS"]);
    }

    #[test]
    fn what_cannot_be_known_is_told() {
        let dirs = Dirs::new("unknown");
        let unit = |text: &str| {
            dirs.put("lib/cri-docker.service", &format!("[Service]\n{text}\n"));
            dirs.read("cri-docker.service").unwrap_err()
        };
        for (text, told) in [
            ("", "has 0 commands in ExecStart="),
            ("ExecStart=/a\nExecStart=/b", "has 2 commands"),
            ("ExecStart=/a %i", "ExecStart=/a %i: the specifier %i"),
            ("ExecStart=/a 'b", "a quote is not closed"),
            ("ExecStart=/a\nEnvironmentFile=/nowhere", "/nowhere"),
            ("ExecStart=/a\nEnvironment=A=%i", "Environment=A=%i: the specifier"),
        ] {
            let error = unit(text);
            assert!(error.contains(told), "{error}");
        }
        let error = dirs.read("nothing.service").unwrap_err();
        assert!(error.contains("nothing.service") && error.contains("--from"), "{error}");
    }
}
