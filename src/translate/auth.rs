//! Registry credentials of a pull, as Docker takes them. Pure. What is wrong with them is told without them.

use base64::Engine as _;
use bollard::auth::DockerCredentials;

use crate::cri;
use crate::error::{Error, Result};

/// Docker's form of CRI's credentials; None for none. `auth` is base64 of `user:password` and stands for both when they are empty.
pub fn credentials(auth: Option<&cri::AuthConfig>) -> Result<Option<DockerCredentials>> {
    let Some(cri::AuthConfig { username, password, auth, server_address, identity_token, registry_token }) = auth
    else {
        return Ok(None);
    };
    let (username, password) = match (username.is_empty() && password.is_empty(), auth.is_empty()) {
        (true, false) => split(auth)?,
        _ => (username.clone(), password.clone()),
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Some(DockerCredentials {
        username: given(&username),
        password: given(&password),
        serveraddress: given(server_address),
        identitytoken: given(identity_token),
        registrytoken: given(registry_token),
        ..DockerCredentials::default()
    }))
}

fn split(auth: &str) -> Result<(String, String)> {
    let wrong = |reason: &str| Error::invalid("auth.auth", reason);
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth).map_err(|_| wrong("is not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not base64 of text"))?;
    let (user, password) = text.split_once(':').ok_or_else(|| wrong("is not base64 of user:password"))?;
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> cri::AuthConfig {
        let auth = base64::engine::general_purpose::STANDARD.encode(text);
        cri::AuthConfig { auth, ..cri::AuthConfig::default() }
    }

    #[test]
    fn base64_stands_for_user_and_password() {
        let credentials = credentials(Some(&encoded("me:a:b"))).unwrap().unwrap();
        assert_eq!((credentials.username.as_deref(), credentials.password.as_deref()), (Some("me"), Some("a:b")));
    }

    #[test]
    fn what_is_given_in_full_wins() {
        let both = cri::AuthConfig { username: "you".into(), ..encoded("me:x") };
        assert_eq!(credentials(Some(&both)).unwrap().unwrap().username.as_deref(), Some("you"));
        assert!(credentials(None).unwrap().is_none());
    }

    #[test]
    fn a_refusal_never_shows_the_secret() {
        let plain = cri::AuthConfig { auth: "hunter2!".into(), ..cri::AuthConfig::default() };
        for bad in [plain, encoded("hunter2")] {
            let error = credentials(Some(&bad)).unwrap_err().to_string();
            assert!(error.starts_with("auth.auth: ") && !error.contains("hunter2"), "{error}");
            assert!(!format!("{bad:?}").contains("hunter2"));
        }
    }
}
