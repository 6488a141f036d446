//! A store in memory. It survives the engine, so that a new one can be started on it, as after a crash.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use domain::{
    Fault,
    budget::{Amount, Spend},
    check::BlobId,
    command::Command,
    event::Receipt,
    ids::{AttemptKey, CommandId, Epoch, TaskId},
    ports::{
        BoxFuture,
        agent::{Entry, Transcript},
        ledger::{Ledger, OverBudget, Reservation, Settlement},
        model::Credentials,
        record::{Exchange, Records},
        store::{
            Blobs, Commit, CommitFault, Committed, OutboxRow, Recorded, Secrets, Store, SummaryQuery, TranscriptRow,
            Transcripts,
        },
    },
    summary::Summary,
    task::Task,
};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{locked, ready};

#[derive(Debug, Default)]
struct State {
    tasks: BTreeMap<TaskId, Task>,
    summaries: BTreeMap<TaskId, Summary>,
    journal: Vec<Recorded>,
    outbox: BTreeMap<(TaskId, CommandId), Command>,
    entries: Vec<TranscriptRow>,
    blobs: HashMap<BlobId, Bytes>,
    secrets: HashMap<String, Credentials>,
    exchanges: Vec<(AttemptKey, Exchange)>,
    refuse: Option<Fault>,
}

/// All storing ports in one. `Clone` is another handle on the same memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    last_task: Arc<AtomicU64>,
    appended: Arc<Notify>,
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// From now on every commit fails with this fault; `None` lets them pass again.
    pub fn refuse_commits(&self, fault: Option<Fault>) {
        self.state().refuse = fault;
    }

    /// The journal of a task, event names only.
    pub fn events(&self, task: TaskId) -> Vec<&'static str> {
        self.state().journal.iter().filter(|row| row.task == task).map(|row| row.envelope.event.name()).collect()
    }

    fn write(&self, commit: Commit) -> Result<Committed, CommitFault> {
        let mut state = self.state();
        if let Some(fault) = &state.refuse {
            return Err(fault.clone().into());
        }
        let same = |row: &&Recorded| {
            row.envelope.dedup == commit.envelope.dedup
                && (row.task == commit.task || (commit.expected_seq == 0 && row.envelope.seq == 1))
        };
        if let Some(row) = state.journal.iter().find(same) {
            return Err(CommitFault::Duplicate { task: row.task, seq: row.envelope.seq, receipt: row.receipt.clone() });
        }
        if state.tasks.get(&commit.task).map_or(0, |task| task.seq) != commit.expected_seq {
            return Err(CommitFault::Stale);
        }
        let position = state.journal.len() as u64 + 1;
        let Commit { task, envelope, receipt, state: after, summary, issued, retired, .. } = commit;
        state.journal.push(Recorded { position, task, envelope, receipt });
        state.tasks.insert(task, after);
        state.summaries.insert(task, summary);
        state.outbox.extend(issued.into_iter().map(|(id, command)| ((task, id), command)));
        for id in retired {
            state.outbox.remove(&(task, id));
        }
        Ok(Committed { position })
    }
}

impl Store for MemoryStore {
    fn epoch(&self) -> Epoch {
        Epoch(1)
    }

    fn next_task(&self) -> TaskId {
        TaskId(self.last_task.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitFault>> {
        let written = self.write(commit);
        // As in a real store, the answer comes after the fact: whoever asked may have gone by then.
        Box::pin(async {
            tokio::task::yield_now().await;
            written
        })
    }

    fn task(&self, id: TaskId) -> BoxFuture<'_, Result<Option<Task>, Fault>> {
        ready(Ok(self.state().tasks.get(&id).cloned()))
    }

    fn outbox(&self) -> BoxFuture<'_, Result<Vec<OutboxRow>, Fault>> {
        let row =
            |(&(task, id), command): (&(TaskId, CommandId), &Command)| OutboxRow { task, id, command: command.clone() };
        ready(Ok(self.state().outbox.iter().map(row).collect()))
    }

