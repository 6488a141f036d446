//! A task's whole journal as lines of JSON, for keeping and for replay. Streamed: whatever its length, a page is in memory.

use std::collections::VecDeque;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use domain::{
    Fault,
    check::BlobId,
    event::{EVENT_VERSION, Event},
    ids::TaskId,
    ports::store::{Recorded, TranscriptRow},
};

use crate::{
    App,
    extract::Id,
    problem::Failure,
    tasks::{read_judgement, read_text},
    wire::{ExportLine, Summary},
};

const PAGE: u32 = 200;

pub(crate) async fn journal(State(app): State<App>, Id(id): Id) -> Result<Response, Failure> {
    let summary = app.summary(id).await?;
    let export = Export { app, id, next: Part::Task(Box::new(summary)), events: 0, entries: 0 };
    let stream = futures::stream::try_unfold(export, |mut export| async move {
        let part = export.part().await.inspect_err(|fault| tracing::error!("an export broke off: {fault}"))?;
        Ok::<_, Fault>(part.map(|part| (part, export)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

struct Export {
    app: App,
    id: TaskId,
    next: Part,
    events: u64,
    entries: u64,
}

/// What is written next, in this order.
enum Part {
    Task(Box<Summary>),
    EventsAfter(u64),
    EntriesAfter(u64),
    Spend,
    Over,
}

impl Export {
    /// Some lines; `None` after the last.
    async fn part(&mut self) -> Result<Option<Bytes>, Fault> {
        let lines = match std::mem::replace(&mut self.next, Part::Over) {
            Part::Task(task) => {
                self.next = Part::EventsAfter(0);
                VecDeque::from([ExportLine::Task { version: EVENT_VERSION, task }])
            }
            Part::EventsAfter(seq) => self.events(seq).await?,
            Part::EntriesAfter(position) => self.entries(position).await?,
            Part::Spend => {
                let (spend, reserved) = self.app.ports().ledger.spent(self.id).await?;
                let end = ExportLine::End { events: self.events, entries: self.entries };
                VecDeque::from([ExportLine::Spend { spend, reserved }, end])
            }
            Part::Over => return Ok(None),
        };
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line)
                .map_err(|error| Fault::bug(format!("a line of the journal does not go into JSON: {error}")))?;
            text.push(b'\n');
        }
        Ok(Some(text.into()))
    }

    async fn events(&mut self, after: u64) -> Result<VecDeque<ExportLine>, Fault> {
        let page = self.app.ports().store.journal(self.id, after, PAGE).await?;
        self.events += page.len() as u64;
        self.next = match page.last() {
            Some(last) if page.len() == PAGE as usize => Part::EventsAfter(last.envelope.seq),
            Some(_) | None => Part::EntriesAfter(0),
        };
        let mut lines = VecDeque::with_capacity(page.len());
        for Recorded { position, envelope, receipt, .. } in page {
            let named = match &envelope.event {
                Event::ChecksRan { judged, .. } => Some(self.judgement(judged.detail.clone()).await),
                Event::TurnEnded { report: Some(report), .. } => Some(self.report(report.clone()).await),
                _ => None,
            };
            lines.push_back(ExportLine::Event { position, envelope: Box::new(envelope), receipt });
            lines.extend(named);
        }
        Ok(lines)
    }

    async fn judgement(&self, blob: BlobId) -> ExportLine {
        match read_judgement(&self.app, blob.clone()).await {
            Ok(judgement) => ExportLine::Judgement { blob, judgement },
            Err(fault) => ExportLine::Unreadable { blob, why: fault.to_string() },
        }
    }

    async fn report(&self, blob: BlobId) -> ExportLine {
        match read_text(&self.app, blob.clone()).await {
            Ok(text) => ExportLine::Report { blob, text },
            Err(fault) => ExportLine::Unreadable { blob, why: fault.to_string() },
        }
    }

    async fn entries(&mut self, after: u64) -> Result<VecDeque<ExportLine>, Fault> {
        let page = self.app.ports().transcripts.read(self.id, after, PAGE).await?;
        self.entries += page.len() as u64;
        self.next = match page.last() {
            Some(last) if page.len() == PAGE as usize => Part::EntriesAfter(last.position),
            Some(_) | None => Part::Spend,
        };
        let line = |TranscriptRow { position, key, at, entry }| ExportLine::Entry {
            task: key.task,
            attempt: key.attempt,
            at,
            position,
            entry,
        };
        Ok(page.into_iter().map(line).collect())
    }
}
