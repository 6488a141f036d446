//! A task's log: events of its journal and entries of its transcripts, merged by time, as a page or as a stream.
//!
//! Both sources only grow at their ends, and a cursor holds a place in each, so going on from a cursor misses nothing and
//! repeats nothing, whatever came in between.

use std::{fmt, str::FromStr};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    Fault,
    event::Event,
    ids::TaskId,
    ports::store::{Recorded, TranscriptRow},
    summary::Phase,
};
use engine::News;
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    App,
    extract::{Id, Params},
    problem::Failure,
    sse::{self, Outlet, Source, last_event_id},
    wire::{self, LogBody, LogEntry, LogEvent, LogLine},
};

const PAGE: u32 = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogQuery {
    after: Option<String>,
    limit: Option<u32>,
    follow: bool,
}

/// How far a reader has come: the last event and the last transcript position it was told. Written `12.345`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    seq: u64,
    position: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.position)
    }
}

impl FromStr for Cursor {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        text.split_once('.')
            .and_then(|(seq, position)| Some(Self { seq: seq.parse().ok()?, position: position.parse().ok()? }))
            .ok_or_else(|| {
                Fault::input(format!("`{text}` is not a place in a log"))
                    .hint("give the `cursor` of the last line read")
            })
    }
}

pub(crate) async fn log(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    Params(asked): Params<LogQuery>,
) -> Result<Response, Failure> {
    let resumed = last_event_id(&headers)?;
    let start = match asked.after.as_deref().or(resumed) {
        Some(text) => text.parse()?,
        None => Cursor::default(),
    };
    if !(asked.follow || wants_stream(&headers)) {
        let limit = asked.limit.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&limit) {
            return Err(Fault::input(format!("`limit` is {limit}")).hint(format!("choose 1 to {PAGE}")).into());
        }
        app.summary(id).await?;
        let page = read(&app, id, start, limit).await?;
        let log = wire::Log { lines: page.lines, next: page.next.to_string(), complete: page.complete };
        return Ok(Json(log).into_response());
    }
    let news = app.handle.news();
    let ended = app.summary(id).await?.phase == Phase::Ended;
    let first = read(&app, id, start, PAGE).await?;
    // A browser comes back after every end of a stream; this is how it is told not to.
    if resumed.is_some() && ended && first.complete && first.lines.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (mut tail, mut out) = (Tail { app, id, cursor: start, news }, Outlet::default());
    tail.take(first, &mut out);
    Ok(sse::respond(tail, out))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/event-stream")
}

struct Page {
    lines: Vec<LogLine>,
    /// Where to go on; past what makes no line.
    next: Cursor,
    /// There was no more.
    complete: bool,
}

/// The next lines after `cursor`, of at most `limit` events and entries.
async fn read(app: &App, id: TaskId, cursor: Cursor, limit: u32) -> Result<Page, Fault> {
    let events = app.ports().store.journal(id, cursor.seq, limit).await?;
    let rows = app.ports().transcripts.read(id, cursor.position, limit).await?;
    // The first `limit` of both together are among the first `limit` of each.
    let complete = events.len() + rows.len() < limit as usize;
    let (mut events, mut rows) = (events.into_iter().peekable(), rows.into_iter().peekable());
    let mut page = Page { lines: Vec::new(), next: cursor, complete };
    for _ in 0..limit {
        let entry_first = match (rows.peek(), events.peek()) {
            (Some(row), Some(recorded)) => row.at <= recorded.envelope.at,
            (row, _) => row.is_some(),
        };
        if entry_first {
            page.lines.extend(rows.next().map(|row| entry_line(row, &mut page.next)));
        } else if let Some(recorded) = events.next() {
            page.lines.extend(event_line(recorded, &mut page.next));
        } else {
            break;
        }
    }
    Ok(page)
}

fn entry_line(row: TranscriptRow, cursor: &mut Cursor) -> LogLine {
    cursor.position = row.position;
    let (attempt, entry) = (row.key.attempt, row.entry);
    let body = LogEntry { attempt, turn: entry.turn, round: entry.round, entry: entry.body };
    LogLine { cursor: cursor.to_string(), at: row.at, body: LogBody::Entry(Box::new(body)) }
}

/// `None` for the engine's own ticks.
fn event_line(recorded: Recorded, cursor: &mut Cursor) -> Option<LogLine> {
    let envelope = recorded.envelope;
    cursor.seq = envelope.seq;
    if matches!(envelope.event, Event::Done { .. }) {
        return None;
    }
    let body = LogEvent { seq: envelope.seq, actor: envelope.actor, event: envelope.event, receipt: recorded.receipt };
    Some(LogLine { cursor: cursor.to_string(), at: envelope.at, body: LogBody::Event(Box::new(body)) })
}

/// A log that is followed.
struct Tail {
    app: App,
    id: TaskId,
    cursor: Cursor,
    news: broadcast::Receiver<News>,
}

impl Source for Tail {
    async fn fill(&mut self, out: &mut Outlet) -> Result<(), Fault> {
        // In this order: the bell before the read it guards, the phase before the lines that led to it.
        let app = self.app.clone();
        let appended = app.ports().transcripts.changed(self.id);
        let summary = app.summary(self.id).await?;
        let page = read(&app, self.id, self.cursor, PAGE).await?;
        let told_all = page.complete && page.lines.is_empty();
        self.take(page, out);
        if !told_all {
            return Ok(());
        }
        if summary.phase == Phase::Ended {
            out.push("ended", self.cursor, &summary);
            out.close();
            return Ok(());
        }
        tokio::select! {
            () = appended => {}
            () = news_of(&mut self.news, self.id) => {}
            () = app.stop.asked() => out.close(),
        }
        Ok(())
    }
}

impl Tail {
    fn take(&mut self, page: Page, out: &mut Outlet) {
        self.cursor = page.next;
        page.lines.iter().for_each(|line| out.push("line", &line.cursor, line));
    }
}

/// Resolves when the journal of this task may have grown.
async fn news_of(news: &mut broadcast::Receiver<News>, id: TaskId) {
    loop {
        match news.recv().await {
            Ok(news) if news.task != id => {}
            // Who lagged behind looks for itself. A closed channel is the end of the engine, which comes with a stop.
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
