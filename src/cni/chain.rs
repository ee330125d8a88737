//! The plugins of one network, one after the other: ADD forwards, each given the result of the one before, DEL backwards.
//! It keeps nothing; what is to outlive the calls is the business of `mod.rs`.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tracing::{Instrument, debug, debug_span};

use super::args::{Parameters, Verb};
use super::conflist::{NetworkList, Plugin};
use super::error::{Error, Failure};
use super::plugin::{self, Deadline, Plugins};
use super::result;

/// What a DEL makes of a plugin that isn't there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// The DEL fails.
    Fails,
    /// The other plugins do what they can.
    IsSkipped,
}

/// The calls of one attachment.
pub(super) struct Chain<'a> {
    /// The network.
    pub(super) list: &'a NetworkList,
    /// What all calls have in common.
    pub(super) parameters: &'a Parameters,
    /// Path of the pod's network namespace; empty when it is gone.
    pub(super) netns: &'a str,
    /// Finds and runs plugins, and counts that.
    pub(super) plugins: Plugins<'a>,
    /// The time that all plugins have together.
    pub(super) limit: Duration,
}

/// How far an ADD has come.
#[derive(Default)]
pub(super) struct Progress {
    /// Plugins that have been called, a failed one included: it may have left something behind.
    pub(super) called: usize,
    /// The latest result.
    pub(super) result: Option<Map<String, Value>>,
}

impl Chain<'_> {
    /// Adds, and gives the pod's addresses. After a failure, `progress` tells what there is to undo.
    pub(super) async fn add(&self, progress: &mut Progress) -> Result<Vec<String>, Error> {
        let deadline = Deadline::within(self.limit);
        let mut addresses = Vec::new();
        for (n, plugin) in self.list.plugins.iter().enumerate() {
            progress.called = n + 1;
            let output = self.call(Verb::Add, plugin, progress.result.as_ref(), deadline).await?;
            let unusable = |reason| self.failed(plugin, Verb::Add, Failure::Result { reason });
            let result = result::read(&output, &self.list.version).map_err(unusable)?;
            // only the last result has to name addresses, and the last plugin is the one to blame
            if progress.called == self.list.plugins.len() {
                addresses = result::addresses(&result).map_err(unusable)?;
            }
            progress.result = Some(result);
        }
        Ok(addresses)
    }

    /// Deletes from the first `called` plugins, the last first; stops at a failure, as the specification wants, but for that of a
    /// plugin that never comes to its work.
    pub(super) async fn del(
        &self,
        called: usize,
        result: Option<&Map<String, Value>>,
        absent: Absent,
    ) -> Result<(), Error> {
        let deadline = Deadline::within(self.limit);
        let previous = result.filter(|_| self.list.tells_result_at_del());
        for plugin in self.list.plugins.iter().take(called).rev() {
            match self.call(Verb::Del, plugin, previous, deadline).await {
                Err(error) if error.is_endless_plugin() || absent == Absent::IsSkipped && error.is_absent_plugin() => {
                    let sandbox = &self.parameters.container_id;
                    tracing::warn!(sandbox, %error, "GIVING UP: the sandbox's network is taken down without this plugin; what it made may be left behind");
                }
                deleted => _ = deleted?,
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        verb: Verb,
        plugin: &Plugin,
        previous: Option<&Map<String, Value>>,
        deadline: Deadline,
    ) -> Result<Vec<u8>, Error> {
        let failed = |failure| self.failed(plugin, verb, failure);
        let environment = self.parameters.environment(verb, self.netns, self.plugins.bin);
        let request = self.parameters.request(self.list, plugin, previous);
        let (sandbox, begun) = (&self.parameters.container_id, Instant::now());
        let span = debug_span!("cni", sandbox, network = self.list.name, plugin = plugin.kind, ?verb);
        let timed = async {
            let ended = self.plugins.call((&plugin.kind, verb), environment, &request, deadline).await;
            debug!(took = ?begun.elapsed(), passed = ended.is_ok(), "plugin ended");
            ended
        };
        timed.instrument(span).await.map_err(|failure| failed(self.explain(plugin, failure)))
    }

    /// A plugin whose own IPAM plugin is missing says so in its own words; this way it is told from other refusals.
    fn explain(&self, plugin: &Plugin, failure: Failure) -> Failure {
        let has_answered = matches!(failure, Failure::Refused { .. } | Failure::Died { .. });
        match plugin
            .delegate()
            .filter(|_| has_answered)
            .map(|delegate| (delegate, plugin::find(delegate, self.plugins.bin)))
        {
            Some((delegate, Err(Failure::NotFound { dirs }))) => {
                Failure::Alone { delegate: delegate.to_owned(), dirs, source: Box::new(failure) }
            }
            _ => failure,
        }
    }

    fn failed(&self, plugin: &Plugin, verb: Verb, source: Failure) -> Error {
        Error::Plugin { culprit: self.list.culprit(plugin), verb, source: Box::new(source) }
    }
}
