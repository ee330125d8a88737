//! Image names and what we know of images. Pure.
//!
//! ```text
//! busybox  →  docker.io/library/busybox  (tag latest when it is used)      reg:5000/a/b:1@sha256:…  →  by its digest
//! sha256:<64 digits>, <64 digits>  →  an id
//! ```

use crate::cri;
use crate::engine::model::ImageInspect;
use crate::error::{Error, Result};
use crate::id::ImageId;

/// As long as Docker takes a repository's name.
const MAX_REPOSITORY_BYTES: usize = 255;
const DEFAULT_REGISTRY: &str = "docker.io";

/// What a text that names an image means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// `sha256:…`
    Id(ImageId),
    /// A place in a registry.
    Named {
        /// Whole, as `docker.io/library/busybox`.
        repository: String,
        /// As given; None for the default.
        tag: Option<String>,
        /// `sha256:…`; the tag counts for nothing beside it.
        digest: Option<String>,
    },
}

impl ImageName {
    /// Repository and tag or digest to pull; None for an id, which can't be pulled.
    pub fn pull_parts(&self) -> Option<(String, String)> {
        match self {
            ImageName::Id(_) => None,
            ImageName::Named { repository, digest: Some(digest), .. } => Some((repository.clone(), digest.clone())),
            ImageName::Named { repository, tag, digest: None } => {
                Some((repository.clone(), tag.clone().unwrap_or_else(|| "latest".to_owned())))
            }
        }
    }
}

