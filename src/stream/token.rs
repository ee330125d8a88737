//! One-use tokens: 128 random bits stand for a request until its client comes, at most a minute.
//! It doesn't know what the requests are about.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::rand::{GetRandomFlags, getrandom};

use super::Grant;

/// Tokens that may wait to be used.
pub(super) const MOST: usize = 1000;
/// How long one may.
const LIFE: Duration = Duration::from_secs(60);

/// Why there is no token.
#[derive(Debug)]
pub(super) enum Refused {
    /// [`MOST`] wait already.
    Full,
    /// The kernel gives no random bytes.
    Random(std::io::Error),
}

/// Those that wait.
#[derive(Default)]
pub(super) struct Tokens {
    waiting: Mutex<HashMap<String, (Instant, Grant)>>,
}

impl Tokens {
    /// A token for a grant; fit for a URL.
    pub(super) fn issue(&self, grant: Grant) -> Result<String, Refused> {
        self.issue_at(Instant::now(), grant)
    }

    /// What the token stands for, if it is of this kind. It is used up by that.
    pub(super) fn redeem(&self, kind: &str, token: &str) -> Option<Grant> {
        self.redeem_at(Instant::now(), kind, token)
    }

    fn issue_at(&self, now: Instant, grant: Grant) -> Result<String, Refused> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (until, _)| now < *until);
        if waiting.len() >= MOST {
            return Err(Refused::Full);
        }
        let token = random().map_err(Refused::Random)?;
        waiting.insert(token.clone(), (now + LIFE, grant));
        Ok(token)
    }

    fn redeem_at(&self, now: Instant, kind: &str, token: &str) -> Option<Grant> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, grant) = waiting.get(token)?;
        if now >= *until || grant.kind() != kind {
            return None;
        }
        waiting.remove(token).map(|(_, grant)| grant)
    }
}

fn random() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    // so few bytes come whole or not at all
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::id::SandboxId;
    use crate::stream::PortForward;

    fn grant() -> Grant {
        Grant::PortForward(PortForward { sandbox: SandboxId::new("s"), ports: Vec::new() })
    }

    #[test]
    fn a_token_works_once_and_for_its_kind_alone() {
        let tokens = Tokens::default();
        let token = tokens.issue(grant()).unwrap();
        assert!(tokens.redeem("exec", &token).is_none());
        assert!(tokens.redeem("portforward", "x").is_none());
        assert!(tokens.redeem("portforward", &token).is_some());
        assert!(tokens.redeem("portforward", &token).is_none());
    }

    #[test]
    fn a_token_lives_for_a_minute() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let [early, late] = [(); 2].map(|()| tokens.issue_at(now, grant()).unwrap());
        assert!(tokens.redeem_at(now + LIFE - Duration::from_millis(1), "portforward", &early).is_some());
        assert!(tokens.redeem_at(now + LIFE, "portforward", &late).is_none());
    }

    #[test]
    fn so_many_wait_and_no_more_until_some_are_used_or_too_old() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let issued: HashSet<_> = (0..MOST).map(|_| tokens.issue_at(now, grant()).unwrap()).collect();
        assert_eq!(issued.len(), MOST);
        assert!(matches!(tokens.issue_at(now, grant()), Err(Refused::Full)));
        assert!(tokens.redeem_at(now, "portforward", issued.iter().next().unwrap()).is_some());
        assert!(tokens.issue_at(now, grant()).is_ok());
        assert!(matches!(tokens.issue_at(now, grant()), Err(Refused::Full)));
        assert!(tokens.issue_at(now + LIFE, grant()).is_ok());
    }

    #[test]
    fn a_token_is_128_bits_that_a_url_can_hold() {
        let token = random().unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(&token).unwrap().len(), 16);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{token}");
    }
}
