//! People who work by hand in an attempt's workspace: one at a time, and no turn begins meanwhile.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use domain::ids::AttemptKey;
use tokio::sync::Notify;

/// The attempts that somebody has hands on.
#[derive(Debug, Default)]
pub(crate) struct Hands(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    on: Mutex<HashSet<AttemptKey>>,
    left: Notify,
}

/// Hands on one attempt, until dropped.
#[derive(Debug)]
pub(crate) struct HandsOn {
    shared: Arc<Shared>,
    key: AttemptKey,
}

/// Somebody else is at it.
#[derive(Debug)]
pub(crate) struct Taken;

impl Hands {
    pub fn on(&self, key: AttemptKey) -> Result<HandsOn, Taken> {
        let fresh = self.0.on.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        if fresh { Ok(HandsOn { shared: Arc::clone(&self.0), key }) } else { Err(Taken) }
    }

    /// Resolves when nobody has hands on this attempt.
    pub async fn off(&self, key: AttemptKey) {
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            // Before the look, so that no leaving is missed.
            left.as_mut().enable();
            if !self.0.on.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
                return;
            }
            left.await;
        }
    }
}

impl Drop for HandsOn {
    fn drop(&mut self) {
        self.shared.on.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.shared.left.notify_waiters();
    }
}
