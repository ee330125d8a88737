//! Wishes: what Docker's API can't say, as cgroup v2 file names and values, written into a running container's cgroup.
//!
//! The kernel rounds values and runtimes write some of the files again: what holds is read back, and what has drifted is written
//! again.
//!
//! The kubelet sends some of them with practically every container (`memory.swap.max`, `memory.oom.group`, a zero for each
//! size of huge pages), so that a kernel without those files must not keep pods from starting.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::same::is_same;
use super::{Cgroup, Error, Place};

impl Cgroup {
    /// Writes each wish, in the order of their names, up to the first that fails. A container that has ended has no wishes left.
    ///
    /// A limit of huge pages limits reservations too, as OCI runtimes do it: else a container that is over its limit doesn't
    /// fail to map memory, but dies when it touches it.
    pub fn write(&self, wishes: &BTreeMap<String, String>) -> Result<(), Error> {
        wishes.keys().try_for_each(|name| check(name))?;
        for (name, value) in wishes {
            let mut written = self.write_one(name, value);
            if let (Ok(()), Some(reserved)) = (&written, reservations(name)) {
                written = self.write_one(&reserved, value).or_else(Error::unless_missing);
            }
            match written {
                Err(error) if error.is_gone() => return Ok(()),
                Err(error) if error.is_lacking() && is_dispensable(name, value) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// The first wish that the kernel has no file for, with what is wrong; those that come with every container are passed over.
    pub fn lacking<'a>(&self, wishes: &'a BTreeMap<String, String>) -> Option<(&'a str, Error)> {
        let lacks = |(name, value): (&'a String, &'a String)| {
            let found = check(name).and_then(|()| self.read_one(name));
            let error = found.err().filter(|error| matches!(error, Error::Name { .. }) || error.is_lacking())?;
            (!is_dispensable(name, value)).then_some((name.as_str(), error))
        };
        wishes.iter().find_map(lacks)
    }

    /// What the wishes' files hold now; those that aren't there are left out.
    pub fn read_back(&self, wishes: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let held = |name: &String| Some((name.clone(), self.read_one(name).ok()?));
        wishes.keys().filter_map(held).collect()
    }

    /// Writes again what no longer holds, and tells whether there was any.
    pub fn hold(&self, wishes: &BTreeMap<String, String>) -> Result<bool, Error> {
        let held = self.read_back(wishes);
        let drifted =
            |(name, value): &(&String, &String)| held.get(*name).is_some_and(|held| !is_same(name, held, value));
        let drifted: BTreeMap<String, String> =
            wishes.iter().filter(drifted).map(|(name, value)| (name.clone(), value.clone())).collect();
        self.write(&drifted)?;
        Ok(!drifted.is_empty())
    }

    fn write_one(&self, name: &str, value: &str) -> Result<(), Error> {
        match self.file(name)? {
            File::V2(path) => put(path, value),
            File::V1(path) => put(path, if value == "max" { "-1" } else { value }),
        }
    }

    fn read_one(&self, name: &str) -> Result<String, Error> {
        let (File::V2(path) | File::V1(path)) = self.file(name)?;
        let text = std::fs::read_to_string(&path).map_err(|source| Error::reading(&path, source))?;
        Ok(text.trim().to_owned())
    }

    fn file(&self, name: &str) -> Result<File, Error> {
        match self.place(name.split('.').next().unwrap_or_default())? {
            Place::V2(directory) => Ok(File::V2(directory.join(name))),
            Place::V1(directory) => {
                let file = legacy_name(name).ok_or_else(|| Error::OnlyV2 { name: name.to_owned() })?;
                Ok(File::V1(directory.join(file)))
            }
        }
    }
}

/// The file of a wish.
enum File {
    V1(PathBuf),
    V2(PathBuf),
}

impl Error {
    /// Whether the node has no such file at all.
    fn is_lacking(&self) -> bool {
        matches!(self, Error::Missing { .. } | Error::Unmounted { .. } | Error::OnlyV2 { .. })
    }

    /// Forgives the absence of a file that not every kernel has.
    fn unless_missing(self) -> Result<(), Self> {
        if matches!(self, Error::Missing { .. }) { Ok(()) } else { Err(self) }
    }
}

/// Whether it is a file's bare name, `controller.file`: nothing that leads out of the cgroup's directory.
fn check(name: &str) -> Result<(), Error> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = name.chars().all(is_allowed) && !name.starts_with('.') && name.contains('.');
    // the files of the cgroup itself would move processes or kill them
    let is_name = is_name && !name.starts_with("cgroup.");
    if is_name { Ok(()) } else { Err(Error::Name { name: name.to_owned() }) }
}

/// Whether containers start on a node without this file all the same: the kubelet asks it for all of them, whatever the
/// kernel can do.
fn is_dispensable(name: &str, value: &str) -> bool {
    match name {
        "memory.swap.max" | "memory.oom.group" => true,
        _ => name.starts_with("hugetlb.") && matches!(value, "0" | "max"),
    }
}

/// What v1 calls the file of a wish, if there can be one there: huge pages have the same limits in both versions.
fn legacy_name(name: &str) -> Option<String> {
    let huge = name.strip_prefix("hugetlb.")?;
    let limit = huge.strip_suffix(".max").or_else(|| huge.strip_suffix(".limit_in_bytes"))?;
    Some(format!("hugetlb.{limit}.limit_in_bytes"))
}

/// The limit of reservations beside a limit of huge pages (kernel 5.7).
fn reservations(name: &str) -> Option<String> {
    let size = name.strip_prefix("hugetlb.")?.strip_suffix(".max")?;
    (!size.contains('.')).then(|| format!("hugetlb.{size}.rsvd.max"))
}

/// One write call, as these files want it; never creates the file.
fn put(path: PathBuf, value: &str) -> Result<(), Error> {
    let written =
        OpenOptions::new().write(true).truncate(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| writing(&path, value, source))
}

fn writing(path: &Path, value: &str, source: std::io::Error) -> Error {
    let (owned, value) = (path.to_owned(), value.to_owned());
    Error::vanished(path, &source).unwrap_or(Error::Write { path: owned, value, source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cgroup::fixture::Tree;

    fn wishes(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn v2(tree: &Tree) -> Cgroup {
        Cgroup { legacy: BTreeMap::new(), unified: Some(tree.path().to_owned()) }
    }

    fn v1(controller: &str, tree: &Tree) -> Cgroup {
        Cgroup { legacy: BTreeMap::from([(controller.to_owned(), tree.path().to_owned())]), unified: None }
    }

    #[test]
    fn each_wish_goes_to_its_file() {
        let tree = Tree::new(&[("memory.oom.group", "0\n"), ("memory.swap.max", "max\n"), ("memory.high", "max\n")]);
        let asked = [("memory.oom.group", "1"), ("memory.swap.max", "0"), ("memory.high", "1048576")];
        v2(&tree).write(&wishes(&asked)).unwrap();
        for (name, value) in asked {
            assert_eq!(tree.content(name).as_deref(), Some(value));
        }
    }

    #[test]
    fn what_comes_with_every_container_is_passed_over_on_a_kernel_without_it() {
        let tree = Tree::new(&[]);
        let asked =
            [("hugetlb.1GB.max", "0"), ("hugetlb.2MB.max", "max"), ("memory.oom.group", "1"), ("memory.swap.max", "0")];
        v2(&tree).write(&wishes(&asked)).unwrap();
        assert_eq!(tree.content("memory.oom.group"), None, "no file is made");
        let nowhere = Cgroup { legacy: BTreeMap::new(), unified: None };
        nowhere.write(&wishes(&asked)).unwrap();
    }

    #[test]
    fn any_other_wish_that_cannot_be_had_is_refused_by_name() {
        let tree = Tree::new(&[]);
        for (name, value) in [("memory.high", "1"), ("hugetlb.2MB.max", "2097152"), ("io.weight", "100")] {
            let error = v2(&tree).write(&wishes(&[(name, value)])).unwrap_err();
            assert!(matches!(error, Error::Missing { .. }) && error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_limit_of_huge_pages_limits_reservations_too_unless_they_have_a_wish_of_their_own() {
        let files = [("hugetlb.2MB.max", "max"), ("hugetlb.2MB.rsvd.max", "max"), ("hugetlb.1GB.max", "max")];
        let tree = Tree::new(&files);
        v2(&tree).write(&wishes(&[("hugetlb.1GB.max", "0"), ("hugetlb.2MB.max", "4194304")])).unwrap();
        assert_eq!(tree.content("hugetlb.2MB.max").as_deref(), Some("4194304"));
        assert_eq!(tree.content("hugetlb.2MB.rsvd.max").as_deref(), Some("4194304"));
        assert_eq!(tree.content("hugetlb.1GB.rsvd.max"), None);
        v2(&tree).write(&wishes(&[("hugetlb.2MB.max", "0"), ("hugetlb.2MB.rsvd.max", "7")])).unwrap();
        assert_eq!(tree.content("hugetlb.2MB.rsvd.max").as_deref(), Some("7"));
    }

    #[test]
    fn on_v1_huge_pages_have_another_file_and_nothing_else_can_be_wished_for() {
        let tree = Tree::new(&[("hugetlb.2MB.limit_in_bytes", "x"), ("memory.high", "x")]);
        let huge = v1("hugetlb", &tree);
        for (name, value) in [("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.limit_in_bytes", "2097152")] {
            huge.write(&wishes(&[(name, value)])).unwrap();
            assert_eq!(tree.content("hugetlb.2MB.limit_in_bytes").as_deref(), Some(value));
        }
        huge.write(&wishes(&[("hugetlb.2MB.max", "max")])).unwrap();
        assert_eq!(tree.content("hugetlb.2MB.limit_in_bytes").as_deref(), Some("-1"));
        huge.write(&wishes(&[("hugetlb.1GB.max", "0")])).unwrap();

        v1("memory", &tree).write(&wishes(&[("memory.oom.group", "1"), ("memory.swap.max", "0")])).unwrap();
        let error = v1("memory", &tree).write(&wishes(&[("memory.high", "1")])).unwrap_err();
        assert_eq!(error.to_string(), "memory.high needs cgroup v2, and this node has the controller on v1");
        let error = v1("memory", &tree).write(&wishes(&[("hugetlb.2MB.max", "4194304")])).unwrap_err();
        assert_eq!(error.to_string(), "cgroup controller hugetlb is not mounted here");
    }

    #[test]
    fn what_the_kernel_has_no_file_for_is_found_before_anything_is_written() {
        let tree = Tree::new(&[("memory.high", "max\n")]);
        let all =
            wishes(&[("hugetlb.1GB.max", "0"), ("memory.high", "1"), ("memory.nigh", "1"), ("memory.oom.group", "1")]);
        let (name, error) = v2(&tree).lacking(&all).unwrap();
        assert_eq!(name, "memory.nigh");
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        assert!(v2(&tree).lacking(&wishes(&[("memory.high", "1")])).is_none());
        for bad in ["../x.y", "cgroup.procs"] {
            let asked = wishes(&[(bad, "1")]);
            assert!(matches!(v2(&tree).lacking(&asked), Some((_, Error::Name { .. }))), "{bad}");
        }
    }

    #[test]
    fn only_what_has_drifted_is_written_again() {
        let tree = Tree::new(&[("memory.high", "8192\n"), ("memory.low", "0\n"), ("memory.oom.group", "1\n")]);
        let all =
            wishes(&[("memory.high", "8200"), ("memory.low", "4096"), ("memory.oom.group", "1"), ("a.gone", "1")]);
        assert!(v2(&tree).hold(&all).unwrap());
        assert_eq!(tree.content("memory.high").as_deref(), Some("8192\n"), "a whole number of pages is what holds");
        assert_eq!(tree.content("memory.low").as_deref(), Some("4096"));
        assert_eq!(tree.content("memory.oom.group").as_deref(), Some("1\n"));
        assert!(!v2(&tree).hold(&all).unwrap());
        let held = [("memory.high", "8192"), ("memory.low", "4096"), ("memory.oom.group", "1")];
        assert_eq!(v2(&tree).read_back(&all), wishes(&held));
        let is_same_limit = |held, written| is_same("memory.max", held, written);
        assert!(
            is_same_limit("9223372036854771712", "max") && is_same_limit("max", "max") && !is_same_limit("max", "1")
        );
        assert!(!is_same("memory.oom.group", "0", "1") && !is_same("pids.max", "4096", "5000"));
    }

    #[test]
    fn a_container_that_has_ended_is_a_success() {
        let gone = Cgroup { legacy: BTreeMap::new(), unified: Some("/nonexistent/cgroup".into()) };
        gone.write(&wishes(&[("memory.high", "1"), ("memory.oom.group", "1")])).unwrap();
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused_before_anything_is_written() {
        let tree = Tree::new(&[("a.first", "old")]);
        for name in ["", ".", "..", ".hidden", "memory", "../memory.max", "a/memory.max", "memory.max\0", "memory.m\nx"]
        {
            let error = v2(&tree).write(&wishes(&[("a.first", "new"), (name, "1")])).unwrap_err();
            assert!(matches!(&error, Error::Name { name: told } if told == name), "{error}");
        }
        assert_eq!(tree.content("a.first").as_deref(), Some("old"));
    }

    #[test]
    fn the_kernels_refusal_names_file_and_value() {
        let tree = Tree::new(&[]);
        std::fs::create_dir(tree.path().join("memory.high")).unwrap();
        let error = v2(&tree).write(&wishes(&[("memory.high", "abc")])).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        assert!(error.to_string().contains("\"abc\"") && error.to_string().contains("/memory.high"), "{error}");
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_directory(name in "(?s)[a./\\PC]{0,12}") {
            if check(&name).is_ok() {
                let path = Path::new("/cgroup").join(&name);
                prop_assert_eq!(path.parent(), Some(Path::new("/cgroup")));
                prop_assert_eq!(path.file_name().and_then(|file| file.to_str()), Some(name.as_str()));
            }
        }
    }
}
