//! Starting tasks and reading them.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    Fault,
    attempt::{self, AttemptStatus, Conclusion, Stopping},
    check::{BlobId, Judgement},
    ids::{AttemptKey, TaskId},
    ports::{
        agent::{EntryBody, PlanStep},
        sandbox::Confinement,
        store::SummaryQuery,
        workspace::{ResolveRequest, Wip},
    },
    summary::Phase,
    task::{Status, Task, Timer},
};
use engine::Submit;

use crate::{
    App, brief_file,
    extract::{Answer, Body, Caller, Id, Params, absolute},
    problem::Failure,
    wire::{self, ask::ListQuery},
};

/// How many rows a list or a read of the journal takes at once, and the most a client may ask for.
const PAGE: u32 = 1_000;
/// How long ended tasks stay in the inbox.
const FRESH: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn submit(
    State(app): State<App>,
    caller: Caller,
    Body(asked): Body<wire::Submit>,
) -> Result<Created, Failure> {
    let brief = match (asked.brief, asked.brief_markdown) {
        (Some(brief), None) => brief,
        (None, Some(text)) => brief_file::parse(&text)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(Fault::input("exactly one of `brief` and `brief_markdown` must be given").into());
        }
    };
    let wip = if asked.wip { Wip::HandOver } else { Wip::Leave };
    let repository = match asked.directory {
        Some(directory) => {
            let directory = absolute(directory)?;
            Some(ResolveRequest { directory, base: asked.base, into: asked.into, wip })
        }
        None if asked.base.is_some() || asked.into.is_some() || asked.wip => {
            return Err(Fault::input("`base`, `into` and `wip` mean nothing without a `directory`").into());
        }
        None => None,
    };
    let confinement = if asked.unconfined { Confinement::Unconfined } else { Confinement::Confined };
    let submit = Submit {
        dedup: submission_key(&caller),
        actor: caller.actor,
        via: caller.via,
        brief: brief.accept()?,
        repository,
        credentials: asked.credentials,
        confinement,
    };
    let id = app.handle.submit(submit).await?;
    created(&app, id).await
}

/// The answer to what started a task.
pub(crate) type Created = (StatusCode, [(header::HeaderName, String); 1], Json<wire::Submitted>);

pub(crate) async fn created(app: &App, id: TaskId) -> Result<Created, Failure> {
    let task = app.task(id).await?;
    let location = [(header::LOCATION, format!("/api/v1/tasks/{id}"))];
    Ok((StatusCode::CREATED, location, Json(submitted(task))))
}

/// Submissions of all tasks share one space of keys.
pub(crate) fn submission_key(caller: &Caller) -> String {
    format!("submit-{}", caller.key)
}

fn submitted(task: Task) -> wire::Submitted {
    let summary = task.summary().into();
    wire::Submitted { task: summary, base: task.origin.base, target: task.origin.target, notes: task.origin.notes }
}

pub(crate) async fn list(State(app): State<App>, Params(asked): Params<ListQuery>) -> Answer<wire::Tasks> {
    let limit = asked.limit.unwrap_or(50);
    if !(1..=PAGE).contains(&limit) {
        return Err(Fault::input(format!("`limit` is {limit}")).hint(format!("choose 1 to {PAGE}")).into());
    }
    let phases = asked.phase.as_deref().map_or(Ok(Vec::new()), phases)?;
    let before = match &asked.cursor {
        None => None,
        Some(cursor) => Some(cursor.parse::<TaskId>().map_err(|_| {
            Fault::input(format!("`{cursor}` is not a cursor")).hint("give the `next` of the page before")
        })?),
    };
    // One more than asked for tells whether there is a next page.
    let query = SummaryQuery { phases, repository: asked.repository, before, limit: limit + 1 };
    let mut rows = app.ports().store.summaries(query).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(wire::Tasks { tasks: rows.into_iter().map(wire::Summary::from).collect(), next }))
}

