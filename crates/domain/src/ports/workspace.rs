//! Port of `workspace`: the only room that runs git. Repositories, workspaces, snapshots, diffs, landing.

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::{
    Fault,
    brief::LandingMethod,
    ids::{AttemptKey, CommitId, RepositoryId, TaskId, TurnNo},
};

/// A repository as Overnight knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Repository {
    pub id: RepositoryId,
    /// The absolute path a person named (its top level, or the bare repository).
    pub path: PathBuf,
}

/// What a task starts from, fixed at submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub repository: Repository,
    /// Already kept in Overnight's own store when `resolve` returns: the user's repository may lose it afterwards.
    pub base: CommitId,
    /// The branch to land on, without `refs/heads/`. `None` (detached head, remote base): the result is `overnight/T-12`.
    pub target: Option<String>,
    /// Things a person should know: shallow clone, submodules left empty, LFS pointers, detached head. One sentence each.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct ResolveRequest {
    /// Any directory inside a work tree, or a bare repository.
    pub directory: PathBuf,
    /// A revision; `None` is `HEAD`.
    pub base: Option<String>,
    /// A branch name; `None` is the current branch, or none when `base` is given and is not a local branch.
    pub into: Option<String>,
    /// Hand over uncommitted work (tracked changes and untracked, unignored files): the base becomes a commit of it on
    /// `HEAD`. The work tree, its index and its refs are left as they are.
    pub wip: Wip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wip {
    #[default]
    Leave,
    HandOver,
}

/// A workspace that is ready for an attempt.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Host directory of the checkout, with its own `.git` on branch `overnight/T-12`.
    pub root: PathBuf,
    /// Host directory for the attempt's HOME, kept for the attempt's life.
    pub home: PathBuf,
    /// Host paths the sandbox must show read-only for `root/.git` to work.
    pub readable: Vec<PathBuf>,
    /// Host directory for spilled output.
    pub spill: PathBuf,
    /// The lock file for the attempt's sandbox.
    pub lock: PathBuf,
}

/// An immutable commit of a workspace: one commit on the base, under `refs/overnight/<task>/<attempt>/<turn>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub commit: CommitId,
    /// Whether its tree equals the base's.
    pub empty: bool,
    pub stat: DiffStat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStat {
    pub files: u32,
    pub added: u32,
    pub deleted: u32,
}

#[derive(Clone, Debug)]
pub struct SnapshotRequest {
    pub repository: Repository,
    pub key: AttemptKey,
    pub turn: TurnNo,
    pub base: CommitId,
    /// Commit message; the trailers are in it already.
    pub message: String,
    /// Author and committer time, so that the same tree gives the same commit.
    pub at: jiff::Timestamp,
}

/// A throw-away checkout of a commit for one check run. Removed by [`Workspaces::discard_checkout`], and at start-up when stale.
#[derive(Clone, Debug)]
pub struct Checkout {
    pub root: PathBuf,
    pub home: PathBuf,
    pub readable: Vec<PathBuf>,
    pub spill: PathBuf,
    pub lock: PathBuf,
}

#[derive(Clone, Debug)]
pub struct CheckoutRequest {
    pub repository: Repository,
    pub commit: CommitId,
    /// Take paths that match these globs from this commit instead (present, absent and mode alike).
    pub protect: Option<(CommitId, Vec<String>)>,
    /// Unique among live checkouts; letters, digits, `.` and `-`.
    pub name: String,
}

/// One changed path between two commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedPath {
    /// Lossy where the name is not UTF-8.
    pub path: String,
    pub kind: ChangeKind,
    pub added: u32,
    pub deleted: u32,
    pub binary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    TypeChanged,
}

#[derive(Clone, Debug)]
pub struct LandRequest {
    pub task: TaskId,
    pub repository: Repository,
    pub base: CommitId,
    /// The commit that was approved (or re-checked after the target moved).
    pub head: CommitId,
    pub target: Option<String>,
    pub method: LandingMethod,
    /// The message of the landed commit where a new one is made; ends with the `Overnight-Task:` trailer.
    pub message: String,
    /// Who approved, as author and committer fall-back where the repository has no identity, and when: the same request makes
    /// the same commit.
    pub approver: String,
    pub at: jiff::Timestamp,
    /// A combined commit (from an earlier `Moved`) whose checks were green: it may be landed if the target still is its parent.
    pub rechecked: Option<CommitId>,
}

