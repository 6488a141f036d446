//! The port [`port::Store`]: journal, outbox, timers and projections.

use std::sync::atomic::Ordering;

use domain::{
    Fault,
    event::{EVENT_VERSION, Receipt},
    ids::{CommandId, Epoch, TaskId},
    ports::{
        BoxFuture,
        store::{self as port, Commit, CommitFault, Committed, OutboxRow, Recorded, SummaryQuery},
    },
    summary::Summary,
    task::Task,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter, types::Value};

use crate::{
    Store,
    column::{int, json, nanos, number, parse, time},
    error::Error,
};

/// Events hold small references (invariant 4 of the architecture); one that is larger than this is told in the log.
const EVENT_BYTES: usize = 16 * 1024;

impl port::Store for Store {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn next_task(&self) -> TaskId {
        TaskId(self.next_task.fetch_add(1, Ordering::Relaxed))
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitFault>> {
        // Written as JSON here, on the caller's thread: the writer's is the one that everybody waits for.
        let record = match Record::of(&commit) {
            Ok(record) => record,
            Err(fault) => return Box::pin(async { Err(fault.into()) }),
        };
        let written = self.writer.write(move |scope| record.write(scope.tx));
        Box::pin(async move { written.await? })
    }

    fn task(&self, id: TaskId) -> BoxFuture<'_, Result<Option<Task>, Fault>> {
        self.readers.read(move |tx| {
            let mut select = tx.prepare_cached("SELECT state FROM tasks WHERE id = ?1")?;
            let mut rows = select.query([int(id.0)])?;
            rows.next()?.map(|row| parse(row, "state", || format!("the state of {id}"))).transpose()
        })
    }

    fn outbox(&self) -> BoxFuture<'_, Result<Vec<OutboxRow>, Fault>> {
        self.readers.read(|tx| {
            let mut select = tx.prepare_cached("SELECT task, command, body FROM outbox ORDER BY task, command")?;
            let mut rows = select.query([])?;
            let mut outbox = Vec::new();
            while let Some(row) = rows.next()? {
                outbox.extend(readable(outbox_row(row))?);
            }
            Ok(outbox)
        })
    }

    fn due(&self, until: Timestamp) -> BoxFuture<'_, Result<(Vec<TaskId>, Option<Timestamp>), Fault>> {
        let until = nanos(until);
        self.readers.read(move |tx| {
            let mut select = tx.prepare_cached("SELECT id FROM tasks WHERE wake_at <= ?1 ORDER BY wake_at")?;
            let due = select.query_map([until], |row| Ok(TaskId(number(row, "id")?)))?.collect::<Result<_, _>>()?;
            let next: Option<i64> = tx
                .prepare_cached("SELECT min(wake_at) FROM tasks WHERE wake_at > ?1")?
                .query_row([until], |row| row.get(0))?;
            Ok((due, next.map(time)))
        })
    }

    fn journal(&self, task: TaskId, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, Fault>> {
        self.readers.read(move |tx| {
            let mut select =
                tx.prepare_cached("SELECT * FROM events WHERE task = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")?;
            let mut rows = select.query(params![int(task.0), int(after), limit])?;
            let mut journal = Vec::new();
            while let Some(row) = rows.next()? {
                journal.push(recorded(row)?);
            }
            Ok(journal)
        })
    }

    fn since(&self, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, Fault>> {
        self.readers.read(move |tx| {
            // No LIMIT: damaged rows are passed over, and a page must not look like the end because of them.
            let mut select = tx.prepare_cached("SELECT * FROM events WHERE position > ?1 ORDER BY position")?;
            let mut rows = select.query([int(position)])?;
            let mut events = Vec::new();
            while events.len() < limit as usize
                && let Some(row) = rows.next()?
            {
                events.extend(readable(recorded(row))?);
            }
            Ok(events)
        })
    }

    fn submitted(&self, dedup: String) -> BoxFuture<'_, Result<Option<(TaskId, Receipt)>, Fault>> {
        self.readers.read(move |tx| Ok(submission(tx, &dedup)?.map(|(task, _, receipt)| (task, receipt))))
    }

    fn summaries(&self, query: SummaryQuery) -> BoxFuture<'_, Result<Vec<Summary>, Fault>> {
        self.readers.read(move |tx| {
            let (sql, values) = select_summaries(&query);
            let mut select = tx.prepare_cached(&sql)?;
            let mut rows = select.query(params_from_iter(values))?;
            let mut summaries = Vec::new();
            while summaries.len() < query.limit as usize
                && let Some(row) = rows.next()?
            {
                summaries.extend(readable(summary(row))?);
            }
            Ok(summaries)
        })
    }

    fn summary(&self, id: TaskId) -> BoxFuture<'_, Result<Option<Summary>, Fault>> {
        self.readers.read(move |tx| {
            let mut select = tx.prepare_cached("SELECT task, summary FROM summaries WHERE task = ?1")?;
            let mut rows = select.query([int(id.0)])?;
            rows.next()?.map(summary).transpose()
        })
    }
}