fn phases(text: &str) -> Result<Vec<Phase>, Fault> {
    const ALL: [Phase; 5] = [Phase::Working, Phase::NeedsYou, Phase::Landing, Phase::Closing, Phase::Ended];
    let known = |word: &str| ALL.into_iter().find(|phase| phase.word() == word);
    text.split(',').map(|word| known(word).ok_or_else(|| no_phase(word, &ALL))).collect()
}

fn no_phase(word: &str, all: &[Phase]) -> Fault {
    let words: Vec<&str> = all.iter().map(|phase| phase.word()).collect();
    Fault::input(format!("`{word}` is not a phase")).hint(format!("the phases are {}", words.join(", ")))
}

pub(crate) async fn inbox(State(app): State<App>) -> Answer<wire::Inbox> {
    let in_phase = |phase| SummaryQuery { phases: vec![phase], limit: PAGE, ..SummaryQuery::default() };
    let needs_you = app.ports().store.summaries(in_phase(Phase::NeedsYou)).await?;
    let mut ended = app.ports().store.summaries(in_phase(Phase::Ended)).await?;
    let now = app.ports().clock.now();
    ended.retain(|summary| now.duration_since(summary.updated_at).unsigned_abs() <= FRESH);
    let wire = |rows: Vec<domain::summary::Summary>| rows.into_iter().map(wire::Summary::from).collect();
    Ok(Json(wire::Inbox { needs_you: wire(needs_you), ended: wire(ended) }))
}

pub(crate) async fn show(State(app): State<App>, Id(id): Id, headers: HeaderMap) -> Result<Response, Failure> {
    let task = app.task(id).await?;
    let (spend, reserved) = app.ports().ledger.spent(id).await?;
    // Events move `seq`; between them only model calls change what is shown.
    let tag = format!("\"{}-{}-{}\"", task.seq, spend.calls, reserved.tokens);
    if let Some(unchanged) = not_modified(&headers, &tag) {
        return Ok(unchanged);
    }
    let mut attempts = Vec::with_capacity(task.attempts.len());
    for attempt in &task.attempts {
        attempts.push(attempt_view(&app, &task, attempt).await?);
    }
    let residue = match &task.status {
        Status::Ended { residue, .. } => residue.clone(),
        Status::Working | Status::AwaitingReview(_) | Status::Landing(_) | Status::Closing { .. } => None,
    };
    let shown = wire::Task {
        summary: task.summary().into(),
        seq: task.seq,
        forked_from: task.fork.as_ref().map(|fork| wire::task::ForkedFrom {
            task: fork.from.task,
            attempt: fork.from.attempt,
            turn: fork.turn,
        }),
        submitted_by: task.submitted_by,
        brief: wire::Brief::from(&task.brief),
        repository_path: task.origin.repository.path.to_string_lossy().into_owned(),
        base: task.origin.base,
        target: task.origin.target,
        notes: task.origin.notes,
        residue,
        confinement: task.confinement,
        environment: task.environment,
        checks: task.checks,
        attempts,
        comments: task.comments.into_iter().map(comment_view).collect(),
        said: said(&app, id).await?,
        spend,
        reserved,
        rounds: task.rounds,
    };
    Ok(([(header::ETAG, tag)], Json(shown)).into_response())
}

/// The answer to a client that has this version already.
pub(crate) fn not_modified(headers: &HeaderMap, tag: &str) -> Option<Response> {
    let known = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    if !known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag) {
        return None;
    }
    let tag = HeaderValue::from_str(tag).ok()?;
    Some((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response())
}

fn comment_view(comment: domain::task::Comment) -> wire::task::Comment {
    let domain::task::Comment { id, at, by, text, by_hand, delivered } = comment;
    wire::task::Comment { id, at, by, text, by_hand, delivered }
}

