//! What plugins are asked about a whole network: their STATUS, and to give up what belongs to no attachment. Both came with 1.1.0.
//!
//! STATUS runs in the background and only while somebody wants to know: at each new configuration, and again when the last answer
//! is some seconds old and [`Health::of`] has been called since.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::args::{self, Verb};
use super::conf_dir::Changes;
use super::conflist::{NetworkList, Plugin};
use super::error::Error;
use super::plugin::{Deadline, Plugins};

/// How long the plugins may take for their STATUS together.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
/// An answer counts for so long at least.
const STATUS_AGE: Duration = Duration::from_secs(10);
/// How long they may take to collect garbage.
const GC_LIMIT: Duration = Duration::from_secs(60);

/// A network, and what runs its plugins.
pub(super) struct Network<'a> {
    /// The network.
    pub(super) list: &'a NetworkList,
    /// Finds and runs plugins, and counts that.
    pub(super) plugins: Plugins<'a>,
}

impl Network<'_> {
    /// Asks each plugin whether pods can be joined; the first that says no ends it.
    async fn status(&self) -> Result<(), Error> {
        let deadline = Deadline::within(STATUS_LIMIT);
        for plugin in &self.list.plugins {
            self.call(Verb::Status, plugin, None, deadline).await?;
        }
        Ok(())
    }

    /// Lets each plugin give up what belongs to none of these sandboxes. One that fails doesn't stop the others.
    pub(super) async fn collect_garbage(&self, sandboxes: &[String]) {
        let deadline = Deadline::within(GC_LIMIT);
        for plugin in &self.list.plugins {
            if let Err(error) = self.call(Verb::Gc, plugin, Some(sandboxes), deadline).await {
                tracing::warn!(%error, "CNI garbage not collected");
            }
        }
        tracing::info!(network = self.list.name, valid = sandboxes.len(), "CNI garbage collected");
    }

    async fn call(
        &self,
        verb: Verb,
        plugin: &Plugin,
        valid: Option<&[String]>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let failed = |source| Error::Plugin { culprit: self.list.culprit(plugin), verb, source: Box::new(source) };
        let request = args::network_request(self.list, plugin, valid);
        let environment = args::network_environment(verb, self.plugins.bin);
        self.plugins.call((&plugin.kind, verb), environment, &request, deadline).await.map_err(failed)?;
        Ok(())
    }
}

/// What the plugins of the network in use have said of themselves.
#[derive(Default)]
pub(super) struct Health {
    answer: Mutex<Option<Answer>>,
    wanted: Notify,
}

/// Whom it is about, and why pods can't be joined, if they can't.
struct Answer {
    list: Arc<NetworkList>,
    trouble: Option<Arc<Error>>,
}

impl Health {
    /// Whether the plugins are ready, as they last said; never waits for one.
    pub(super) fn of(&self, list: &Arc<NetworkList>) -> Result<(), Error> {
        if !list.has_status() {
            return Ok(());
        }
        self.wanted.notify_one();
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        match answer.as_ref().filter(|answer| Arc::ptr_eq(&answer.list, list)) {
            Some(Answer { trouble: None, .. }) => Ok(()),
            Some(Answer { trouble: Some(trouble), .. }) => Err(Error::NotReady { source: trouble.clone() }),
            None => Err(Error::Unanswered { network: list.name.clone(), file: list.file.clone() }),
        }
    }

    /// Keeps the answer fresh, for as long as it is polled.
    pub(super) async fn run(&self, mut changes: Changes, plugins: Plugins<'_>) {
        loop {
            let list = changes.list().filter(|list| list.has_status());
            tokio::select! {
                () = changes.changed() => {}
                () = self.ask(list, plugins) => {}
            }
        }
    }

    /// Asks the plugins, and returns when the answer is old and wanted again.
    async fn ask(&self, list: Option<Arc<NetworkList>>, plugins: Plugins<'_>) {
        let Some(list) = list else { return std::future::pending().await };
        let trouble = Network { list: &list, plugins }.status().await.err().map(Arc::new);
        let told = trouble.as_ref().map(ToString::to_string);
        let last = self.answer.lock().unwrap_or_else(PoisonError::into_inner).replace(Answer { list, trouble });
        if told != last.and_then(|last| last.trouble).map(|trouble| trouble.to_string()) {
            match told {
                Some(error) => tracing::warn!(error, "CNI plugins are not ready"),
                None => tracing::info!("CNI plugins are ready again"),
            }
        }
        tokio::time::sleep(STATUS_AGE).await;
        self.wanted.notified().await;
    }
}
