//! What happened in a task, line by line: events of its journal and entries of its transcripts in one stream.

use domain::{
    check::{BlobId, Judgement},
    event::{Envelope, Event, Receipt},
    ids::{Actor, AttemptNo, TaskId, TurnNo},
    ports::agent::{Entry, EntryBody},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Summary;

/// Answer of `GET /tasks/{id}/log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub lines: Vec<LogLine>,
    /// Give it as `after` to go on from here, also when there is nothing more now.
    pub next: String,
    /// Nothing more was there when this was read.
    pub complete: bool,
}

/// One line. As a server-sent event: `id` is `cursor`, `event` is `line`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where to go on after this line.
    pub cursor: String,
    pub at: Timestamp,
    #[serde(flatten)]
    pub body: LogBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "source")]
pub enum LogBody {
    /// Of the journal.
    Event(Box<LogEvent>),
    /// Of a transcript.
    Entry(Box<LogEntry>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvent {
    pub seq: u64,
    pub actor: Actor,
    pub event: Event,
    pub receipt: Receipt,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    pub attempt: AttemptNo,
    pub turn: TurnNo,
    /// 0 is before the first model call.
    pub round: u32,
    pub entry: EntryBody,
}

/// The first event of `GET /events` without `Last-Event-ID`, named `hello`: where the stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub position: u64,
}

/// Data of `GET /events`. As a server-sent event: `id` is `position`, `event` is `task`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// Rises over all tasks.
    pub position: u64,
    /// The event's name, and its place in its task's journal.
    pub event: String,
    pub seq: u64,
    /// The task as it is now, which may be later than the event.
    pub task: Summary,
}

/// One line of `GET /tasks/{id}/journal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExportLine {
    /// The first line.
    Task {
        /// Of the events' stored form.
        version: u32,
        task: Box<Summary>,
    },
    Event {
        position: u64,
        #[serde(flatten)]
        envelope: Box<Envelope>,
        receipt: Receipt,
    },
    /// The checks' full word that the event before names as `detail`.
    Judgement { blob: BlobId, judgement: Judgement },
    /// The whole text of a report that the event before names.
    Report { blob: BlobId, text: String },
    /// One of them cannot be read any more.
    Unreadable { blob: BlobId, why: String },
    Entry {
        #[serde(with = "super::task_id")]
        task: TaskId,
        attempt: AttemptNo,
        at: Timestamp,
        position: u64,
        #[serde(flatten)]
        entry: Entry,
    },
    /// What the model calls came to; after all entries.
    Spend { spend: domain::budget::Spend, reserved: domain::budget::Amount },
    /// The last line: without it the export was cut off.
    End { events: u64, entries: u64 },
}