/// A kept file that cannot be read does not hide the rest of the task.
async fn attempt_view(app: &App, task: &Task, attempt: &attempt::Attempt) -> Result<wire::Attempt, Fault> {
    let mut unreadable = None;
    let mut note = |fault: Fault| unreadable = Some(fault.to_string());
    let judgement = match &attempt.judged {
        Some(judged) => read_judgement(app, judged.detail.clone()).await.map_err(&mut note).ok(),
        None => None,
    };
    let report = match &attempt.report {
        Some(report) => read_text(app, report.clone()).await.map_err(&mut note).ok(),
        None => None,
    };
    let (agent, model) = task.choice(attempt.choice);
    Ok(wire::Attempt {
        no: attempt.no,
        status: attempt.status.word().to_owned(),
        agent: agent.to_owned(),
        model: model.map(str::to_owned),
        until: task.timers.get(&Timer::Rest(attempt.no)).copied(),
        stalls: attempt.stalls,
        holds: attempt.holds,
        void: attempt.void.clone(),
        steps: steps(app, task.id, attempt).await?,
        why: why(&attempt.status).cloned(),
        turns: attempt.turns,
        corrections: attempt.corrections,
        plan: attempt.plan.clone(),
        snapshot: attempt.snapshot.clone(),
        verdict: attempt.judged.as_ref().map(|judged| judged.verdict),
        risks: attempt.judged.as_ref().map(|judged| judged.risks.clone()).unwrap_or_default(),
        judgement,
        summary: attempt.summary.clone(),
        progress: attempt.progress.clone(),
        report,
        unreadable,
        refusals: attempt.refusals.clone(),
        worked_s: attempt.worked_s,
    })
}

/// The agent's own plan as it stands, while it works on it.
async fn steps(app: &App, task: TaskId, attempt: &attempt::Attempt) -> Result<Vec<PlanStep>, Fault> {
    if attempt.turns == 0 || attempt.status.is_settled() {
        return Ok(Vec::new());
    }
    let entries = app.ports().transcripts.open(AttemptKey { task, attempt: attempt.no }).load().await?;
    let plan =
        entries.into_iter().rev().filter(|entry| !attempt.is_void(entry.turn)).find_map(|entry| match entry.body {
            EntryBody::Plan { steps } => Some(steps),
            _ => None,
        });
    Ok(plan.unwrap_or_default())
}

fn why(status: &AttemptStatus) -> Option<&String> {
    match status {
        AttemptStatus::Resting { why }
        | AttemptStatus::HandedBack { why }
        | AttemptStatus::Concluded { conclusion: Conclusion::Failed { why } }
        | AttemptStatus::Turning { stopping: Stopping::Asked { why }, .. } => Some(why),
        _ => None,
    }
}

/// Errors: `NotFound`, and `Environment` for one that was damaged.
pub(crate) async fn read_judgement(app: &App, blob: BlobId) -> Result<Judgement, Fault> {
    let json = app.ports().blobs.get(blob.clone()).await?;
    serde_json::from_slice(&json)
        .map_err(|error| Fault::environment(format!("blob {} is no judgement: {error}", blob.0)))
}

pub(crate) async fn read_text(app: &App, blob: BlobId) -> Result<String, Fault> {
    let bytes = app.ports().blobs.get(blob).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Everything people said to a task, with the answers.
async fn said(app: &App, id: TaskId) -> Result<Vec<wire::Said>, Fault> {
    let mut said = Vec::new();
    let mut after = 0;
    loop {
        let page = app.ports().store.journal(id, after, PAGE).await?;
        let full = page.len() == PAGE as usize;
        for recorded in page {
            let envelope = recorded.envelope;
            after = envelope.seq;
            if envelope.event.is_said() {
                said.push(wire::Said {
                    seq: envelope.seq,
                    at: envelope.at,
                    by: envelope.actor,
                    via: envelope.via,
                    event: envelope.event.name().to_owned(),
                    receipt: recorded.receipt,
                });
            }
        }
        if !full {
            return Ok(said);
        }
    }
}
