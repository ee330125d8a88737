//! Exits of exec processes, told by the `exec_die` event: whoever started one waits for it here instead of polling.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Index;
use crate::engine;
use crate::id::ExecId;

/// How long the event is trusted to come before the Engine is asked, at first; then twice as long each time.
const BACKSTOP: Duration = Duration::from_secs(2);
/// And at most.
const SELDOM: Duration = Duration::from_secs(60);
/// How long it may lag behind the end of the output.
const LAG: Duration = Duration::from_millis(100);

/// The exit code to come: by event, and from the Engine when none comes.
pub struct ExecExit {
    index: Index,
    exec: ExecId,
    told: oneshot::Receiver<i32>,
    patience: Duration,
}

impl ExecExit {
    /// The process's output has ended: the event must be near, and a command that could not be run has none.
    pub fn is_near(&mut self) {
        self.patience = LAG;
    }

    /// Waits for it. Safe to drop while waiting.
    pub async fn code(&mut self) -> Result<i32, engine::Error> {
        loop {
            match timeout(self.patience, &mut self.told).await {
                Ok(Ok(code)) => return Ok(code),
                // the event stream broke: the next one may tell
                Ok(Err(_)) => self.told = self.index.inner.execs.expect(&self.exec),
                Err(_) => {}
            }
            let inspect = self.index.inner.engine.inspect_exec(&self.exec).await?;
            match inspect.exit_code {
                Some(code) if !inspect.running => return Ok(code),
                _ => self.patience = (self.patience * 2).clamp(BACKSTOP, SELDOM),
            }
        }
    }
}

/// Those who wait for an exec to end.
#[derive(Clone, Default)]
pub(super) struct ExecExits {
    waiting: Arc<Mutex<HashMap<ExecId, oneshot::Sender<i32>>>>,
}

impl ExecExits {
    /// Registers interest in an exec; to be called before it is started. The receiver fails if the event stream breaks.
    fn expect(&self, exec: &ExecId) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| !sender.is_closed());
        waiting.insert(exec.clone(), sender);
        receiver
    }

    /// Tells the exit code to whoever waits for it.
    pub(super) fn ended(&self, exec: &str, exit_code: i32) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.remove(exec) {
            let _ = sender.send(exit_code);
        }
    }

    /// The event stream broke: everybody must look for himself.
    pub(super) fn forget_all(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Index {
    /// The exit code that an exec will have; to be asked for before it is started.
    pub fn exec_exit(&self, exec: &ExecId) -> ExecExit {
        let told = self.inner.execs.expect(exec);
        ExecExit { index: self.clone(), exec: exec.clone(), told, patience: BACKSTOP }
    }
}
