//! Looks at services of attempts that no turn runs in: a throw-away checkout of the head, with the services of its base's
//! definition, kept until nobody has looked for a while.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    Fault,
    ids::{AttemptKey, CommitId},
    ports::{
        environments::{OpenRequest, Opened, Purpose},
        sandbox::{Confinement, Limits, Sandbox},
        workspace::{CheckoutRequest, Origin, Prepared, Surroundings},
    },
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use super::{Site, environment::once};

/// How long a preview that nobody connects to is kept.
const IDLE: Duration = Duration::from_mins(10);

/// Of one attempt; held while its preview is opened, looked up or closed.
type Slot = Arc<Mutex<Option<Preview>>>;

/// Open previews, one for each attempt.
#[derive(Debug, Default)]
pub(crate) struct Previews {
    slots: std::sync::Mutex<HashMap<AttemptKey, Slot>>,
}

pub(crate) struct Preview {
    head: CommitId,
    checkout: String,
    pub sandbox: Arc<dyn Sandbox>,
    pub notes: Vec<String>,
    last: Instant,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preview").field("checkout", &self.checkout).finish_non_exhaustive()
    }
}

/// What is to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub key: AttemptKey,
    pub origin: Origin,
    pub head: CommitId,
    pub surroundings: Surroundings,
}

impl Previews {
    /// The slot of an attempt, once nobody else holds it.
    async fn slot(&self, key: AttemptKey) -> OwnedMutexGuard<Option<Preview>> {
        loop {
            let slot = Arc::clone(self.slots().entry(key).or_default());
            let held = Arc::clone(&slot).lock_owned().await;
            // Whoever held it before may have cleared it away: what is put into such a one, nobody finds again.
            if self.slots().get(&key).is_some_and(|now| Arc::ptr_eq(now, &slot)) {
                return held;
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<AttemptKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sandbox of the head's services, opened where it is not. It stays open while the handle that is given is kept.
    pub async fn sandbox(&self, site: &Site, subject: Subject) -> Result<(Arc<dyn Sandbox>, Vec<String>), Fault> {
        let mut slot = self.slot(subject.key).await;
        if slot.as_ref().is_some_and(|preview| preview.head != subject.head)
            && let Some(old) = slot.take()
        {
            old.close(site).await;
        }
        let preview = match slot.as_mut() {
            Some(preview) => preview,
            None => slot.insert(Preview::open(site, subject).await?),
        };
        preview.last = Instant::now();
        Ok((Arc::clone(&preview.sandbox), preview.notes.clone()))
    }

    /// Closes those that are due. Resolves when they are gone.
    pub async fn sweep(&self, site: &Site, which: Sweep) {
        let keys: Vec<AttemptKey> = match which {
            Sweep::Of(key) => self.slots().contains_key(&key).then_some(key).into_iter().collect(),
            Sweep::Idle | Sweep::All => self.slots().keys().copied().collect(),
        };
        for key in keys {
            let mut slot = self.slot(key).await;
            if which == Sweep::Idle && slot.as_mut().is_some_and(|preview| !preview.is_idle()) {
                continue;
            }
            if let Some(preview) = slot.take() {
                preview.close(site).await;
            }
            self.slots().remove(&key);
        }
    }
}

/// A sandbox as a turn has it, for a person: no agent's model leads into it, and what is refused is told in the log.
pub(crate) fn opening(origin: &Origin, place: Prepared, confinement: Confinement) -> OpenRequest {
    OpenRequest {
        repository: origin.repository.clone(),
        base: origin.base.clone(),
        place,
        purpose: Purpose::Turn,
        confinement,
        env: Vec::new(),
        programs: Vec::new(),
        allow: Vec::new(),
        bridges: Vec::new(),
        refused: once(|refusal| tracing::info!(?refusal, "a person's sandbox was not let through")),
        output_bytes: Limits::default().output_bytes,
    }
}

/// Which previews end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    Idle,
    Of(AttemptKey),
    All,
}

impl Preview {
    /// Whether nobody has looked for a while. A connection that lasts is one long look.
    fn is_idle(&mut self) -> bool {
        if Arc::strong_count(&self.sandbox) > 1 {
            self.last = Instant::now();
        }
        self.last.elapsed() >= IDLE
    }

    async fn open(site: &Site, subject: Subject) -> Result<Self, Fault> {
        let Subject { key, origin, head, surroundings } = subject;
        let confinement = surroundings.confinement;
        let name = format!("preview-{key}");
        let request = CheckoutRequest {
            repository: origin.repository.clone(),
            commit: head.clone(),
            protect: None,
            name: name.clone(),
            surroundings,
        };
        let place = site.ports.workspaces.checkout(request).await?;
        match site.ports.environments.open(opening(&origin, place, confinement)).await {
            Ok(Opened { sandbox, notes }) => Ok(Self { head, checkout: name, sandbox, notes, last: Instant::now() }),
            Err(fault) => {
                site.ports.workspaces.discard_checkout(name).await;
                Err(fault)
            }
        }
    }

    async fn close(self, site: &Site) {
        self.sandbox.kill().await;
        site.ports.workspaces.discard_checkout(self.checkout).await;
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{AttemptNo, TaskId};
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_slot_that_is_cleared_away_gets_another() {
        let (previews, key) = (Previews::default(), AttemptKey { task: TaskId(1), attempt: AttemptNo(1) });
        let held = previews.slot(key).await;
        let waiting = previews.slot(key);
        tokio::pin!(waiting);
        assert!(poll!(&mut waiting).is_pending());
        previews.slots().remove(&key);
        drop(held);
        let _held = waiting.await;
        assert!(previews.slots()[&key].try_lock().is_err(), "it is the one that others find");
    }
}
