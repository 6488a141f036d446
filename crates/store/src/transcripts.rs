//! The port [`Transcripts`], and the record of one attempt that an agent is handed.

use std::sync::Arc;

use domain::{
    Fault,
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::{
        BoxFuture, Clock,
        agent::{Entry, Transcript},
        store::{TranscriptRow, Transcripts},
    },
};
use rusqlite::{Row, params};

use crate::{
    Store,
    column::{int, json, nanos, number, parse, time},
    error::Error,
    readers::Readers,
    writer::Writer,
};

impl Transcripts for Store {
    fn open(&self, key: AttemptKey) -> Arc<dyn Transcript> {
        Arc::new(Bound {
            key,
            clock: Arc::clone(&self.clock),
            writer: Arc::clone(&self.writer),
            readers: self.readers.clone(),
        })
    }

    fn read(&self, task: TaskId, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<TranscriptRow>, Fault>> {
        self.readers.read(move |tx| {
            let mut select = tx.prepare_cached(
                "SELECT position, attempt, at, entry FROM transcript
                 WHERE task = ?1 AND position > ?2 ORDER BY position LIMIT ?3",
            )?;
            let mut rows = select.query(params![int(task.0), int(position), limit])?;
            let mut read = Vec::new();
            while let Some(row) = rows.next()? {
                let key = AttemptKey { task, attempt: AttemptNo(row.get("attempt")?) };
                read.push(TranscriptRow {
                    position: number(row, "position")?,
                    key,
                    at: time(row.get("at")?),
                    entry: entry(row, key)?,
                });
            }
            Ok(read)
        })
    }

    fn changed(&self, task: TaskId) -> BoxFuture<'_, ()> {
        self.bells.wait(task)
    }
}

/// The transcript of one attempt.
struct Bound {
    key: AttemptKey,
    clock: Arc<dyn Clock>,
    // In this order, as in `Store`.
    readers: Readers,
    writer: Arc<Writer>,
}

impl Transcript for Bound {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Entry>, Fault>> {
        let key = self.key;
        self.readers.read(move |tx| {
            let mut select = tx.prepare_cached(
                "SELECT position, entry FROM transcript WHERE task = ?1 AND attempt = ?2 ORDER BY position",
            )?;
            let mut rows = select.query(params![int(key.task.0), key.attempt.0])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(entry(row, key)?);
            }
            Ok(entries)
        })
    }

    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<(), Fault>> {
        let key = self.key;
        let at = nanos(self.clock.now());
        let text = match json(&entry) {
            Ok(text) => text,
            Err(fault) => return Box::pin(async { Err(fault) }),
        };
        self.writer.write(move |scope| {
            scope
                .tx
                .prepare_cached("INSERT INTO transcript (task, attempt, at, entry) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![int(key.task.0), key.attempt.0, at, text])?;
            scope.appended(key.task);
            Ok(())
        })
    }
}

fn entry(row: &Row<'_>, key: AttemptKey) -> Result<Entry, Error> {
    let position = number(row, "position")?;
    parse(row, "entry", || format!("transcript entry {position} of {key}"))
}
