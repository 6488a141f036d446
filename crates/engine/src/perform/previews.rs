//! Looks at services of attempts that no turn runs in: a throw-away checkout of the head, with the services of its base's
//! definition, kept until nobody has looked for a while.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use domain::{
    Fault,
    ids::{AttemptKey, CommitId},
    ports::{
        environments::{OpenRequest, Opened, Purpose},
        sandbox::{Limits, Sandbox},
        workspace::{CheckoutRequest, Origin, Surroundings},
    },
};
use tokio::{sync::Mutex, time::Instant};

use super::Site;

/// How long a preview that nobody connects to is kept.
const IDLE: Duration = Duration::from_mins(10);

/// Open previews, one for each attempt.
#[derive(Debug, Default)]
pub(crate) struct Previews {
    open: std::sync::Mutex<HashMap<AttemptKey, Arc<Mutex<Option<Preview>>>>>,
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
    fn slot(&self, key: AttemptKey) -> Arc<Mutex<Option<Preview>>> {
        Arc::clone(self.open.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// The sandbox of the head's services, opened where it is not.
    pub async fn sandbox(&self, site: &Site, subject: Subject) -> Result<(Arc<dyn Sandbox>, Vec<String>), Fault> {
        let slot = self.slot(subject.key);
        let mut slot = slot.lock().await;
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

    /// Closes those that nobody looks at; `all`: every one. Resolves when they are gone.
    pub async fn sweep(&self, site: &Site, which: Sweep) {
        let slots: Vec<_> = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(key, slot)| (*key, Arc::clone(slot)))
            .collect();
        for (key, slot) in slots {
            let mut open = slot.lock().await;
            let due = open.as_ref().is_none_or(|preview| match which {
                Sweep::Idle => preview.last.elapsed() >= IDLE,
                Sweep::All => true,
                Sweep::Of(wanted) => wanted == key,
            });
            if due {
                if let Some(preview) = open.take() {
                    preview.close(site).await;
                }
                self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
        }
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
        let request = OpenRequest {
            repository: origin.repository,
            base: origin.base,
            place,
            purpose: Purpose::Turn,
            confinement,
            env: Vec::new(),
            bridges: Vec::new(),
            refused: Arc::new(|refusal| tracing::info!(?refusal, "a preview was not let through")),
            output_bytes: Limits::default().output_bytes,
        };
        match site.ports.environments.open(request).await {
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