/// A commit in the form of its columns.
struct Record {
    task: TaskId,
    expected_seq: i64,
    dedup: String,
    envelope: String,
    receipt: String,
    state: String,
    wake_at: Option<i64>,
    phase: &'static str,
    repository: String,
    summary: String,
    issued: Vec<(i64, String)>,
    retired: Vec<i64>,
}

impl Record {
    /// `Bug` when the parts do not belong together.
    fn of(commit: &Commit) -> Result<Self, Fault> {
        let Commit { task, expected_seq, envelope, state, summary, .. } = commit;
        let seq = expected_seq + 1;
        if envelope.seq != seq || state.seq != seq || state.id != *task || summary.id != *task {
            return Err(Fault::bug(format!(
                "a commit for event {seq} of {task} carries event {}, state {} of {} and the summary of {}",
                envelope.seq, state.seq, state.id, summary.id
            )));
        }
        let text = json(envelope)?;
        if text.len() >= EVENT_BYTES {
            tracing::warn!(%task, seq, event = envelope.event.name(), bytes = text.len(), "an event is larger than 16 KiB");
        }
        let issued = commit.issued.iter().map(|(id, command)| Ok((int(id.0), json(command)?)));
        Ok(Self {
            task: *task,
            expected_seq: int(*expected_seq),
            dedup: envelope.dedup.clone(),
            envelope: text,
            receipt: json(&commit.receipt)?,
            state: json(state)?,
            wake_at: state.wake_at().map(nanos),
            phase: summary.phase.word(),
            repository: summary.repository.clone(),
            summary: json(summary)?,
            issued: issued.collect::<Result<_, Fault>>()?,
            retired: commit.retired.iter().map(|id| int(id.0)).collect(),
        })
    }

