//! Who a process is and what it may do: CRI's security contexts into Docker's fields and `SecurityOpt` texts. Pure; the content
//! of a seccomp file comes in as an argument.

use super::node::Node;
use crate::cri::{self, security_profile::ProfileType};
use crate::engine::feature::Feature;
use crate::error::{Error, Result};

/// Largest id that Docker takes.
const MAX_ID: i64 = i32::MAX as i64;
const UNCONFINED: &str = "seccomp=unconfined";

/// Docker's `User`: `uid`, `uid:gid`, `name`, `name:gid`; None for the image's.
pub(super) fn user(
    at: &str,
    user: Option<&cri::Int64Value>,
    group: Option<&cri::Int64Value>,
    username: &str,
) -> Result<Option<String>> {
    let user = match user {
        Some(_) if !username.is_empty() => {
            return Err(Error::invalid(format!("{at}.run_as_username"), "and run_as_user are both set"));
        }
        Some(cri::Int64Value { value }) => id(&format!("{at}.run_as_user"), *value)?,
        None if username.contains([':', '\0', '\n']) => {
            return Err(Error::invalid(format!("{at}.run_as_username"), format!("{username:?} is not a name")));
        }
        None => username.to_owned(),
    };
    match group {
        None => Ok((!user.is_empty()).then_some(user)),
        Some(_) if user.is_empty() => Err(Error::invalid(format!("{at}.run_as_group"), "needs a user beside it")),
        Some(cri::Int64Value { value }) => Ok(Some(format!("{user}:{}", id(&format!("{at}.run_as_group"), *value)?))),
    }
}

/// Docker's `GroupAdd`.
pub(super) fn groups(at: &str, groups: &[i64]) -> Result<Vec<String>> {
    groups.iter().enumerate().map(|(index, group)| id(&format!("{at}.supplemental_groups[{index}]"), *group)).collect()
}

fn id(at: &str, id: i64) -> Result<String> {
    if (0..=MAX_ID).contains(&id) {
        return Ok(id.to_string());
    }
    Err(Error::invalid(at, format!("{id} is not within 0 and {MAX_ID}")))
}

/// Docker's `CapAdd` and `CapDrop`.
pub(super) fn capabilities(at: &str, capabilities: Option<&cri::Capability>) -> Result<(Vec<String>, Vec<String>)> {
    let none = cri::Capability::default();
    let cri::Capability { add_capabilities, drop_capabilities, add_ambient_capabilities } =
        capabilities.unwrap_or(&none);
    if !add_ambient_capabilities.is_empty() {
        let field = format!("{at}.capabilities.add_ambient_capabilities");
        return Err(Error::Unimplemented(format!("{field}: Docker can't set ambient capabilities")));
    }
    Ok((add_capabilities.clone(), drop_capabilities.clone()))
}

/// The file whose content a localhost seccomp profile is; None when there is none to read.
pub fn seccomp_file<'a>(seccomp: Option<&'a cri::SecurityProfile>, deprecated: &'a str) -> Option<&'a str> {
    match seccomp {
        Some(profile) if profile.profile_type() == ProfileType::Localhost => Some(&profile.localhost_ref),
        Some(_) => None,
        None => deprecated.strip_prefix("localhost/"),
    }
}

/// What a request says on seccomp.
pub(super) struct Seccomp<'a> {
    pub(super) profile: Option<&'a cri::SecurityProfile>,
    /// `seccomp_profile_path`, read when there is no profile.
    pub(super) deprecated: &'a str,
    /// Of the file that [`seccomp_file`] names.
    pub(super) content: Option<&'a str>,
    pub(super) privileged: bool,
}

/// Docker's `seccomp=…`; None leaves the Engine's default profile. No profile means unconfined, and so does privileged.
pub(super) fn seccomp(at: &str, asked: &Seccomp<'_>, node: &Node) -> Result<Option<String>> {
    let kind = profile_type(&format!("{at}.seccomp"), asked.profile)?;
    let kind = match (kind, asked.deprecated) {
        _ if asked.privileged => ProfileType::Unconfined,
        (Some(kind), _) => kind,
        (None, "" | "unconfined") => ProfileType::Unconfined,
        (None, "runtime/default" | "docker/default") => ProfileType::RuntimeDefault,
        (None, other) if other.starts_with("localhost/") => ProfileType::Localhost,
        (None, other) => {
            return Err(Error::invalid(format!("{at}.seccomp_profile_path"), format!("{other:?} is not a profile")));
        }
    };
    match kind {
        ProfileType::Unconfined => Ok(Some(UNCONFINED.to_owned())),
        // told in so many words, so that a default of the daemon's own doesn't apply
        ProfileType::RuntimeDefault if node.seccomp && node.api.has(Feature::SeccompBuiltin) => {
            Ok(Some("seccomp=builtin".to_owned()))
        }
        ProfileType::RuntimeDefault => Ok(None),
        ProfileType::Localhost if !node.seccomp => {
            Err(Error::FailedPrecondition(format!("{at}.seccomp: the engine has no seccomp on this node")))
        }
        ProfileType::Localhost => match asked.content {
            Some(content) => Ok(Some(format!("seccomp={content}"))),
            None => Err(Error::invalid(format!("{at}.seccomp.localhost_ref"), "names no file")),
        },
    }
}

