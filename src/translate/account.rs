//! Users and groups of an image, out of its `/etc/passwd` and `/etc/group`: what must be known to keep a policy of supplementary
//! groups that Docker itself doesn't keep. Pure; the files' contents are hostile.
//!
//! Docker gives a process its user's groups of `/etc/group` when it is told a user alone (`1000`, `www`, none), and leaves them
//! out when it is told user and group (`1000:1000`), whoever says so, request or image:
//!
//! ```text
//!            user alone                        user and group
//!   Merge    Docker does it                    the user's groups are looked up and added
//!   Strict   its own group is looked up        Docker does it
//!            and said beside the user
//! ```

use std::collections::BTreeSet;

use crate::cri;
use crate::error::{Error, Result};

/// Users and groups, as far as they say who is in which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<User>,
    /// Group, and the user in it: one for each pair.
    members: Vec<(u32, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl Accounts {
    /// Reads what lines can be understood, as Docker does; empty contents stand for files that aren't there.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let (passwd, group) = (String::from_utf8_lossy(passwd), String::from_utf8_lossy(group));
        let user = |line: &str| {
            let mut fields = line.trim().split(':');
            let (name, _password) = (fields.next()?.to_owned(), fields.next()?);
            Some(User { name, uid: id(fields.next()?)?, gid: id(fields.next()?)? })
        };
        let group_of = |line: &str| {
            let mut fields = line.trim().split(':').skip(2);
            let gid = id(fields.next()?)?;
            let users = fields.next()?.split(',').filter(|user| !user.is_empty());
            Some(users.map(|user| (gid, user.to_owned())).collect::<Vec<_>>())
        };
        Accounts {
            users: passwd.lines().filter_map(user).collect(),
            members: group.lines().filter_map(group_of).flatten().collect(),
        }
    }

    /// The entry that Docker takes for a user: a number is an id, none is root; the first entry counts.
    fn user(&self, text: &str) -> Option<&User> {
        match if text.is_empty() { Some(0) } else { id(text) } {
            Some(uid) => self.users.iter().find(|user| user.uid == uid),
            None => self.users.iter().find(|user| user.name == text),
        }
    }

    /// The group of its own; the root group for a number that no entry has, as for Docker.
    fn own_group(&self, user: &str) -> u32 {
        self.user(user).map_or(0, |user| user.gid)
    }

    /// The groups that list a user.
    fn groups(&self, user: &str) -> BTreeSet<u32> {
        let Some(User { name, .. }) = self.user(user) else { return BTreeSet::new() };
        self.members.iter().filter(|(_, member)| member == name).map(|(gid, _)| *gid).collect()
    }
}

/// As large as Docker takes an id.
fn id(text: &str) -> Option<u32> {
    text.parse::<i32>().ok().and_then(|id| u32::try_from(id).ok())
}

/// A request's policy; `at` is the security context's path.
pub(super) fn policy(at: &str, policy: i32) -> Result<cri::SupplementalGroupsPolicy> {
    let unknown = |_| Error::invalid(format!("{at}.supplemental_groups_policy"), format!("{policy} is unknown"));
    cri::SupplementalGroupsPolicy::try_from(policy).map_err(unknown)
}

/// Whether the policy can only be kept by who knows the image's accounts; `user` is what Docker would be told, or finds in the
/// image.
pub(super) fn must_be_known(policy: cri::SupplementalGroupsPolicy, user: &str) -> bool {
    user.contains(':') == (policy == cri::SupplementalGroupsPolicy::Merge)
}

/// Docker's `User` and `GroupAdd` with which the policy holds; both are left as they are where Docker keeps it by itself.
pub(super) fn keep(
    policy: cri::SupplementalGroupsPolicy,
    user: &str,
    mut groups: Vec<String>,
    accounts: &Accounts,
) -> (String, Vec<String>) {
    match (policy, user.split_once(':')) {
        (cri::SupplementalGroupsPolicy::Merge, Some((name, _))) => {
            for group in accounts.groups(name).iter().map(u32::to_string) {
                if !groups.contains(&group) {
                    groups.push(group);
                }
            }
            (user.to_owned(), groups)
        }
        (cri::SupplementalGroupsPolicy::Strict, None) => {
            let name = if user.is_empty() { "0" } else { user };
            (format!("{name}:{}", accounts.own_group(user)), groups)
        }
        _ => (user.to_owned(), groups),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# note\nwww:x:33:34::/:\n\nagain:x:33:99::/:\nbad:x:-1:0::/:\nshort:x:7";
    const GROUP: &[u8] =
        b"root:x:0:\nadm:x:4:syslog,www\nwww:x:34:\nvideo:x:44:www,root\nhuge:x:4294967296:www\nnone:x:9\n\xff:x:5:root";
    const MERGE: cri::SupplementalGroupsPolicy = cri::SupplementalGroupsPolicy::Merge;
    const STRICT: cri::SupplementalGroupsPolicy = cri::SupplementalGroupsPolicy::Strict;

    fn kept(policy: cri::SupplementalGroupsPolicy, user: &str) -> (String, Vec<String>) {
        keep(policy, user, vec!["44".to_owned()], &Accounts::parse(PASSWD, GROUP))
    }

    #[test]
    fn merge_adds_the_users_groups_where_docker_leaves_them_out() {
        for (user, groups) in [
            ("33:1", &["44", "4"][..]),
            ("www:1", &["44", "4"]),
            ("0:0", &["44", "5"]),
            ("1234:1", &["44"]),
            ("nobody:1", &["44"]),
            ("33", &["44"]),
        ] {
            assert_eq!(kept(MERGE, user), (user.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect()));
        }
    }

    #[test]
    fn strict_says_the_users_own_group() {
        for (user, said) in [("33", "33:34"), ("www", "www:34"), ("", "0:0"), ("1234", "1234:0"), ("33:1", "33:1")] {
            assert_eq!(kept(STRICT, user), (said.to_owned(), vec!["44".to_owned()]));
        }
    }

    #[test]
    fn accounts_are_looked_up_only_where_docker_does_the_other_thing() {
        assert!(must_be_known(MERGE, "1:1") && must_be_known(STRICT, "1") && must_be_known(STRICT, ""));
        assert!(!must_be_known(MERGE, "") && !must_be_known(MERGE, "www") && !must_be_known(STRICT, "1:1"));
        assert!(policy("ctx", 2).unwrap_err().to_string().starts_with("ctx.supplemental_groups_policy: "));
    }

    proptest! {
        #[test]
        fn any_files_are_read(passwd: Vec<u8>, group: Vec<u8>, user in "[a-z0-9:]{0,4}") {
            let accounts = Accounts::parse(&passwd, &group);
            for policy in [MERGE, STRICT] {
                let (kept, _) = keep(policy, &user, Vec::new(), &accounts);
                prop_assert!(!must_be_known(STRICT, &kept) || policy == MERGE);
            }
        }
    }
}
