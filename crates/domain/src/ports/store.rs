//! Port of `store`: what must outlive the process. One writer puts every change in order; a durable call resolves after its
//! transaction is on disk, and changes of many tasks may share one.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    BoxFuture,
    agent::{Entry, Transcript},
    model::Credentials,
};
use crate::{
    Fault,
    check::BlobId,
    command::Command,
    event::{Envelope, Receipt},
    ids::{AttemptKey, CommandId, Epoch, TaskId},
    summary::{Phase, Summary},
    task::Task,
};

/// Journal, outbox, timers and projections. Every write is fenced: once a newer epoch was taken on the same home, it fails
/// with class `Fenced`.
pub trait Store: Send + Sync {
    /// The epoch this process took when it opened the store.
    fn epoch(&self) -> Epoch;

    /// A number no task has had. Need not be durable before its first commit.
    fn next_task(&self) -> TaskId;

    /// Writes one event and all that follows from it, in one transaction. Durable when it resolves.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitFault>>;

    /// `None`: no such task.
    fn task(&self, id: TaskId) -> BoxFuture<'_, Result<Option<Task>, Fault>>;

    /// Every command that is not done, by task and command id.
    fn outbox(&self) -> BoxFuture<'_, Result<Vec<OutboxRow>, Fault>>;

    /// Tasks whose earliest timer is due at `until`, and when the next one after that is.
    fn due(&self, until: Timestamp) -> BoxFuture<'_, Result<(Vec<TaskId>, Option<Timestamp>), Fault>>;

    /// A task's events after `after`, at most `limit`.
    fn journal(&self, task: TaskId, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, Fault>>;

    /// Events of all tasks after the global `position`, at most `limit`.
    fn since(&self, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, Fault>>;

    /// The task submitted under this key, and its receipt.
    fn submitted(&self, dedup: String) -> BoxFuture<'_, Result<Option<(TaskId, Receipt)>, Fault>>;

    /// Newest first.
    fn summaries(&self, query: SummaryQuery) -> BoxFuture<'_, Result<Vec<Summary>, Fault>>;

    fn summary(&self, id: TaskId) -> BoxFuture<'_, Result<Option<Summary>, Fault>>;
}

/// One event's transaction. The submission has `expected_seq` 0.
#[derive(Clone, Debug)]
pub struct Commit {
    pub task: TaskId,
    /// The task's sequence number before this event.
    pub expected_seq: u64,
    pub envelope: Envelope,
    pub receipt: Receipt,
    /// The state after it.
    pub state: Task,
    pub summary: Summary,
    pub issued: Vec<(CommandId, Command)>,
    /// Commands that leave the outbox.
    pub retired: Vec<CommandId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Global position of the event, rising over all tasks in commit order.
    pub position: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitFault {
    /// An event with this key is in the journal already (of this task, or for a submission of any).
    #[error("already recorded as event {seq} of {task}")]
    Duplicate { task: TaskId, seq: u64, receipt: Receipt },
    /// The task is not at `expected_seq`: another writer was there. Load it again.
    #[error("the task moved on")]
    Stale,
    #[error(transparent)]
    Port(#[from] Fault),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub task: TaskId,
    pub id: CommandId,
    pub command: Command,
}

/// An event as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub position: u64,
    pub task: TaskId,
    pub envelope: Envelope,
    pub receipt: Receipt,
}

#[derive(Clone, Debug, Default)]
pub struct SummaryQuery {
    /// Empty: all.
    pub phases: Vec<Phase>,
    pub repository: Option<String>,
    /// Only ids below this one.
    pub before: Option<TaskId>,
    pub limit: u32,
}

/// Texts and files by content. Idempotent. Durable when `put` resolves.
pub trait Blobs: Send + Sync {
    fn put(&self, content: Bytes) -> BoxFuture<'_, Result<BlobId, Fault>>;
    /// `NotFound` for an unknown id; `Environment` for content that does not match its id.
    fn get(&self, id: BlobId) -> BoxFuture<'_, Result<Bytes, Fault>>;
}

/// Sealed values. Scope `task/12` is forgotten at the task's end; scope `home` is the installation's own.
pub trait Secrets: Send + Sync {
    fn put(&self, scope: String, values: Credentials) -> BoxFuture<'_, Result<(), Fault>>;
    /// Empty where there are none.
    fn get(&self, scope: String) -> BoxFuture<'_, Result<Credentials, Fault>>;
    fn forget(&self, scope: String) -> BoxFuture<'_, Result<(), Fault>>;
}

/// Transcripts of attempts, for agents to write and people to read.
pub trait Transcripts: Send + Sync {
    fn open(&self, key: AttemptKey) -> Arc<dyn Transcript>;

    /// Entries of all attempts of a task after the global `position`, with position, attempt and time; at most `limit`.
    fn read(&self, task: TaskId, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<TranscriptRow>, Fault>>;

    /// Rings (at most once until asked again) when entries were appended to this task after the call.
    fn changed(&self, task: TaskId) -> BoxFuture<'_, ()>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptRow {
    pub position: u64,
    pub key: AttemptKey,
    pub at: Timestamp,
    pub entry: Entry,
}
