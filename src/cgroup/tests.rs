//! From a process to the directories of its cgroup, on each layout; and readings of our own process.

use super::fixture::Tree;
use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn legacy_mounts() -> Vec<Mount> {
    parse::mounts(concat!(
        "32 31 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
        "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n",
        "40 31 0:37 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n",
        "41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n",
    ))
}

#[test]
fn on_v1_each_controller_has_its_directory() {
    let text = format!(
        "5:name=systemd:/x\n4:memory:/kubepods/p/{ID}\n3:cpu,cpuacct:/kubepods/p/{ID}\n2:pids:/kubepods/p/{ID}\n"
    );
    let cgroup = Cgroup::of_memberships(&text, &legacy_mounts()).unwrap();
    assert_eq!(cgroup.legacy["memory"], Path::new("/cg/memory/kubepods/p").join(ID));
    assert_eq!(cgroup.legacy["cpuacct"], Path::new("/cg/cpu,cpuacct/kubepods/p").join(ID));
    assert_eq!(cgroup.legacy.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory"]);
    assert_eq!(cgroup.unified, None);
}

#[test]
fn on_v2_one_directory_has_all() {
    let mounts = parse::mounts("41 31 0:38 / /cg rw - cgroup2 cgroup2 rw,nsdelegate\n");
    let text = format!("0::/kubepods.slice/docker-{ID}.scope/init.scope\n");
    let cgroup = Cgroup::of_memberships(&text, &mounts).unwrap();
    assert_eq!(cgroup.unified, Some(format!("/cg/kubepods.slice/docker-{ID}.scope").into()));
    assert!(cgroup.legacy.is_empty());
}

#[test]
fn each_controller_is_read_where_it_is() {
    let legacy = Tree::new(&[("cpuacct.usage", "7\n")]);
    let unified = Tree::new(&[
        ("cpu.stat", "usage_usec 9\n"),
        ("memory.current", "5000\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 1\nfile 5\nfile_mapped 6\ninactive_file 2\npgfault 3\npgmajfault 4\n"),
    ]);
    let (v1, v2) = (legacy.path().to_owned(), unified.path().to_owned());
    let cgroup = Cgroup { legacy: BTreeMap::from([("cpuacct".to_owned(), v1)]), unified: Some(v2) };
    let usage = cgroup.usage().unwrap();
    assert_eq!(usage.cpu_usage_ns, 7);
    assert_eq!(usage.memory.working_set_bytes, 4998);
}

#[test]
fn a_place_on_v2_that_is_not_the_containers_is_not_used() {
    let own = format!("3:cpuacct:/docker/{ID}\n4:memory:/docker/{ID}\n0::/docker/{ID}\n");
    let cgroup = Cgroup::of_memberships(&own, &legacy_mounts()).unwrap();
    assert_eq!(cgroup.unified, Some(format!("/cg/unified/docker/{ID}").into()));
    let engines = format!("3:cpuacct:/docker/{ID}\n4:memory:/docker/{ID}\n0::/system.slice/docker.service\n");
    let cgroup = Cgroup::of_memberships(&engines, &legacy_mounts()).unwrap();
    assert_eq!(cgroup.unified, None);
}

#[test]
fn a_lone_v1_controller_beside_v2_changes_nothing() {
    let mounts =
        parse::mounts("41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n42 31 0:39 / /net rw - cgroup none rw,net_cls\n");
    let text = format!("1:net_cls:/\n0::/docker/{ID}\n");
    let cgroup = Cgroup::of_memberships(&text, &mounts).unwrap();
    assert_eq!(cgroup.unified, Some(format!("/cg/docker/{ID}").into()));
}

#[test]
fn the_parent_of_a_containers_cgroup_is_the_pods_and_other_cgroups_have_none() {
    let text = format!("3:cpuacct:/kubepods/pod1/{ID}\n4:memory:/kubepods/pod1/{ID}/below\n0::/kubepods/pod1/{ID}\n");
    let parent = Cgroup::of_memberships(&text, &legacy_mounts()).unwrap().parent().unwrap();
    assert_eq!(parent.legacy["memory"], Path::new("/cg/memory/kubepods/pod1"));
    assert_eq!(parent.unified, Some("/cg/unified/kubepods/pod1".into()));
    assert_eq!(parent.parent(), None);
}

#[test]
fn processes_of_cgroups_below_are_counted_too() {
    let tree = Tree::new(&[("cgroup.procs", "1\n2\n")]);
    std::fs::create_dir_all(tree.path().join("init.scope/threads")).unwrap();
    std::fs::write(tree.path().join("init.scope/cgroup.procs"), "7\ngarbage\n").unwrap();
    let cgroup = Cgroup { legacy: BTreeMap::new(), unified: Some(tree.path().to_owned()) };
    assert_eq!(cgroup.processes().unwrap(), [1, 2, 7]);
    drop(tree);
    assert!(cgroup.processes().unwrap_err().is_gone());
}

#[test]
fn threads_without_a_limit_may_be_any_number() {
    for (max, told) in [("max\n", Some(0)), ("18446744073709551615\n", Some(0)), ("512\n", Some(512)), ("x\n", None)] {
        let tree = Tree::new(&[("pids.current", "3\n"), ("pids.max", max)]);
        let cgroup = Cgroup { legacy: BTreeMap::new(), unified: Some(tree.path().to_owned()) };
        let detail = cgroup.detail().unwrap();
        assert_eq!((detail.threads, detail.threads_max), (Some(3), told));
    }
}

#[test]
fn a_process_that_is_about_to_end_leads_nowhere() {
    let ending_on_v1 = format!("4:memory:/\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/docker/{ID}\n");
    assert_eq!(Cgroup::of_memberships(&ending_on_v1, &legacy_mounts()), None);
    let reaped_on_v2 = format!("0::/docker/{ID} (deleted)\n");
    assert_eq!(Cgroup::of_memberships(&reaped_on_v2, &legacy_mounts()), None);
    assert!(Cgroup::of_memberships("4:memory:/\n3:cpuacct:/x\n", &legacy_mounts()).is_some());
}

#[test]
fn a_process_that_is_not_there_is_gone() {
    for pid in [0, -1, i32::MAX] {
        let error = Cgroup::of_pid(pid).unwrap_err();
        assert!(error.is_gone(), "{error}");
    }
}

#[test]
fn a_cgroup_that_vanishes_is_gone_and_one_without_a_file_is_not() {
    let tree = Tree::new(&[("cpu.stat", "usage_usec 1\n")]);
    let cgroup = Cgroup { legacy: BTreeMap::new(), unified: Some(tree.path().to_owned()) };
    let error = cgroup.usage().unwrap_err();
    assert!(matches!(&error, Error::Missing { path } if path.ends_with("memory.current")), "{error}");
    drop(tree);
    assert!(cgroup.usage().unwrap_err().is_gone());
}

#[test]
fn a_cgroup_that_no_mount_shows_is_an_error_that_names_the_controller() {
    let cgroup = Cgroup::of_memberships("4:memory:/x\n3:cpuacct:/x\n", &[]).unwrap();
    assert_eq!(cgroup.usage().unwrap_err().to_string(), "cgroup controller cpuacct is not mounted here");
}

/// On whatever layout the machine has; where our own process is in the roots of v1, there is nothing to be read.
#[test]
fn our_own_process_uses_memory_and_time() {
    let pid = i32::try_from(std::process::id()).unwrap();
    let usage = match Cgroup::of_pid(pid) {
        Ok(cgroup) => cgroup.usage(),
        Err(error) => return assert!(error.is_gone(), "{error}"),
    };
    match usage {
        Ok(usage) => {
            assert!(usage.cpu_usage_ns > 0);
            assert!(usage.memory.usage_bytes >= usage.memory.working_set_bytes && usage.memory.rss_bytes > 0);
        }
        // the root of v2, where a process may be on a machine without systemd, has no memory files
        Err(error) => assert!(matches!(error, Error::Missing { .. }), "{error}"),
    }
}
