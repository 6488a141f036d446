//! Who waits for news of which task's transcript.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{ids::TaskId, ports::BoxFuture};
use tokio::sync::Notify;

/// One bell for each task somebody asked about; it is taken down when it rings.
#[derive(Debug, Default)]
pub(crate) struct Bells(Mutex<HashMap<TaskId, Arc<Notify>>>);

impl Bells {
    /// Resolves at the first ring after this call, not after the first poll.
    pub fn wait(&self, task: TaskId) -> BoxFuture<'static, ()> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Box::pin(Arc::clone(bells.entry(task).or_default()).notified_owned())
    }

    pub fn ring(&self, task: TaskId) {
        let bell = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
        if let Some(bell) = bell {
            bell.notify_waiters();
        }
    }
}
