//! Names of calls, for counting them: method and path as the API's documentation writes them, with no ids in it. Pure.

/// Every call that is made.
const CALLS: &[&str] = &[
    "DELETE /containers/{id}",
    "DELETE /images/{name}",
    "GET /containers/json",
    "GET /containers/{id}/archive",
    "GET /containers/{id}/json",
    "GET /events",
    "GET /exec/{id}/json",
    "GET /images/json",
    "GET /images/{name}/json",
    "GET /info",
    "GET /system/df",
    "GET /version",
    "HEAD /containers/{id}/archive",
    "POST /containers/create",
    "POST /containers/{id}/attach",
    "POST /containers/{id}/exec",
    "POST /containers/{id}/kill",
    "POST /containers/{id}/resize",
    "POST /containers/{id}/start",
    "POST /containers/{id}/stop",
    "POST /containers/{id}/update",
    "POST /exec/{id}/resize",
    "POST /exec/{id}/start",
    "POST /images/create",
    "POST /images/load",
];

/// One that isn't in the list.
pub(super) const OTHER: &str = "other";

/// The name of a call; its path may begin with an API version.
pub(super) fn name(method: &str, path: &str) -> &'static str {
    let path = match path.strip_prefix("/v1.") {
        Some(versioned) => versioned.find('/').map_or("", |at| &versioned[at..]),
        None => path,
    };
    CALLS.iter().find(|call| is(call, method, path)).copied().unwrap_or(OTHER)
}

fn is(call: &str, method: &str, path: &str) -> bool {
    let Some(pattern) = call.strip_prefix(method).and_then(|rest| rest.strip_prefix(' ')) else { return false };
    match (pattern.find('{'), pattern.find('}')) {
        (Some(open), Some(close)) => path
            .strip_prefix(&pattern[..open])
            .and_then(|rest| rest.strip_suffix(&pattern[close + 1..]))
            .is_some_and(|id| !id.is_empty()),
        _ => path == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_versions_are_left_out() {
        for (method, path, wanted) in [
            ("GET", "/version", "GET /version"),
            ("GET", "/v1.41/containers/json", "GET /containers/json"),
            ("GET", "/v1.41/containers/c0ffee/json", "GET /containers/{id}/json"),
            ("POST", "/v1.41/containers/create", "POST /containers/create"),
            ("DELETE", "/v1.41/containers/c0ffee", "DELETE /containers/{id}"),
            ("GET", "/v1.41/images/registry:5000/a/b:1/json", "GET /images/{name}/json"),
            ("POST", "/v1.41/exec/c0ffee/start", "POST /exec/{id}/start"),
            ("POST", "/v1.41/containers/c0ffee/start", "POST /containers/{id}/start"),
            ("GET", "/v1.41", OTHER),
            ("GET", "/v1.41/swarm", OTHER),
            ("POST", "/v1.41/containers//start", OTHER),
        ] {
            assert_eq!(name(method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn each_call_is_its_own_name() {
        for call in CALLS {
            let (method, path) = call.split_once(' ').unwrap();
            assert_eq!(name(method, &path.replace("{id}", "c0ffee").replace("{name}", "a/b")), *call);
        }
        assert!(CALLS.is_sorted());
    }
}
