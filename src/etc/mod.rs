//! What a pod's containers find in `/etc`, for pods in whose network the Engine has no part: resolv.conf, hosts and hostname, one
//! directory for each sandbox below our state directory.
//!
//! A sandbox's files come into being together (written beside, then renamed), and are never written again: containers have bound
//! them by then, and what a container writes into them is the pod's. Must not know what they say: that is the translation's.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fsetxattr};
use rustix::io::Errno;

/// Names of the files, here and in `/etc`.
pub const FILES: [&str; 3] = ["resolv.conf", "hosts", "hostname"];

/// Whatever user a container runs as, it can read them; nobody can list them.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o711;
/// Where the node's own name servers are told.
const NODE_RESOLV_CONF: &str = "/etc/resolv.conf";
const SELINUX_ATTRIBUTE: &str = "security.selinux";
/// Begins the name of a directory that is not whole yet.
const UNFINISHED: char = '.';

/// Why files can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory of all sandboxes can't be made or cleaned.
    #[error("can't open the directory of the pods' files {}: {source}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The directory can't be named to the Engine.
    #[error("the directory of the pods' files {} is not UTF-8; choose another --root-directory", dir.display())]
    NotText {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory of all sandboxes can't be listed.
    #[error("can't list the pods' files in {}: {source}", dir.display())]
    List {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The node's name servers can't be read.
    #[error("can't read the node's {NODE_RESOLV_CONF}, which a pod without dns_config gets: {source}")]
    NodeResolvConf {
        /// The system's words.
        source: io::Error,
    },
    /// A sandbox's files can't be written.
    #[error("can't write the pod's files {}: {source}", dir.display())]
    Write {
        /// The sandbox's directory.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A sandbox's files can't be removed.
    #[error("can't remove the pod's files {}: {source}", dir.display())]
    Remove {
        /// The sandbox's directory.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// What a sandbox's files are to hold.
#[derive(Clone, Debug)]
pub struct Content {
    /// Exactly; None for what the node's own holds.
    pub resolv_conf: Option<String>,
    /// Exactly.
    pub hosts: String,
    /// Exactly.
    pub hostname: String,
    /// SELinux label of the files; empty for none.
    pub label: String,
}

/// The files of all sandboxes. Blocking calls, of few and small files.
#[derive(Clone, Debug)]
pub struct Etc {
    dir: PathBuf,
}

impl Etc {
    /// Opens the directory, made when it isn't there; what an interrupted write left is removed.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { dir: dir.to_owned(), source };
        make_dir(dir, true).map_err(failed)?;
        // the Engine takes absolute paths alone
        let dir = dir.canonicalize().map_err(failed)?;
        if dir.to_str().is_none() {
            return Err(Error::NotText { dir });
        }
        let etc = Etc { dir };
        for name in etc.entries()?.into_iter().filter(|name| name.starts_with(UNFINISHED)) {
            fs::remove_dir_all(etc.dir.join(name)).map_err(failed)?;
        }
        Ok(etc)
    }

    /// The directory of a sandbox's files.
    pub fn of(&self, sandbox: &str) -> PathBuf {
        self.dir.join(sandbox)
    }

    /// Writes a sandbox's files, unless they are there. The caller sees to it that one does so at a time.
    pub fn keep(&self, sandbox: &str, content: &Content) -> Result<(), Error> {
        let dir = self.of(sandbox);
        if dir.is_dir() {
            return Ok(());
        }
        let resolv_conf = match &content.resolv_conf {
            Some(asked) => asked.clone().into_bytes(),
            None => node_resolv_conf(Path::new(NODE_RESOLV_CONF))?,
        };
        let texts = [resolv_conf.as_slice(), content.hosts.as_bytes(), content.hostname.as_bytes()];
        let beside = self.dir.join(format!("{UNFINISHED}{sandbox}"));
        let written = write_all(&beside, texts, &content.label).and_then(|()| fs::rename(&beside, &dir));
        written.map_err(|source| {
            // the failure is told; a leftover goes with the next opening
            let _ = fs::remove_dir_all(&beside);
            Error::Write { dir, source }
        })
    }

    /// Removes a sandbox's files; what is no sandbox's id, or has none, has none.
    pub fn remove(&self, sandbox: &str) -> Result<(), Error> {
        if !is_id(sandbox) {
            return Ok(());
        }
        let dir = self.of(sandbox);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Remove { dir, source }),
            _ => Ok(()),
        }
    }

    /// The sandboxes that have files.
    pub fn sandboxes(&self) -> Result<Vec<String>, Error> {
        Ok(self.entries()?.into_iter().filter(|name| is_id(name)).collect())
    }

    fn entries(&self) -> Result<Vec<String>, Error> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                names.extend(entry?.file_name().into_string());
            }
            Ok(names)
        };
        list().map_err(|source| Error::List { dir: self.dir.clone(), source })
    }
}

