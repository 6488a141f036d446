//! Port of `workspace`: the only room that runs git. Repositories, workspaces, snapshots, diffs, landing.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    BoxFuture,
    sandbox::{Confinement, Tree},
};
use crate::{
    Fault,
    brief::LandingMethod,
    environment::EnvironmentId,
    ids::{AttemptKey, CommitId, RepositoryId, TaskId, TurnNo},
    redact::Redactor,
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

/// What a workspace is laid out with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Under the workspace lies this layer of installed dependencies and caches, and under HOME its HOME.
    pub environment: Option<EnvironmentId>,
    /// Plain processes cannot be given layers: they get a copy.
    pub confinement: Confinement,
}

#[derive(Clone, Debug)]
pub struct PrepareRequest {
    pub repository: Repository,
    pub key: AttemptKey,
    /// The base, or a snapshot when rebuilt.
    pub commit: CommitId,
    pub surroundings: Surroundings,
}

/// A workspace (or a throw-away checkout) that is ready for a sandbox.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The checkout, with its own `.git` on branch `overnight/T-12`.
    pub root: Tree,
    /// HOME, kept for the attempt's life.
    pub home: Tree,
    /// Host directory for the sandbox's own things.
    pub scratch: PathBuf,
    /// Host paths the sandbox must show read-only for `root/.git` to work.
    pub readable: Vec<PathBuf>,
    /// Host directory for spilled output.
    pub spill: PathBuf,
    /// The lock file for the sandbox.
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
    /// What must not get into a commit: it is replaced in the content of files.
    pub redactor: Arc<Redactor>,
}

/// A throw-away checkout of a commit for one check run. Removed by [`Workspaces::discard_checkout`], and at start-up when stale.
#[derive(Clone, Debug)]
pub struct CheckoutRequest {
    pub repository: Repository,
    pub commit: CommitId,
    /// Take paths that match these globs from this commit instead (present, absent and mode alike).
    pub protect: Option<(CommitId, Vec<String>)>,
    /// Unique among live checkouts; letters, digits, `.` and `-`.
    pub name: String,
    pub surroundings: Surroundings,
}

/// Where an environment layer is to be built: a workspace of `base` whose writable side becomes the layer.
#[derive(Clone, Debug)]
pub struct RaiseRequest {
    pub repository: Repository,
    pub base: CommitId,
    pub id: EnvironmentId,
    /// An older layer to start from: what is there need not be made again.
    pub over: Option<EnvironmentId>,
    /// Plain processes cannot be given layers: they build in a copy.
    pub confinement: Confinement,
}

/// An immutable layer of what an environment's installation made: files that the base does not track, and a HOME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentLayer {
    pub id: EnvironmentId,
    pub base: CommitId,
    pub frozen_at: jiff::Timestamp,
    /// On disk, of this layer alone.
    pub bytes: u64,
    /// Kept for the room `environments`, as it gave it.
    pub about: String,
    /// Live workspaces and checkouts over it.
    pub users: u32,
}

/// What layers and workspaces hold on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    pub layers: u32,
    pub layer_bytes: u64,
    /// The bound for `layer_bytes` that collection aims at.
    pub budget_bytes: u64,
    pub workspaces: u32,
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

/// A line of a file at a commit, and the commit that it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlamedLine {
    /// Where the repository's history is cut: the first commit after the cut, for all that is older.
    pub commit: CommitId,
    /// From 1.
    pub line: u32,
    /// Without its end of line; lossy where it is not UTF-8, cut at 2,000 characters.
    pub text: String,
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

    /// Makes the attempt's workspace: in constant time over layers, where the machine and the confinement allow it. One that exists
    /// is kept as it is, whatever is in it: after a crash the surviving files are the work.
    fn prepare(&self, request: PrepareRequest) -> BoxFuture<'_, Result<Prepared, Fault>>;

    /// Commits what is in the workspace now. The ref moves; older snapshots of other turns stay. The content is durable when it
    /// returns. Equal requests over an equal tree give the same commit.
    fn snapshot(&self, request: SnapshotRequest) -> BoxFuture<'_, Result<Snapshot, Fault>>;

    /// Removes the workspace after proving that `snapshot` holds everything in it that is not ignored. `Conflict` when it does not
    /// (nothing is removed then), and keeps its HOME for the attempt's next workspace: the agent's session is in it. Done already: Ok.
    /// `None`: nothing of it is wanted, HOME included, as its snapshots are in the store.
    fn release(
        &self,
        repository: Repository,
        key: AttemptKey,
        snapshot: Option<CommitId>,
    ) -> BoxFuture<'_, Result<(), Fault>>;

    fn checkout(&self, request: CheckoutRequest) -> BoxFuture<'_, Result<Prepared, Fault>>;

    /// By the name it was asked for with.
    fn discard_checkout(&self, name: String) -> BoxFuture<'_, ()>;

    /// Lays out the place where an environment is built; what an earlier try left is removed first.
    fn raise(&self, request: RaiseRequest) -> BoxFuture<'_, Result<Prepared, Fault>>;

    /// Makes a raised place an immutable layer, once no process writes it any more. Paths that the base tracks and `.git` are left
    /// out; the first few of them that had changed are returned, and are in the layer as the base has them, newer than all else. A layer of this id that is there already stays.
    fn freeze(
        &self,
        repository: Repository,
        id: EnvironmentId,
        about: String,
    ) -> BoxFuture<'_, Result<Vec<String>, Fault>>;

    /// Removes a raised place that comes to nothing, or a layer; `Conflict` while something uses it.
    fn remove_environment(&self, repository: Repository, id: EnvironmentId) -> BoxFuture<'_, Result<(), Fault>>;

    /// Newest first.
    fn environments(&self, repository: Repository) -> BoxFuture<'_, Result<Vec<EnvironmentLayer>, Fault>>;

    /// Whether a layer that was built on another base may lie under a workspace of this one: every file that differs between the
    /// two bases will look newer than what was built from it. Makes the base's own layer where it is not there yet.
    fn serves(&self, repository: Repository, id: EnvironmentId, base: CommitId) -> BoxFuture<'_, Result<bool, Fault>>;

    fn disk_use(&self) -> BoxFuture<'_, Result<DiskUse, Fault>>;

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

    /// Which commit each line of a file came with, in the order of the file. Computed in the store by object ids, of whole lines
    /// and the file's own history through renames. `NotFound` where there is no such regular file; `Input` above 50,000 lines
    /// or 16 MiB.
    fn blame(
        &self,
        repository: Repository,
        commit: CommitId,
        path: String,
    ) -> BoxFuture<'_, Result<Vec<BlamedLine>, Fault>>;

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