/// The AppArmor profile that a container is to run under by name; None for the default or none. Some clients write `localhost/`
/// before the name in either field.
pub fn apparmor_name<'a>(profile: Option<&'a cri::SecurityProfile>, deprecated: &'a str) -> Option<&'a str> {
    let bare = |text: &'a str| text.strip_prefix("localhost/");
    match profile {
        Some(profile) if profile.profile_type() == ProfileType::Localhost => {
            Some(bare(&profile.localhost_ref).unwrap_or(&profile.localhost_ref))
        }
        Some(_) => None,
        None => bare(deprecated),
    }
}

/// Whether the kernel's list of profiles (`name (mode)`, one a line) has one.
pub fn is_loaded(profiles: &str, name: &str) -> bool {
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(known, _mode)| known == name))
}

/// A seccomp profile as it is sent to the Engine: JSON with an action for what no rule names. What the rules say is the
/// Engine's to judge.
pub fn seccomp_profile(content: &str) -> std::result::Result<String, String> {
    let profile: serde_json::Value = serde_json::from_str(content).map_err(|error| format!("is not JSON: {error}"))?;
    match profile.get("defaultAction").and_then(serde_json::Value::as_str) {
        Some(action) if action.starts_with("SCMP_ACT_") => Ok(profile.to_string()),
        Some(action) => Err(format!("is no seccomp profile: its defaultAction is {action:?}")),
        None => Err("is no seccomp profile: it has no defaultAction".to_owned()),
    }
}

/// Docker's `apparmor=…`; None leaves `docker-default`. The profile wins over the deprecated text.
pub(super) fn apparmor(
    at: &str,
    profile: Option<&cri::SecurityProfile>,
    deprecated: &str,
    privileged: bool,
    node: &Node,
) -> Result<Option<String>> {
    let kind = profile_type(&format!("{at}.apparmor"), profile)?;
    let (kind, name) = match (kind, deprecated) {
        _ if privileged => (ProfileType::Unconfined, ""),
        (Some(kind), _) => (kind, apparmor_name(profile, deprecated).unwrap_or_default()),
        (None, "" | "runtime/default") => (ProfileType::RuntimeDefault, ""),
        (None, "unconfined") => (ProfileType::Unconfined, ""),
        (None, other) => match apparmor_name(None, other) {
            Some(name) => (ProfileType::Localhost, name),
            None => {
                return Err(Error::invalid(format!("{at}.apparmor_profile"), format!("{other:?} is not a profile")));
            }
        },
    };
    match kind {
        ProfileType::RuntimeDefault => Ok(None),
        ProfileType::Unconfined => Ok(node.apparmor.then(|| "apparmor=unconfined".to_owned())),
        ProfileType::Localhost if name.is_empty() => {
            Err(Error::invalid(format!("{at}.apparmor.localhost_ref"), "is empty"))
        }
        ProfileType::Localhost if !node.apparmor => Err(Error::FailedPrecondition(format!(
            "{at}.apparmor: profile {name:?} can't hold, the engine has no AppArmor on this node"
        ))),
        ProfileType::Localhost => Ok(Some(format!("apparmor={name}"))),
    }
}

fn profile_type(at: &str, profile: Option<&cri::SecurityProfile>) -> Result<Option<ProfileType>> {
    let Some(cri::SecurityProfile { profile_type, localhost_ref: _ }) = profile else { return Ok(None) };
    let unknown = |_| Error::invalid(format!("{at}.profile_type"), format!("{profile_type} is unknown"));
    ProfileType::try_from(*profile_type).map(Some).map_err(unknown)
}

