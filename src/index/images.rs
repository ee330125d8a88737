//! The image cache: what ImageStatus and ListImages answer from. Image events and our own pulls and removals keep it true.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::Mutex;

use crate::engine::model::{ImageInspect, ImageSummary};
use crate::engine::{Engine, Error};
use crate::id::ImageId;
use crate::translate::image::{ImageFacts, ImageName, facts, parse};

/// Inspects under way at once.
const PARALLEL: usize = 4;
/// Events come in bursts; one listing serves a burst.
const SETTLE: Duration = Duration::from_millis(50);

/// The images and their names.
#[derive(Default)]
struct Table {
    images: BTreeMap<ImageId, Arc<ImageFacts>>,
    /// `docker.io/library/busybox:1` and `docker.io/library/busybox@sha256:…` to id.
    names: HashMap<String, ImageId>,
}

/// The cache. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    engine: Engine,
    table: Arc<RwLock<Table>>,
    /// Held over each look at the engine and what follows from it, so that an older look never hides a newer one.
    looking: Arc<Mutex<()>>,
    dirty: Arc<AtomicBool>,
}

impl Images {
    pub(super) fn new(engine: Engine) -> Self {
        Images { engine, table: Arc::default(), looking: Arc::default(), dirty: Arc::default() }
    }

    /// Every image, by id.
    pub fn all(&self) -> Vec<Arc<ImageFacts>> {
        self.read().images.values().cloned().collect()
    }

    /// The image with that id.
    pub fn by_id(&self, id: &str) -> Option<Arc<ImageFacts>> {
        self.read().images.get(id).cloned()
    }

    /// The image that a name, digest, id or the beginning of an id stands for.
    pub fn find(&self, name: &ImageName, text: &str) -> Option<Arc<ImageFacts>> {
        let table = self.read();
        let id = match name {
            ImageName::Id(id) => id.as_str(),
            ImageName::Named { .. } => match key(name).and_then(|key| table.names.get(&key)) {
                Some(id) => id.as_str(),
                None => return by_short_id(&table, text),
            },
        };
        table.images.get(id).cloned()
    }

    /// Lists the engine's images and inspects those not known yet.
    pub async fn sync(&self) -> Result<(), Error> {
        let _looking = self.looking.lock().await;
        self.dirty.store(false, Ordering::Release);
        let listed = self.engine.list_images().await?;
        let found: Vec<Option<ImageFacts>> = futures_util::stream::iter(listed)
            .map(|summary| self.facts_of(summary))
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        let mut table = Table::default();
        for image in found.into_iter().flatten() {
            table.put(image);
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// An event says that images have changed: looks once for a burst of them.
    pub(super) fn changed(&self) {
        if self.dirty.swap(true, Ordering::AcqRel) {
            return;
        }
        let images = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SETTLE).await;
            if let Err(error) = images.sync().await {
                images.dirty.store(false, Ordering::Release);
                tracing::debug!(%error, "listing images after an event failed");
            }
        });
    }

    /// Asks the engine about one image now: after a pull, or when a create found it missing. None when it isn't there.
    pub async fn refresh(&self, name: &str) -> Result<Option<Arc<ImageFacts>>, Error> {
        let _looking = self.looking.lock().await;
        match self.engine.inspect_image(name).await {
            Ok(inspect) => Ok(Some(self.put(&inspect))),
            Err(error) if error.is_not_found() => {
                self.change(|table| table.drop(name));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// An image as listed; what only an inspect tells doesn't change for an id, so a known one isn't asked again.
    /// None for one that went away meanwhile.
    async fn facts_of(&self, summary: ImageSummary) -> Result<Option<ImageFacts>, Error> {
        let known = self.by_id(&summary.id);
        let inspect = match known {
            Some(known) => {
                let named = ImageInspect {
                    id: summary.id,
                    repo_tags: summary.repo_tags,
                    repo_digests: summary.repo_digests,
                    size: summary.size,
                    ..ImageInspect::default()
                };
                let ImageFacts { id, repo_tags, repo_digests, size_bytes, .. } = facts(&named);
                return Ok(Some(ImageFacts { id, repo_tags, repo_digests, size_bytes, ..(*known).clone() }));
            }
            None => self.engine.inspect_image(&summary.id).await,
        };
        match inspect {
            Ok(inspect) => Ok(Some(facts(&inspect))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put(&self, inspect: &ImageInspect) -> Arc<ImageFacts> {
        self.change(|table| table.put(facts(inspect)))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes an image in; names that it now holds are no longer another's.
    fn put(&mut self, image: ImageFacts) -> Arc<ImageFacts> {
        self.names.retain(|_, id| *id != image.id);
        for name in image.repo_tags.iter().chain(&image.repo_digests) {
            if let Some(key) = parse("image", name).ok().and_then(|name| key(&name)) {
                self.names.insert(key, image.id.clone());
            }
        }
        let image = Arc::new(image);
        self.images.insert(image.id.clone(), image.clone());
        image
    }

    /// Drops an image by its id, or what a name stood for.
    fn drop(&mut self, name: &str) {
        self.images.remove(name);
        self.names.retain(|_, held_by| held_by.as_str() != name);
        if let Some(key) = parse("image", name).ok().and_then(|name| key(&name)) {
            self.names.remove(&key);
        }
    }
}

/// What a name is filed under: with a digest by it alone, else by its tag.
fn key(name: &ImageName) -> Option<String> {
    match name {
        ImageName::Id(_) => None,
        ImageName::Named { repository, digest: Some(digest), .. } => Some(format!("{repository}@{digest}")),
        ImageName::Named { repository, tag, digest: None } => {
            Some(format!("{repository}:{}", tag.as_deref().unwrap_or("latest")))
        }
    }
}

/// Docker also takes the first digits of an id, when they are one image's alone.
fn by_short_id(table: &Table, text: &str) -> Option<Arc<ImageFacts>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let prefix = format!("sha256:{digits}");
    let mut found = table.images.iter().filter(|(id, _)| id.as_str().starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some((_, image)), None) => Some(image.clone()),
        _ => None,
    }
}
