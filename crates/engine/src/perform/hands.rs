//! Whose hands are on an attempt's workspace: a person's, one at a time, while no turn begins; or Overnight's own, while it removes
//! what no person is at.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{ids::AttemptKey, ports::sandbox::Sandbox};
use tokio::sync::Notify;

/// The attempts that somebody has hands on.
#[derive(Debug, Default)]
pub(crate) struct Hands(Arc<Shared>);

#[derive(Default)]
struct Shared {
    on: Mutex<HashMap<AttemptKey, Whose>>,
    changed: Notify,
}

enum Whose {
    /// In this sandbox, once it is open.
    Person(Option<Arc<dyn Sandbox>>),
    Overnights,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Hands on one attempt, until dropped.
#[derive(Debug)]
pub(crate) struct HandsOn {
    shared: Arc<Shared>,
    key: AttemptKey,
}

/// Another person is at it.
#[derive(Debug)]
pub(crate) struct Taken;

impl Hands {
    /// A person's. Waits while Overnight has its own on it.
    pub async fn on(&self, key: AttemptKey) -> Result<HandsOn, Taken> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Before the look, so that no change is missed.
            changed.as_mut().enable();
            match self.lay(key, Whose::Person(None)) {
                Ok(hands) => return Ok(hands),
                Err(Taken) if self.is_taken(key) => return Err(Taken),
                Err(Taken) => changed.await,
            }
        }
    }

    /// Overnight's own, unless a person's are on it.
    pub fn own(&self, key: AttemptKey) -> Result<HandsOn, Taken> {
        self.lay(key, Whose::Overnights)
    }

    /// Resolves when nobody has hands on this attempt.
    pub async fn off(&self, key: AttemptKey) {
        self.until_off(key, false).await;
    }

    /// Overnight's own. The sandbox of a person whose are on it is ended, and they keep what they did first.
    pub async fn seize(&self, key: AttemptKey) -> HandsOn {
        loop {
            self.until_off(key, true).await;
            if let Ok(hands) = self.own(key) {
                return hands;
            }
        }
    }

    async fn until_off(&self, key: AttemptKey, ending: bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let sandbox = match self.0.on.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
                None => return,
                Some(Whose::Person(sandbox)) => sandbox.clone().filter(|_| ending),
                Some(Whose::Overnights) => None,
            };
            if let Some(sandbox) = sandbox {
                sandbox.kill().await;
            }
            changed.await;
        }
    }

    fn lay(&self, key: AttemptKey, whose: Whose) -> Result<HandsOn, Taken> {
        let mut on = self.0.on.lock().unwrap_or_else(PoisonError::into_inner);
        if on.contains_key(&key) {
            return Err(Taken);
        }
        on.insert(key, whose);
        Ok(HandsOn { shared: Arc::clone(&self.0), key })
    }

    fn is_taken(&self, key: AttemptKey) -> bool {
        matches!(self.0.on.lock().unwrap_or_else(PoisonError::into_inner).get(&key), Some(Whose::Person(_)))
    }
}

impl HandsOn {
    /// Where the person works: [`Hands::seize`] ends it.
    pub fn in_sandbox(&self, sandbox: Arc<dyn Sandbox>) {
        let mut on = self.shared.on.lock().unwrap_or_else(PoisonError::into_inner);
        on.insert(self.key, Whose::Person(Some(sandbox)));
        drop(on);
        self.shared.changed.notify_waiters();
    }
}

impl Drop for HandsOn {
    fn drop(&mut self) {
        self.shared.on.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.shared.changed.notify_waiters();
    }
}