/// Docker's `label=…` texts.
pub(super) fn selinux(options: Option<&cri::SeLinuxOption>) -> Vec<String> {
    let Some(cri::SeLinuxOption { user, role, r#type, level }) = options else { return Vec::new() };
    let parts = [("user", user), ("role", role), ("type", r#type), ("level", level)];
    parts.iter().filter(|(_, value)| !value.is_empty()).map(|(part, value)| format!("label={part}:{value}")).collect()
}

/// Docker's `no-new-privileges`, said either way so that the daemon's default doesn't apply.
pub(super) fn no_new_privileges(on: bool) -> String {
    format!("no-new-privileges={on}")
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::node;
    use super::*;
    use crate::engine::feature::ApiVersion;

    fn profile(kind: ProfileType, localhost_ref: &str) -> cri::SecurityProfile {
        cri::SecurityProfile { profile_type: kind.into(), localhost_ref: localhost_ref.into() }
    }

    fn number(value: i64) -> cri::Int64Value {
        cri::Int64Value { value }
    }

    #[test]
    fn a_user_is_a_number_a_name_or_the_images() {
        let of = |uid: Option<i64>, gid: Option<i64>, name: &str| {
            user("ctx", uid.map(number).as_ref(), gid.map(number).as_ref(), name)
        };
        assert_eq!(of(None, None, "").unwrap(), None);
        assert_eq!(of(Some(0), None, "").unwrap().as_deref(), Some("0"));
        assert_eq!(of(Some(1000), Some(2000), "").unwrap().as_deref(), Some("1000:2000"));
        assert_eq!(of(None, Some(5), "www").unwrap().as_deref(), Some("www:5"));
        for (bad, at) in [
            (of(None, Some(5), ""), "ctx.run_as_group"),
            (of(Some(-1), None, ""), "ctx.run_as_user"),
            (of(Some(1), Some(1 << 40), ""), "ctx.run_as_group"),
            (of(Some(1), None, "www"), "ctx.run_as_username"),
            (of(None, None, "a:b"), "ctx.run_as_username"),
        ] {
            assert!(bad.unwrap_err().to_string().starts_with(at), "{at}");
        }
    }

    #[test]
    fn groups_are_numbers_that_docker_takes() {
        assert_eq!(groups("ctx", &[7, MAX_ID]).unwrap(), ["7", "2147483647"]);
        for bad in [-1, 1 << 31] {
            let error = groups("ctx", &[7, bad]).unwrap_err().to_string();
            assert!(error.starts_with("ctx.supplemental_groups[1]: "), "{error}");
        }
    }

    #[test]
    fn seccomp_is_unconfined_unless_asked_for() {
        let of = |profile: Option<&cri::SecurityProfile>, deprecated, content, privileged| {
            seccomp("ctx", &Seccomp { profile, deprecated, content, privileged }, &node())
        };
        let default = profile(ProfileType::RuntimeDefault, "");
        let file = profile(ProfileType::Localhost, "/p.json");
        assert_eq!(of(None, "", None, false).unwrap().as_deref(), Some(UNCONFINED));
        assert_eq!(of(Some(&default), "", None, false).unwrap().as_deref(), Some("seccomp=builtin"));
        assert_eq!(of(Some(&file), "", Some("{}"), false).unwrap().as_deref(), Some("seccomp={}"));
        assert_eq!(of(Some(&file), "", Some("{}"), true).unwrap().as_deref(), Some(UNCONFINED));
        assert_eq!(of(None, "runtime/default", None, false).unwrap().as_deref(), Some("seccomp=builtin"));
        assert_eq!(of(None, "localhost//p.json", Some("{}"), false).unwrap().as_deref(), Some("seccomp={}"));
        assert!(of(Some(&file), "", None, false).is_err());
        assert!(of(None, "mine", None, false).is_err());
        assert_eq!((seccomp_file(Some(&file), ""), seccomp_file(None, "localhost//p")), (Some("/p.json"), Some("/p")));
        let old = Node { api: ApiVersion::OLDEST, ..node() };
        let asked = Seccomp { profile: Some(&default), deprecated: "", content: None, privileged: false };
        assert_eq!(seccomp("ctx", &asked, &old).unwrap(), None);
    }

    #[test]
    fn the_apparmor_profile_wins_over_the_deprecated_text() {
        let mine = profile(ProfileType::Localhost, "mine");
        let of = |profile: Option<&cri::SecurityProfile>, text: &str, privileged| {
            apparmor("ctx", profile, text, privileged, &node())
        };
        assert_eq!(of(Some(&mine), "localhost/other", false).unwrap().as_deref(), Some("apparmor=mine"));
        assert_eq!(of(None, "localhost/other", false).unwrap().as_deref(), Some("apparmor=other"));
        let prefixed = profile(ProfileType::Localhost, "localhost/mine");
        assert_eq!(of(Some(&prefixed), "", false).unwrap().as_deref(), Some("apparmor=mine"));
        assert_eq!(of(Some(&mine), "", true).unwrap().as_deref(), Some("apparmor=unconfined"));
        assert_eq!(of(None, "", false).unwrap(), None);
        let without = Node { apparmor: false, ..node() };
        assert!(apparmor("ctx", Some(&mine), "", false, &without).unwrap_err().to_string().contains("\"mine\""));
        assert_eq!(apparmor("ctx", None, "unconfined", false, &without).unwrap(), None);
    }

    #[test]
    fn a_profile_is_loaded_when_the_kernel_lists_it() {
        let list = "docker-default (enforce)\n/usr/bin/man (enforce)\nodd (name) (complain)\n";
        for (name, loaded) in
            [("docker-default", true), ("odd (name)", true), ("odd", false), ("docker", false), ("", false)]
        {
            assert_eq!(is_loaded(list, name), loaded, "{name}");
        }
    }

    #[test]
    fn only_a_seccomp_profile_is_one() {
        assert_eq!(
            seccomp_profile("{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }").unwrap(),
            r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#
        );
        for bad in ["", "no json", "[]", "{}", r#"{"defaultAction": 5}"#, r#"{"defaultAction": "ALLOW"}"#] {
            assert!(seccomp_profile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn selinux_parts_are_labels() {
        let options = cri::SeLinuxOption { level: "s0:c1,c2".into(), r#type: "svirt_t".into(), ..Default::default() };
        assert_eq!(selinux(Some(&options)), ["label=type:svirt_t", "label=level:s0:c1,c2"]);
    }
}
