//! Exits of exec processes, told by the `exec_die` event: whoever started one waits for it here instead of polling.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::id::ExecId;

/// Those who wait for an exec to end. Cheap to clone.
#[derive(Clone, Default)]
pub struct ExecExits {
    waiting: Arc<Mutex<HashMap<ExecId, oneshot::Sender<i32>>>>,
}

impl ExecExits {
    /// Registers interest in an exec; to be called before it is started. The receiver fails if the event stream breaks.
    pub fn expect(&self, exec: &ExecId) -> oneshot::Receiver<i32> {
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