/// Reads a name as Docker does; what is none is refused with the request's `field`.
pub fn parse(field: &str, text: &str) -> Result<ImageName> {
    let wrong = |why: &str| Err(Error::invalid(field, format!("{text:?} {why}")));
    if text.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    if let Some(id) = as_id(text) {
        return Ok(ImageName::Id(id));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return wrong("has no digest behind the @");
    }
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return wrong("has a tag that can't be one");
    }
    let Some(repository) = whole_repository(name) else {
        return wrong("is not an image's name");
    };
    Ok(ImageName::Named { repository, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
}

fn as_id(text: &str) -> Option<ImageId> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    is_hex(digits, 64).then(|| ImageId::new(format!("sha256:{digits}")))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_digest(text: &str) -> bool {
    match text.split_once(':') {
        Some(("sha256", digits)) => is_hex(digits, 64),
        Some(("sha512", digits)) => is_hex(digits, 128),
        _ => false,
    }
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    matches!(text.as_bytes(), [first, rest @ ..]
        if text.len() <= 128 && word(*first) && rest.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-')))
}

/// Adds Docker's default registry and its `library`; None for what is no name.
fn whole_repository(name: &str) -> Option<String> {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let path = match registry {
        DEFAULT_REGISTRY if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    let whole = format!("{registry}/{path}");
    let fits = whole.len() <= MAX_REPOSITORY_BYTES && is_registry(registry) && path.split('/').all(is_component);
    fits.then_some(whole)
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let ipv6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_is_one = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    host_is_one && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(word) && text.bytes().last().is_some_and(word);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && separators
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

/// An image, as far as CRI tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its id.
    pub id: ImageId,
    /// `name:tag`, as Docker writes them.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…`, as Docker writes them.
    pub repo_digests: Vec<String>,
    /// Bytes.
    pub size_bytes: u64,
    /// `USER` of the image: `uid[:gid]`, `name[:group]` or empty for root.
    pub user: String,
    /// `STOPSIGNAL` of the image.
    pub stop_signal: String,
}

impl ImageFacts {
    /// What a container of it is told to be made from: the first digest, or its id.
    pub(super) fn reference(&self) -> String {
        self.repo_digests.first().map_or_else(|| self.id.to_string(), Clone::clone)
    }
}

/// Reads an inspect; old engines list `<none>` for no name.
pub fn facts(inspect: &ImageInspect) -> ImageFacts {
    let named = |names: &[String]| names.iter().filter(|name| !name.contains("<none>")).cloned().collect();
    ImageFacts {
        id: ImageId::new(inspect.id.as_str()),
        repo_tags: named(&inspect.repo_tags),
        repo_digests: named(&inspect.repo_digests),
        size_bytes: u64::try_from(inspect.size).unwrap_or(0),
        user: inspect.config.user.clone(),
        stop_signal: inspect.config.stop_signal.clone(),
    }
}

/// As ListImages and ImageStatus tell it: the same by whichever name it was asked for, so without a spec.
pub fn to_image(facts: &ImageFacts, pinned: bool) -> cri::Image {
    let (uid, username) = user(&facts.user);
    cri::Image {
        id: facts.id.to_string(),
        repo_tags: facts.repo_tags.clone(),
        repo_digests: facts.repo_digests.clone(),
        // the kubelet takes 0 for "unknown" and fails
        size: facts.size_bytes.max(1),
        uid: uid.map(|value| cri::Int64Value { value }),
        username,
        spec: None,
        pinned,
    }
}

/// Either a number or a name; none is root.
fn user(text: &str) -> (Option<i64>, String) {
    let user = text.split(':').next().unwrap_or_default();
    match user.parse() {
        _ if user.is_empty() => (Some(0), String::new()),
        Ok(uid) => (Some(uid), String::new()),
        Err(_) => (None, user.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parts(text: &str) -> (String, String) {
        parse("image.image", text).unwrap().pull_parts().unwrap()
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, repository, tag) in [
            ("busybox", "docker.io/library/busybox", "latest"),
            ("busybox:1.36", "docker.io/library/busybox", "1.36"),
            ("a/b", "docker.io/a/b", "latest"),
            ("index.docker.io/b", "docker.io/library/b", "latest"),
            ("localhost/b", "localhost/b", "latest"),
            ("127.0.0.1:5000/a/b_c__d-e.f:t", "127.0.0.1:5000/a/b_c__d-e.f", "t"),
            ("[fd00::1]:5000/a", "[fd00::1]:5000/a", "latest"),
            ("registry.example:5000/a", "registry.example:5000/a", "latest"),
        ] {
            assert_eq!(parts(text), (repository.to_owned(), tag.to_owned()), "{text}");
        }
        let digest = format!("sha256:{HEX}");
        assert_eq!(parts(&format!("a/b:tag@{digest}")), ("docker.io/a/b".to_owned(), digest.clone()));
        assert_eq!(parse("", HEX).unwrap(), ImageName::Id(ImageId::new(digest.as_str())));
        assert_eq!(parse("", &digest).unwrap(), ImageName::Id(ImageId::new(digest.as_str())));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(300);
        for text in [
            "",
            " ",
            "Busybox",
            "a b",
            "a/../b",
            "/a",
            "a/",
            "a:",
            "a:-",
            "a@",
            "a@sha256:12",
            "a@md5:0",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "http://a/b",
            "a\n",
            "ä",
            &long,
            "x:y:z",
            "a?b",
            "a#b",
            "a%2fb",
            ":5000/a",
            "a.b:port/c",
        ] {
            assert!(parse("image.image", text).unwrap_err().to_string().starts_with("image.image: "), "{text}");
        }
    }

    #[test]
    fn a_user_is_a_number_or_a_name() {
        for (text, wanted) in
            [("", (Some(0), "")), ("1000:1000", (Some(1000), "")), ("www:1", (None, "www")), (":5", (Some(0), ""))]
        {
            assert_eq!(user(text), (wanted.0, wanted.1.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_completed_name_reads_as_itself(text in "([a-z0-9.:-]{1,9}/)?[a-z0-9._-]{1,9}(/[a-z]{1,3})?(:[a-zA-Z0-9._-]{1,5})?") {
            if let Ok(name @ ImageName::Named { .. }) = parse("", &text) {
                let (repository, tag) = name.pull_parts().unwrap();
                let again = parse("", &format!("{repository}:{tag}")).unwrap();
                prop_assert_eq!(again.pull_parts().unwrap(), (repository, tag));
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}") {
            let _ = parse("", &text);
        }

        #[test]
        fn what_is_taken_is_safe_in_a_path(text in "[!-~]{0,40}") {
            if let Ok(ImageName::Named { repository, .. }) = parse("", &text) {
                prop_assert!(!repository.contains(['?', '#', '%', ' ', '\\']) && !repository.contains(".."));
            }
        }
    }
}