    fn due(&self, until: Timestamp) -> BoxFuture<'_, Result<(Vec<TaskId>, Option<Timestamp>), Fault>> {
        let state = self.state();
        let wakes = || state.tasks.values().filter_map(|task| task.wake_at().map(|at| (task.id, at)));
        let due = wakes().filter(|(_, at)| *at <= until).map(|(id, _)| id).collect();
        ready(Ok((due, wakes().map(|(_, at)| at).filter(|at| *at > until).min())))
    }

    fn journal(&self, task: TaskId, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, Fault>> {
        let state = self.state();
        let rows = state.journal.iter().filter(|row| row.task == task && row.envelope.seq > after);
        ready(Ok(rows.take(limit as usize).cloned().collect()))
    }

    fn since(&self, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, Fault>> {
        let state = self.state();
        let rows = state.journal.iter().filter(|row| row.position > position);
        ready(Ok(rows.take(limit as usize).cloned().collect()))
    }

    fn submitted(&self, dedup: String) -> BoxFuture<'_, Result<Option<(TaskId, Receipt)>, Fault>> {
        let state = self.state();
        let row = state.journal.iter().find(|row| row.envelope.seq == 1 && row.envelope.dedup == dedup);
        ready(Ok(row.map(|row| (row.task, row.receipt.clone()))))
    }

    fn summaries(&self, query: SummaryQuery) -> BoxFuture<'_, Result<Vec<Summary>, Fault>> {
        let state = self.state();
        let wanted = |summary: &&Summary| {
            (query.phases.is_empty() || query.phases.contains(&summary.phase))
                && query.repository.as_ref().is_none_or(|repository| *repository == summary.repository)
                && query.before.is_none_or(|before| summary.id < before)
        };
        ready(Ok(state.summaries.values().rev().filter(wanted).take(query.limit as usize).cloned().collect()))
    }

    fn summary(&self, id: TaskId) -> BoxFuture<'_, Result<Option<Summary>, Fault>> {
        ready(Ok(self.state().summaries.get(&id).cloned()))
    }
}

impl Blobs for MemoryStore {
    fn put(&self, content: Bytes) -> BoxFuture<'_, Result<BlobId, Fault>> {
        let mut state = self.state();
        let known = state.blobs.iter().find(|(_, blob)| **blob == content).map(|(id, _)| id.clone());
        let id = known.unwrap_or_else(|| BlobId(format!("{:064x}", state.blobs.len() + 1)));
        state.blobs.insert(id.clone(), content);
        ready(Ok(id))
    }

    fn get(&self, id: BlobId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        let blob = self.state().blobs.get(&id).cloned();
        ready(blob.ok_or_else(|| Fault::not_found(format!("there is no blob {}", id.0))))
    }
}

impl Secrets for MemoryStore {
    fn put(&self, scope: String, values: Credentials) -> BoxFuture<'_, Result<(), Fault>> {
        self.state().secrets.insert(scope, values);
        ready(Ok(()))
    }

    fn get(&self, scope: String) -> BoxFuture<'_, Result<Credentials, Fault>> {
        ready(Ok(self.state().secrets.get(&scope).cloned().unwrap_or_default()))
    }

    fn forget(&self, scope: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.state().secrets.remove(&scope);
        ready(Ok(()))
    }
}

impl Transcripts for MemoryStore {
    fn open(&self, key: AttemptKey) -> Arc<dyn Transcript> {
        Arc::new(MemoryTranscript { store: self.clone(), key })
    }

    fn read(&self, task: TaskId, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<TranscriptRow>, Fault>> {
        let state = self.state();
        let rows = state.entries.iter().filter(|row| row.key.task == task && row.position > position);
        ready(Ok(rows.take(limit as usize).cloned().collect()))
    }

    fn changed(&self, _: TaskId) -> BoxFuture<'_, ()> {
        Box::pin(self.appended.notified())
    }
}

struct MemoryTranscript {
    store: MemoryStore,
    key: AttemptKey,
}

impl Transcript for MemoryTranscript {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Entry>, Fault>> {
        let state = self.store.state();
        let rows = state.entries.iter().filter(|row| row.key == self.key);
        ready(Ok(rows.map(|row| row.entry.clone()).collect()))
    }

    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<(), Fault>> {
        let mut state = self.store.state();
        let position = state.entries.len() as u64 + 1;
        state.entries.push(TranscriptRow { position, key: self.key, at: Timestamp::UNIX_EPOCH, entry });
        self.store.appended.notify_waiters();
        ready(Ok(()))
    }
}

impl Ledger for MemoryStore {
    fn reserve(&self, _: Reservation) -> BoxFuture<'_, Result<Result<(), OverBudget>, Fault>> {
        ready(Ok(Ok(())))
    }

    fn settle(&self, _: Settlement) -> BoxFuture<'_, Result<(), Fault>> {
        ready(Ok(()))
    }

    fn spent(&self, _: TaskId) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        ready(Ok((Spend::default(), Amount::default())))
    }

    fn spent_from(&self, _: String) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        ready(Ok((Spend::default(), Amount::default())))
    }
}

impl Records for MemoryStore {
    fn append(&self, key: AttemptKey, exchange: Exchange) -> BoxFuture<'_, Result<(), Fault>> {
        self.state().exchanges.push((key, exchange));
        ready(Ok(()))
    }

    fn exchanges(&self, key: AttemptKey) -> BoxFuture<'_, Result<Vec<Exchange>, Fault>> {
        let state = self.state();
        let of_key = state.exchanges.iter().filter(|(of, _)| *of == key).map(|(_, exchange)| exchange.clone());
        let exchanges: Vec<_> = of_key.collect();
        if exchanges.is_empty() {
            return ready(Err(Fault::not_found(format!("there is no record of {key}"))));
        }
        ready(Ok(exchanges))
    }

    fn expire(&self, before: Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        self.state().exchanges.retain(|(_, exchange)| exchange.at >= before);
        ready(Ok(0))
    }
}
