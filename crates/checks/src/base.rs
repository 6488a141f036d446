//! The base's own results: found once for each (repository, base, check, surroundings), and kept.
//!
//! However many judgements ask at the same time, one runs the check and the others wait for it; when the one is dropped, the
//! next in line takes over. Kept in the cache is only what the commit alone decides: a zero, or failures that all have names.
//! An end that the machine may be to blame for (no such program, no time, a signal, a service that was not ready, an error without a name) is found anew by
//! later judgements, so that a mended machine heals the verdict.

use std::{
    collections::HashMap,
    fmt::Write as _,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use domain::{Fault, check::CheckEnd, environment::EnvironmentId, ports::checks::CheckCache};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::run::{Job, Outcome};

/// Raised when a kept outcome would be read differently.
const FORMAT: &str = "3";

/// Bytes of an outcome worth keeping; a report of more tests than fit is not one of tests.
const LARGEST: usize = 16 << 20;

type Flight = OnceCell<Arc<Outcome>>;

pub(crate) struct Bases {
    cache: Arc<dyn CheckCache>,
    installation: String,
    /// Lives as long as somebody waits for it.
    flights: Mutex<HashMap<String, Weak<Flight>>>,
}

impl std::fmt::Debug for Bases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bases").field("installation", &self.installation).finish_non_exhaustive()
    }
}

impl Bases {
    pub fn new(cache: Arc<dyn CheckCache>, installation: String) -> Self {
        Self { cache, installation, flights: Mutex::default() }
    }

    /// The outcome of `job`: kept, being found by another, or found now by `run`.
    pub async fn outcome<R>(&self, job: &Job, run: impl FnOnce() -> R) -> Result<Arc<Outcome>, Fault>
    where
        R: Future<Output = Result<Outcome, Fault>>,
    {
        let key = self.key(job);
        let flight = self.flight(&key);
        let found = flight.get_or_try_init(|| async {
            if let Some(kept) = self.kept(&key).await {
                return Ok(Arc::new(kept));
            }
            let outcome = run().await?;
            if is_the_commits_own(&outcome) {
                self.keep(&key, &outcome).await;
            }
            Ok::<_, Fault>(Arc::new(outcome))
        });
        found.await.cloned()
    }

    fn flight(&self, key: &str) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        flights.insert(key.to_owned(), Arc::downgrade(&flight));
        flight
    }

    /// A cache that fails costs time, not a verdict.
    async fn kept(&self, key: &str) -> Option<Outcome> {
        match self.cache.get(key.to_owned()).await {
            Ok(value) => value.and_then(|value| serde_json::from_str(&value).ok()),
            Err(fault) => {
                tracing::warn!(%fault, "the kept result of a base's check cannot be read: it runs again");
                None
            }
        }
    }

    async fn keep(&self, key: &str, outcome: &Outcome) {
        let Ok(value) = serde_json::to_string(outcome) else { return };
        if value.len() > LARGEST {
            return;
        }
        if let Err(fault) = self.cache.put(key.to_owned(), value).await {
            tracing::warn!(%fault, "the result of a base's check cannot be kept: it will run again");
        }
    }

    fn key(&self, job: &Job) -> String {
        let mut hash = Sha256::new();
        let environment = job.surroundings.environment.as_ref().map_or("", EnvironmentId::as_str);
        let confinement = format!("{:?}", job.surroundings.confinement);
        let (repository, commit) = (&job.repository.id.0, job.commit.as_str());
        let parts =
            [FORMAT, &self.installation, repository, commit, &job.check.command, environment, confinement.as_str()];
        let env = job.env.iter().flat_map(|(name, value)| [name.as_str(), value]);
        for part in parts.into_iter().chain(env) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().fold("check-".to_owned(), |mut key, byte| {
            let _ = write!(key, "{byte:02x}");
            key
        })
    }
}

/// Whether the same commit would end like this on any sound machine.
fn is_the_commits_own(outcome: &Outcome) -> bool {
    let report = &outcome.report;
    if !outcome.unready.is_empty() {
        return false;
    }
    match outcome.end {
        CheckEnd::Exited(0) => true,
        CheckEnd::Exited(_) => report.failed_names().next().is_some() && report.unnamed.failed == 0 && !report.broken,
        CheckEnd::Signaled(_) | CheckEnd::TimedOut | CheckEnd::NotStarted | CheckEnd::OverQuota | CheckEnd::NotRun => {
            false
        }
    }
}
