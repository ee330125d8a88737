//! Our own log: text or JSON on stderr, at a level that can be changed while we run. What is worth a line is for others to know.

use std::io;

use tracing::Level;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use crate::config::LoggingFormat;

/// The log that is written to.
#[derive(Clone)]
pub struct Journal {
    filter: reload::Handle<Targets, Registry>,
}

impl Journal {
    /// Writes to stderr from now on; for the whole process, and so only once.
    pub fn open(level: Level, format: LoggingFormat) -> Result<Journal, SetGlobalDefaultError> {
        let (filter, handle) = reload::Layer::new(targets(level));
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let lines = match format {
            LoggingFormat::Text => lines.boxed(),
            LoggingFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        };
        tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines))?;
        Ok(Journal { filter: handle })
    }

    /// Tells more, or less, from now on.
    pub fn set_level(&self, level: Level) {
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::warn!(%error, "the level of the log stays as it was");
        }
    }
}

/// Our own lines at the level asked for; those of libraries only if they are warnings.
fn targets(level: Level) -> Targets {
    Targets::new().with_target("dockershim", level).with_default(level.min(Level::WARN))
}
