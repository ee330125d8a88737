//! cri-dockerd's command line as our configuration: each of its flags is one of ours too (`cli.rs`), and is kept as a line of the file,
//! or needless, or without meaning here. Pure.

use std::ffi::OsString;

use clap::CommandFactory;

use super::Error;
use super::cli::Cli;
use super::reference::value;
use super::resolve::{Setting, Typed, first_line, told};
use crate::handover::checkpoint::CRI_DOCKERD_ROOT;

/// A flag that was given, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// As it could be typed.
    pub flag: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is this line of the file.
    Kept(String),
    /// Without it everything is the same: why.
    Needless(&'static str),
    /// We have no use for it: why.
    Meaningless(String),
}

/// Takes a command line, without the program's name, and the environment that it was given in. Values are checked as if they had
/// been told to us.
pub fn carry_over(
    arguments: &[String],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Carried>, Error> {
    let line = std::iter::once("dockershim").chain(arguments.iter().map(String::as_str));
    let matches = Cli::command().try_get_matches_from(line);
    let matches = matches.map_err(|error| Error::Arguments { reason: first_line(&error) })?;
    if let Some((word, _)) = matches.subcommand() {
        return Err(Error::Arguments { reason: format!("unexpected argument '{word}' found") });
    }
    let settings = told(&Typed::of(&matches), environment)?;
    Ok(settings.iter().map(carried).collect())
}

fn carried(setting: &Setting) -> Carried {
    let texts: Vec<String> = setting.values.iter().map(|value| value.to_string_lossy().into_owned()).collect();
    Carried { flag: format!("--{}={}", setting.key.name, texts.join(",")), fate: fate(setting, &texts) }
}

fn fate(setting: &Setting, texts: &[String]) -> Fate {
    let key = &setting.key;
    let kept = |texts: &[String]| Fate::Kept(format!("{} = {}", key.name, value(key, texts)));
    let only = texts.first().map_or("", String::as_str);
    match key.name.as_str() {
        _ if !key.has_meaning() => Fate::Meaningless(key.doc.clone()),
        _ if texts == key.default => Fate::Needless("the default anyway"),
        "container-runtime-endpoint" if texts.iter().all(|text| is_served(text)) => {
            Fate::Needless("dockershim.socket listens at cri-dockerd's place too")
        }
        "container-runtime-endpoint" => Fate::Meaningless(format!(
            "dockershim.socket says where we listen: point the kubelet to unix:///run/dockershim.sock, or have systemctl edit dockershim.socket \
             add ListenStream={only}",
            only = only.trim_start_matches("unix://")
        )),
        "root-directory" if only == CRI_DOCKERD_ROOT => {
            Fate::Needless("cri-dockerd's default; we find its checkpoints there")
        }
        // every address to cri-dockerd
        "streaming-bind-addr" if only.is_empty() => Fate::Needless("the default; ours is 127.0.0.1"),
        "network-plugin" if matches!(only, "" | "no-op") => kept(&["bridge".to_owned()]),
        _ => kept(texts),
    }
}

/// Whether our socket unit listens there: `/var/run` is `/run`.
fn is_served(endpoint: &str) -> bool {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    matches!(path, "fd://" | "/run/cri-dockerd.sock" | "/var/run/cri-dockerd.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(arguments: &[&str]) -> Result<Vec<Fate>, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let carried = carry_over(&arguments, []).map_err(|error| error.to_string())?;
        Ok(carried.into_iter().map(|carried| carried.fate).collect())
    }

    fn kept(line: &str) -> Fate {
        Fate::Kept(line.to_owned())
    }

    #[test]
    fn what_differs_from_our_defaults_is_kept() {
        let cases: &[(&[&str], &str)] = &[
            (&["--network-plugin="], "network-plugin = \"bridge\""),
            (&["--network-plugin", "no-op"], "network-plugin = \"bridge\""),
            (&["--cni-bin-dir=/opt/cni/bin,/usr/lib/cni"], "cni-bin-dir = [\"/opt/cni/bin\", \"/usr/lib/cni\"]"),
            (&["--cni-bin-dir", "/usr/lib/cni"], "cni-bin-dir = [\"/usr/lib/cni\"]"),
            (&["--pod-infra-container-image", "r/pause:3.9"], "pod-infra-container-image = \"r/pause:3.9\""),
            (&["--cri-dockerd-root-directory=/data/cri"], "root-directory = \"/data/cri\""),
            (&["--streaming-bind-addr=127.0.0.1:10010"], "streaming-bind-addr = \"127.0.0.1:10010\""),
            (&["--pod-cidr=10.1.0.0/16"], "pod-cidr = \"10.1.0.0/16\""),
            (&["--log-level=info", "--log-level=debug"], "log-level = \"debug\""),
        ];
        for (arguments, line) in cases {
            assert_eq!(fates(arguments), Ok(vec![kept(line)]), "{arguments:?}");
        }
    }

    #[test]
    fn what_holds_anyway_is_not_written() {
        for flag in [
            "--network-plugin=cni",
            "--cni-bin-dir=/opt/cni/bin",
            "--docker-endpoint=unix:///var/run/docker.sock",
            "--container-runtime-endpoint=fd://",
            "--container-runtime-endpoint=unix:///var/run/cri-dockerd.sock",
            "--cri-dockerd-root-directory=/var/lib/cri-dockerd",
            "--streaming-bind-addr=",
            "--runtime-request-timeout=0s",
        ] {
            assert!(matches!(fates(&[flag]).unwrap()[..], [Fate::Needless(_)]), "{flag}");
        }
        for flag in
            ["--ipv6-dual-stack", "--hairpin-mode=hairpin-veth", "--network-plugin-mtu=1400", "--runtime-cgroups=/x"]
        {
            assert!(matches!(&fates(&[flag]).unwrap()[..], [Fate::Meaningless(why)] if !why.is_empty()), "{flag}");
        }
        let elsewhere = fates(&["--container-runtime-endpoint=unix:///run/other.sock"]).unwrap();
        assert!(matches!(&elsewhere[..], [Fate::Meaningless(why)] if why.contains("ListenStream=/run/other.sock")));
        assert_eq!(fates(&[]), Ok(Vec::new()));
    }

    #[test]
    fn an_empty_engine_is_what_its_environment_said() {
        let host = |host: &str| carry_over(&["--docker-endpoint=".to_owned()], [("DOCKER_HOST".into(), host.into())]);
        assert_eq!(host("unix:///e.sock").unwrap()[0].fate, kept("docker-endpoint = \"unix:///e.sock\""));
        assert!(host("tcp://10.0.0.1:2375").is_err());
        assert_eq!(fates(&["--docker-endpoint="]), Ok(Vec::new()));
    }

    #[test]
    fn what_we_cannot_do_is_refused_by_its_flag() {
        for (arguments, told) in [
            (&["--network-plugin=kubenet"][..], "--network-plugin: \"kubenet\" is neither cni nor bridge"),
            (&["--docker-endpoint=tcp://10.0.0.1:2375"], "--docker-endpoint"),
            (&["--no-such-flag=1"], "unexpected argument '--no-such-flag'"),
            (&["migrate"], "unexpected argument 'migrate'"),
        ] {
            let error = fates(arguments).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
