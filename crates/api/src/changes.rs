//! What a task produced: its diff, whose lines its files have, its way into a checkout, and kept files.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use domain::{
    Fault,
    brief::Deliverable,
    check::BlobId,
    ids::{AttemptNo, CommitId},
    ports::workspace::{BlamedLine, Origin},
    task::Task,
};
use serde::Deserialize;

use crate::{
    App,
    extract::{Answer, Body, Id, Params, Segment, absolute},
    problem::Failure,
    tasks::not_modified,
    wire::{self, BASE_HEADER, HEAD_HEADER},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    /// Absent: the attempt that lists speak of.
    attempt: Option<u32>,
}

pub(crate) async fn diff(
    State(app): State<App>,
    Id(id): Id,
    Params(asked): Params<DiffQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let task = app.task(id).await?;
    let head = head(&task, asked.attempt.map(AttemptNo))?;
    let base = task.origin.base.clone();
    let tag = format!("\"{base}-{head}\"");
    if let Some(unchanged) = not_modified(&headers, &tag) {
        return Ok(unchanged);
    }
    let marks = [
        (header::CONTENT_TYPE, "text/x-diff".to_owned()),
        (header::ETAG, tag),
        (header::HeaderName::from_static(HEAD_HEADER), head.to_string()),
        (header::HeaderName::from_static(BASE_HEADER), base.to_string()),
    ];
    let diff = app.ports().workspaces.diff(task.origin.repository, base, head).await?;
    Ok((marks, diff).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlameQuery {
    path: String,
    /// As for a diff.
    attempt: Option<u32>,
}

pub(crate) async fn blame(
    State(app): State<App>,
    Id(id): Id,
    Params(asked): Params<BlameQuery>,
) -> Answer<wire::Blame> {
    let task = app.task(id).await?;
    let head = head(&task, asked.attempt.map(AttemptNo))?;
    let Origin { repository, base, .. } = task.origin;
    let blamed = app.ports().workspaces.blame(repository, head.clone(), asked.path).await?;
    // A snapshot is one commit on the base: what is not of it is of the base's history.
    let view = |BlamedLine { commit, line, text }| {
        let ours = commit == head;
        wire::BlamedLine { commit, line, text, ours }
    };
    let lines = blamed.into_iter().map(view).collect();
    Ok(Json(wire::Blame { base, head, lines }))
}

/// The last snapshot of an attempt, or of the one that lists speak of.
fn head(task: &Task, attempt: Option<AttemptNo>) -> Result<CommitId, Fault> {
    let head = match attempt {
        None => task.summary().head,
        Some(no) => {
            let attempt = task.attempt(no).ok_or_else(|| {
                Fault::not_found(format!("{} has no attempt {no}", task.id))
                    .hint(format!("its attempts are 1 to {}", task.attempts.len()))
            })?;
            attempt.snapshot.as_ref().map(|snapshot| snapshot.commit.clone())
        }
    };
    head.ok_or_else(|| no_change(task))
}

fn no_change(task: &Task) -> Fault {
    let id = task.id;
    if task.brief.deliverable == Deliverable::Report {
        return Fault::conflict(format!("{id} delivers a report and changes nothing"))
            .hint(format!("`overnight show {id}` has the report, once it is there"));
    }
    match task.summary().outcome {
        Some(outcome) => Fault::conflict(format!("{id} has no change to show: {}", outcome.word().replace('_', " ")))
            .hint(format!("`overnight show {id}` says how it ended")),
        None => Fault::conflict(format!("{id} has no snapshot yet"))
            .hint(format!("the first is taken when a turn of work ends; `overnight logs -f {id}` shows it work")),
    }
}

pub(crate) async fn pull(State(app): State<App>, Id(id): Id, Body(asked): Body<wire::Pull>) -> Answer<wire::Pulled> {
    let directory = absolute(asked.directory)?;
    let task = app.task(id).await?;
    let head = head(&task, None)?;
    let lines = app.ports().workspaces.pull(directory, task.origin.repository, id, head.clone()).await?;
    Ok(Json(wire::Pulled { head, lines }))
}

/// Whatever it is, it came out of a sandbox: no client may take it for more than bytes.
pub(crate) async fn blob(State(app): State<App>, Segment(id): Segment) -> Result<Response, Failure> {
    if id.len() != 64 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Fault::input(format!("`{id}` is not a blob id"))
            .hint("64 digits, as the answers name them")
            .into());
    }
    let content: Bytes = app.ports().blobs.get(BlobId(id)).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], content).into_response())
}
