//! Port of `checks`: runs the judging commands on exact commits and says what they mean.

use super::{
    BoxFuture,
    workspace::{Repository, Surroundings},
};
use crate::{
    Fault,
    check::{CheckSpec, Judgement},
    ids::{AttemptKey, CommitId},
};

pub trait Checks: Send + Sync {
    /// The checks a base suggests when nobody named any (Cargo, npm, pytest, Go, Make …), best first; empty where none is found.
    fn detect(&self, repository: Repository, base: CommitId) -> BoxFuture<'_, Result<Vec<CheckSpec>, Fault>>;

    /// Runs every check on `head` in fresh checkouts, and on `base` once per (base, check), cached. Reads nothing that the agent
    /// wrote but the commit. Repeatable: the same request may be judged again after a crash.
    fn judge(&self, request: JudgeRequest) -> BoxFuture<'_, Result<Judgement, Fault>>;
}

#[derive(Clone, Debug)]
pub struct JudgeRequest {
    pub key: AttemptKey,
    pub repository: Repository,
    pub base: CommitId,
    pub head: CommitId,
    pub checks: Vec<CheckSpec>,
    pub allowed_paths: Vec<String>,
    pub protected_paths: Vec<String>,
    pub surroundings: Surroundings,
    /// Given to the commands besides the sandbox's own variables.
    pub env: Vec<(String, String)>,
}

/// The cache of base results, implemented by `store`; a value is opaque to it.
pub trait CheckCache: Send + Sync {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<String>, Fault>>;
    fn put(&self, key: String, value: String) -> BoxFuture<'_, Result<(), Fault>>;
}
