//! One asynchronous lock per name, made when first wanted and dropped when nobody holds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by name.
#[derive(Default)]
pub(crate) struct Locks {
    by_name: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl Locks {
    /// Waits for the name's lock; held until the guard is dropped. Those who wait get it in the order they came.
    pub(crate) async fn hold(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
            by_name.retain(|_, lock| Arc::strong_count(lock) > 1);
            by_name.entry(name.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_held_by_one_and_forgotten_when_free() {
        let locks = Locks::default();
        let first = locks.hold("a").await;
        let _other = locks.hold("b").await;
        let second = tokio::time::timeout(std::time::Duration::from_millis(20), locks.hold("a")).await;
        assert!(second.is_err());
        drop(first);
        drop(locks.hold("a").await);
        drop(locks.hold("c").await);
        assert!(!locks.by_name.lock().unwrap().contains_key("a"));
    }
}
