//! A look into an image's files, which the Engine only shows of a container: one is made, never started, and removed again.
//!
//! Three or four engine calls for the first look, and from then on none: what was seen is kept by the image's id, which stands for its
//! content.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::ContainerCreateBody;

use super::Daemon;
use crate::engine;
use crate::error::{Error, Result};
use crate::id::ImageId;
use crate::translate::account::Accounts;
use crate::translate::image::ImageFacts;
use crate::translate::label;

/// Of one file of accounts: hundreds of times as large as they are.
const MOST_BYTES: usize = 1 << 20;
/// Of all files whose accounts are kept, or of all paths. When it is reached, all are forgotten.
const KEPT_BYTES: usize = 8 << 20;

/// What was seen in images.
pub(super) struct Seen<K, V> {
    known: Mutex<(HashMap<K, V>, usize)>,
}

/// Accounts by image.
pub(super) type SeenAccounts = Seen<ImageId, Arc<Accounts>>;
/// Whether an image has a path.
pub(super) type SeenPaths = Seen<(ImageId, String), bool>;

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Seen { known: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Seen<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.get(key).cloned()
    }

    /// `bytes` is what it takes, more or less.
    fn put(&self, key: K, value: V, bytes: usize) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, kept_bytes) = &mut *known;
        if *kept_bytes + bytes > KEPT_BYTES {
            all.clear();
            *kept_bytes = 0;
        }
        *kept_bytes += bytes;
        all.insert(key, value);
    }
}

impl Daemon {
    /// An image's users and groups.
    pub(super) async fn accounts_of(&self, image: &ImageFacts) -> Result<Arc<Accounts>> {
        if let Some(known) = self.accounts.get(&image.id) {
            return Ok(known);
        }
        // containers that are made at the same time take one look
        let _lock = self.locks.hold(&format!("accounts of {}", image.id)).await;
        if let Some(known) = self.accounts.get(&image.id) {
            return Ok(known);
        }
        let read = self.with_probe(image, async |probe: &str| {
            let passwd = self.engine.read_file(probe, "/etc/passwd", MOST_BYTES).await?;
            let group = self.engine.read_file(probe, "/etc/group", MOST_BYTES).await?;
            Ok((passwd.unwrap_or_default(), group.unwrap_or_default()))
        });
        let (passwd, group) = read.await.map_err(|error| match error {
            engine::Error::Unreadable { reason, .. } => Error::FailedPrecondition(format!(
                "users and groups of image {}: a file of them has {reason}",
                image.id
            )),
            error => error.while_doing(format!("users and groups of image {}", image.id)),
        })?;
        let accounts = Arc::new(Accounts::parse(&passwd, &group));
        self.accounts.put(image.id.clone(), accounts.clone(), passwd.len() + group.len());
        Ok(accounts)
    }

    /// Whether an image has something by a path.
    pub(super) async fn image_has(&self, image: &ImageFacts, path: &str) -> Result<bool> {
        let key = (image.id.clone(), path.to_owned());
        if let Some(seen) = self.image_paths.get(&key) {
            return Ok(seen);
        }
        let look = async |probe: &str| self.engine.has_path(probe, path, Self::INSPECT_LIMIT).await;
        let has = self.with_probe(image, look).await;
        let has = has.map_err(|error| error.while_doing(format!("look for {path:?} in image {}", image.id)))?;
        let bytes = key.0.as_str().len() + path.len();
        self.image_paths.put(key, has, bytes);
        Ok(has)
    }

    /// Removes what a look that was cut off has left.
    pub(super) async fn clear_probes(&self) {
        let left = self.engine.list(label::PROBE).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "containers that looked into images can't be listed");
            Vec::new()
        });
        for probe in left.iter().filter(|probe| probe.own_name().is_some_and(|name| name.starts_with(NAME))) {
            self.remove_probe(&probe.id).await;
        }
    }

    async fn with_probe<T>(
        &self,
        image: &ImageFacts,
        look: impl AsyncFnOnce(&str) -> Result<T, engine::Error>,
    ) -> Result<T, engine::Error> {
        let digits: String = image.id.as_str().trim_start_matches("sha256:").chars().take(12).collect();
        let name = format!("{}{digits}", NAME.trim_start_matches('/'));
        // two looks at once take turns, so that a name that is taken is always a leftover
        let _lock = self.locks.hold(&name).await;
        let body = ContainerCreateBody {
            image: Some(image.id.to_string()),
            // it is never run, but without any the Engine makes no container
            entrypoint: Some(vec!["/".to_owned()]),
            network_disabled: Some(true),
            labels: Some(HashMap::from([(label::PROBE.to_owned(), String::new())])),
            ..ContainerCreateBody::default()
        };
        let probe = match self.engine.create(&name, body.clone()).await {
            Err(error @ engine::Error::Conflict { .. }) => {
                let left = self.engine.inspect(&name, Self::INSPECT_LIMIT).await?;
                if left.state.running || !left.config.labels.contains_key(label::PROBE) {
                    return Err(error);
                }
                self.engine.remove(&left.id).await?;
                self.engine.create(&name, body).await?
            }
            probe => probe?,
        };
        let seen = look(&probe).await;
        match self.engine.remove(&probe).await {
            // somebody has pruned it meanwhile: what wasn't found may well be there
            Err(gone) if gone.is_not_found() => return Err(gone),
            Err(error) => tracing::warn!(id = probe, %error, "looked into an image, and stays"),
            Ok(()) => {}
        }
        seen
    }

    async fn remove_probe(&self, id: &str) {
        match self.engine.remove(id).await {
            Err(error) if !error.is_not_found() => tracing::warn!(id, %error, "looked into an image, and stays"),
            _ => {}
        }
    }
}

/// How the Docker names begin, as a listing tells them.
const NAME: &str = "/dockershim-look-";