    fn write(&self, tx: &Connection) -> Result<Result<Committed, CommitFault>, Error> {
        if let Some((task, seq, receipt)) = self.earlier(tx)? {
            return Ok(Err(CommitFault::Duplicate { task, seq, receipt }));
        }
        let task = int(self.task.0);
        let seq: Option<i64> =
            tx.prepare_cached("SELECT seq FROM tasks WHERE id = ?1")?.query_row([task], |row| row.get(0)).optional()?;
        if seq.unwrap_or(0) != self.expected_seq {
            return Ok(Err(CommitFault::Stale));
        }
        let seq = self.expected_seq + 1;
        tx.prepare_cached(
            "INSERT INTO tasks (id, seq, wake_at, state) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET seq = ?2, wake_at = ?3, state = ?4",
        )?
        .execute(params![task, seq, self.wake_at, self.state])?;
        tx.prepare_cached(
            "INSERT INTO summaries (task, phase, repository, summary) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (task) DO UPDATE SET phase = ?2, repository = ?3, summary = ?4",
        )?
        .execute(params![task, self.phase, self.repository, self.summary])?;
        tx.prepare_cached(
            "INSERT INTO events (task, seq, dedup, version, envelope, receipt) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![task, seq, self.dedup, EVENT_VERSION, self.envelope, self.receipt])?;
        let position = tx.last_insert_rowid();
        for (command, body) in &self.issued {
            tx.prepare_cached("INSERT INTO outbox (task, command, body) VALUES (?1, ?2, ?3)")?
                .execute(params![task, command, body])?;
        }
        for command in &self.retired {
            tx.prepare_cached("DELETE FROM outbox WHERE task = ?1 AND command = ?2")?.execute([task, *command])?;
        }
        Ok(Ok(Committed { position: u64::try_from(position).unwrap_or_default() }))
    }

    /// The event that was recorded under this key.
    fn earlier(&self, tx: &Connection) -> Result<Option<Event>, Error> {
        if self.expected_seq == 0 {
            return submission(tx, &self.dedup);
        }
        let mut select = tx.prepare_cached("SELECT task, seq, receipt FROM events WHERE task = ?1 AND dedup = ?2")?;
        let mut rows = select.query(params![int(self.task.0), self.dedup])?;
        rows.next()?.map(receipt).transpose()
    }
}

/// Which event it is, and what was answered to it.
type Event = (TaskId, u64, Receipt);

fn submission(tx: &Connection, dedup: &str) -> Result<Option<Event>, Error> {
    let mut select = tx.prepare_cached("SELECT task, seq, receipt FROM events WHERE dedup = ?1 AND seq = 1")?;
    let mut rows = select.query([dedup])?;
    rows.next()?.map(receipt).transpose()
}

fn receipt(row: &Row<'_>) -> Result<Event, Error> {
    let (task, seq) = (TaskId(number(row, "task")?), number(row, "seq")?);
    Ok((task, seq, parse(row, "receipt", || format!("the receipt of event {seq} of {task}"))?))
}

fn recorded(row: &Row<'_>) -> Result<Recorded, Error> {
    let (task, seq) = (TaskId(number(row, "task")?), number(row, "seq")?);
    let name = || format!("event {seq} of {task}");
    let version = number(row, "version")?;
    if version != u64::from(EVENT_VERSION) {
        return Err(Error::unreadable(name(), format!("its version is {version}, this program knows {EVENT_VERSION}")));
    }
    Ok(Recorded {
        position: number(row, "position")?,
        task,
        envelope: parse(row, "envelope", name)?,
        receipt: parse(row, "receipt", name)?,
    })
}

fn outbox_row(row: &Row<'_>) -> Result<OutboxRow, Error> {
    let (task, id) = (TaskId(number(row, "task")?), CommandId(number(row, "command")?));
    Ok(OutboxRow { task, id, command: parse(row, "body", || format!("command {id} of {task}"))? })
}

fn summary(row: &Row<'_>) -> Result<Summary, Error> {
    let task = TaskId(number(row, "task")?);
    parse(row, "summary", || format!("the summary of {task}"))
}

/// Passes over a damaged row where rows of many tasks are read, so that one cannot keep the others from loading. Whoever
/// asks for that task alone gets the error.
fn readable<T>(row: Result<T, Error>) -> Result<Option<T>, Error> {
    match row {
        Ok(row) => Ok(Some(row)),
        Err(error @ Error::Unreadable { .. }) => {
            tracing::error!(%error, "passed over a damaged row");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn select_summaries(query: &SummaryQuery) -> (String, Vec<Value>) {
    let mut sql = "SELECT task, summary FROM summaries WHERE task < ?".to_owned();
    let mut values = vec![Value::from(query.before.map_or(i64::MAX, |task| int(task.0)))];
    if !query.phases.is_empty() {
        sql.push_str(" AND phase IN (?");
        sql.push_str(&", ?".repeat(query.phases.len() - 1));
        sql.push(')');
        values.extend(query.phases.iter().map(|phase| Value::from(phase.word().to_owned())));
    }
    if let Some(repository) = &query.repository {
        sql.push_str(" AND repository = ?");
        values.push(Value::from(repository.clone()));
    }
    sql.push_str(" ORDER BY task DESC");
    (sql, values)
}