/// What came of a landing. Every outcome but `Moved` and `Conflict` is an effect that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Landing {
    /// `target` now holds `commit`.
    Landed { target: String, commit: CommitId },
    /// The target was left alone; the change is on `branch`, and `hint` is the one line that merges it.
    LeftOnBranch { branch: String, commit: CommitId, hint: String, why: String },
    /// The target has moved on; `combined` is the clean merge with it, kept in the store, to be checked before it lands.
    Moved { combined: CommitId, target_head: CommitId },
    /// The target has moved on and does not merge.
    Conflict { paths: Vec<String>, target_head: CommitId },
}

/// See the module. All paths handed out are absolute. Nothing here executes what a repository or workspace contains:
/// no hook, filter, driver, alias, fsmonitor, credential helper or configured program; and no git process of the host
/// trusts a directory that an agent can write.
pub trait Workspaces: Send + Sync {
    /// `Input`: not a repository, no commit yet, unknown base, unknown branch.
    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Origin, Fault>>;

    /// A scratch repository (empty base commit) for a report task that has no repository.
    fn scratch(&self, task: TaskId) -> BoxFuture<'_, Result<Origin, Fault>>;

    /// Makes the attempt's workspace from `commit` (the base, or a snapshot when rebuilt). One that exists is kept as it is,
    /// whatever is in it: after a crash the surviving files are the work.
    fn prepare(
        &self,
        repository: Repository,
        key: AttemptKey,
        commit: CommitId,
    ) -> BoxFuture<'_, Result<Prepared, Fault>>;

    /// Commits what is in the workspace now. The ref moves; older snapshots of other turns stay. The content is durable when it
    /// returns. Equal requests over an equal tree give the same commit.
    fn snapshot(&self, request: SnapshotRequest) -> BoxFuture<'_, Result<Snapshot, Fault>>;

    /// Removes the workspace after proving that `snapshot` holds everything in it that is not ignored. `Conflict` when it does not
    /// (nothing is removed then). Done already: Ok. `None`: nothing of it is wanted, as its snapshots are in the store.
    fn release(
        &self,
        repository: Repository,
        key: AttemptKey,
        snapshot: Option<CommitId>,
    ) -> BoxFuture<'_, Result<(), Fault>>;

    fn checkout(&self, request: CheckoutRequest) -> BoxFuture<'_, Result<Checkout, Fault>>;

    fn discard_checkout(&self, checkout: Checkout) -> BoxFuture<'_, ()>;

    /// Unified diff with `a/` and `b/` prefixes, full object names, binary files as git binary patches.
    fn diff(&self, repository: Repository, from: CommitId, to: CommitId) -> BoxFuture<'_, Result<Bytes, Fault>>;

    fn changed_paths(
        &self,
        repository: Repository,
        from: CommitId,
        to: CommitId,
    ) -> BoxFuture<'_, Result<Vec<ChangedPath>, Fault>>;

    /// The content of a file at a commit; `None` where there is none (or it is not a regular file). At most `max` bytes.
    fn read(
        &self,
        repository: Repository,
        commit: CommitId,
        path: String,
        max: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>, Fault>>;

    /// Names of the entries of a directory at a commit (`""` is the root); empty where there is none.
    fn list(
        &self,
        repository: Repository,
        commit: CommitId,
        directory: String,
    ) -> BoxFuture<'_, Result<Vec<String>, Fault>>;

    /// Lands a head. Exactly once: an effect that is already there is reported, not repeated.
    fn land(&self, request: LandRequest) -> BoxFuture<'_, Result<Landing, Fault>>;

    /// Puts `head` on branch `overnight/T-12` of the repository at `directory` and checks it out when that work tree is clean.
    /// Returns lines for the person: where it is, how to go back.
    fn pull(
        &self,
        directory: PathBuf,
        repository: Repository,
        task: TaskId,
        head: CommitId,
    ) -> BoxFuture<'_, Result<Vec<String>, Fault>>;

    /// Removes every trace of the task outside the private store: workspaces, checkouts, branch `overnight/T-12`.
    /// Snapshots stay in the private store.
    fn discard(&self, repository: Repository, task: TaskId) -> BoxFuture<'_, Result<(), Fault>>;

    /// Forgets the task's snapshots too.
    fn purge(&self, repository: Repository, task: TaskId) -> BoxFuture<'_, Result<(), Fault>>;
}
