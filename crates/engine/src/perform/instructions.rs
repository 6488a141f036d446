//! What a repository tells agents: AGENTS.md at the base, read once per base.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Fault,
    ids::{CommitId, RepositoryId},
    ports::workspace::{Repository, Workspaces},
};

/// The file's name, in the root of a repository.
pub(crate) const FILE: &str = "AGENTS.md";
/// The longest instructions that an agent is given.
const BYTES: usize = 32 << 10;
/// Bases remembered; when full, all are forgotten (they are cheap to read again).
const REMEMBERED: usize = 64;

type Known = HashMap<(RepositoryId, CommitId), Option<Arc<str>>>;

#[derive(Debug, Default)]
pub(crate) struct Instructions(Mutex<Known>);

impl Instructions {
    pub async fn of(
        &self,
        workspaces: &Arc<dyn Workspaces>,
        repository: &Repository,
        base: &CommitId,
    ) -> Result<Option<Arc<str>>, Fault> {
        let key = (repository.id.clone(), base.clone());
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let content = workspaces.read(repository.clone(), base.clone(), FILE.to_owned(), BYTES).await?;
        let text = content.map(|content| Arc::from(String::from_utf8_lossy(&content).as_ref()));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, text.clone());
        Ok(text)
    }
}