/// Docker's ids, which sandboxes have.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A node without the file has no name servers to hand on.
fn node_resolv_conf(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| Error::NodeResolvConf { source }),
    }
}

fn write_all(dir: &Path, texts: [&[u8]; 3], label: &str) -> io::Result<()> {
    make_dir(dir, false)?;
    for (name, text) in FILES.iter().zip(texts) {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(dir.join(name))?;
        // whatever the umask is
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        if !label.is_empty() {
            set_label(&file, label)?;
        }
        file.write_all(text)?;
    }
    Ok(())
}

fn make_dir(dir: &Path, with_parents: bool) -> io::Result<()> {
    DirBuilder::new().recursive(with_parents).mode(DIR_MODE).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))
}

/// A file system without labels has one for all its files, chosen where it was mounted.
fn set_label(file: &File, label: &str) -> io::Result<()> {
    match fsetxattr(file, SELINUX_ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5a4d";

    /// A directory of a test's own, removed with it.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let dir = std::env::temp_dir().join(format!("dockershim-etc-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Place(dir)
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.0.join(ID).join(file)).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn content() -> Content {
        Content {
            resolv_conf: Some("nameserver 10.0.0.1\n".into()),
            hosts: "127.0.0.1\tlocalhost\n".into(),
            hostname: "web\n".into(),
            label: String::new(),
        }
    }

    #[test]
    fn files_are_written_once_and_can_be_read_by_everybody() {
        let place = Place::new("once");
        let etc = Etc::open(&place.0).unwrap();
        etc.keep(ID, &content()).unwrap();
        assert_eq!((place.read("resolv.conf"), place.read("hosts")), (content().resolv_conf.unwrap(), content().hosts));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&place.0), mode(&etc.of(ID))), (0o711, 0o711));
        for file in FILES {
            assert_eq!(mode(&etc.of(ID).join(file)), 0o644, "{file}");
        }
        fs::write(etc.of(ID).join("hosts"), "the pod's").unwrap();
        etc.keep(ID, &content()).unwrap();
        assert_eq!(place.read("hosts"), "the pod's");
    }

    #[test]
    fn without_a_wish_the_nodes_own_name_servers_are_handed_on() {
        let place = Place::new("node");
        Etc::open(&place.0).unwrap().keep(ID, &Content { resolv_conf: None, ..content() }).unwrap();
        assert_eq!(place.read("resolv.conf"), fs::read_to_string(NODE_RESOLV_CONF).unwrap_or_default());
        assert_eq!(node_resolv_conf(&place.0.join("missing")).unwrap(), b"");
        assert!(node_resolv_conf(&place.0).is_err(), "a directory");
    }

    #[test]
    fn what_an_interrupted_write_left_goes_and_what_is_whole_stays() {
        let place = Place::new("interrupted");
        let etc = Etc::open(&place.0).unwrap();
        etc.keep(ID, &content()).unwrap();
        let half = place.0.join(format!(".{ID}.0"));
        fs::create_dir(&half).unwrap();
        fs::write(half.join("hosts"), "half").unwrap();
        let etc = Etc::open(&place.0).unwrap();
        assert!(!half.exists());
        assert_eq!(etc.sandboxes().unwrap(), [ID]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let place = Place::new("failed");
        let etc = Etc::open(&place.0).unwrap();
        // in the way of the rename
        fs::write(etc.of(ID), "").unwrap();
        let error = etc.keep(ID, &content()).unwrap_err().to_string();
        assert!(error.contains(ID), "{error}");
        assert_eq!(fs::read_dir(&place.0).unwrap().count(), 1);
    }

    #[test]
    fn only_a_sandboxes_files_are_removed() {
        let place = Place::new("removed");
        let etc = Etc::open(&place.0).unwrap();
        etc.keep(ID, &content()).unwrap();
        for no_id in ["", ".", "..", "../x", "5a4d/.."] {
            etc.remove(no_id).unwrap();
        }
        assert_eq!(etc.sandboxes().unwrap(), [ID]);
        etc.remove(ID).unwrap();
        etc.remove(ID).unwrap();
        assert!(etc.sandboxes().unwrap().is_empty());
    }

    #[test]
    fn files_have_the_pods_label_where_the_file_system_keeps_labels() {
        let place = Place::new("label");
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let etc = Etc::open(&place.0).unwrap();
        // only root may set labels
        let Ok(()) = etc.keep(ID, &Content { label: label.into(), ..content() }) else {
            assert!(!rustix::process::geteuid().is_root());
            return;
        };
        let mut found = [0; 64];
        match rustix::fs::getxattr(etc.of(ID).join("hosts"), SELINUX_ATTRIBUTE, &mut found) {
            Ok(length) => assert_eq!(&found[..length], label.as_bytes()),
            Err(error) => assert_eq!(error, Errno::NOTSUP),
        }
    }
}
