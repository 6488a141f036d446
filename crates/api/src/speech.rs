//! What people say to a task that exists. Each becomes one event; its receipt is the answer.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    Fault,
    check::Risk,
    event::{Event, Receipt},
    ids::{CommitId, RequestId, TaskId},
    ports::{
        model::Credentials,
        workspace::{Origin, ResolveRequest},
    },
    summary::Wanted,
    task::Task,
};
use engine::{Said, Submit};

use crate::{
    App,
    extract::{Answer, Body, Caller, Id},
    plan,
    problem::Failure,
    tasks::submission_key,
    wire,
};

/// The most one text may hold, in bytes: an event stays below 16 KiB.
const MAX_TEXT: usize = 12 << 10;
/// Stands for "the one that is open" where none is. No request has this number.
const NO_REQUEST: RequestId = RequestId(0);
/// The same where more than one is.
const SEVERAL_REQUESTS: RequestId = RequestId(u32::MAX);

pub(crate) async fn comment(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Comment>,
) -> Answer<wire::Spoken> {
    let text = text("comment", asked.text)?;
    say(&app, id, caller, Event::CommentAdded { text, by_hand: false }).await
}

pub(crate) async fn answer(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Answer>,
) -> Answer<wire::Spoken> {
    let answer = text("answer", asked.answer)?;
    let is_question = |wanted: &Wanted| matches!(wanted, Wanted::Answer { .. });
    let request = request(&app, id, asked.request, is_question).await?;
    let said = say(&app, id, caller, Event::QuestionAnswered { request, answer }).await;
    said.map_err(|failure| named(failure, request, id, "question"))
}

pub(crate) async fn plan(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Plan>,
) -> Answer<wire::Spoken> {
    let request = request(&app, id, asked.request, |wanted| matches!(wanted, Wanted::Plan { .. })).await?;
    let refines = asked.refine.is_some() || !asked.comments.is_empty();
    let event = match (asked.approve, refines) {
        (true, false) => Event::PlanApproved { request },
        (false, true) => {
            let plan = open_plan(&app, id, request).await?;
            let refinement = plan::refinement(plan.as_deref(), &asked.comments, asked.refine.as_deref())?;
            Event::PlanRefined { request, text: text("refinement", refinement)? }
        }
        (true, true) | (false, false) => {
            return Err(
                Fault::input("either `approve` must be true, or `refine` or `comments` say what to change").into()
            );
        }
    };
    let said = say(&app, id, caller, event).await;
    said.map_err(|failure| named(failure, request, id, "plan"))
}

/// The plan that this request asks about; `None` where it is not open (any more).
async fn open_plan(app: &App, id: TaskId, request: RequestId) -> Result<Option<String>, Fault> {
    let mut needs = app.summary(id).await?.needs.into_iter();
    Ok(needs.find_map(|need| match need.wanted {
        Wanted::Plan { plan } if need.request == request => Some(plan),
        _ => None,
    }))
}

pub(crate) async fn approve(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Approve>,
) -> Answer<wire::Spoken> {
    let accept = asked.accept.iter().map(|word| risk(word)).collect::<Result<_, _>>()?;
    let head = match CommitId::parse(&asked.head) {
        Some(head) => head,
        None => abbreviated(&app.task(id).await?, &asked.head)?,
    };
    say(&app, id, caller, Event::Approved { head, accept }).await
}

fn risk(word: &str) -> Result<Risk, Fault> {
    Risk::parse(word).ok_or_else(|| {
        let words = [Risk::NotGreen, Risk::ProtectedPaths, Risk::MissingTests].map(|risk| risk.word());
        Fault::input(format!("`{word}` is not a risk")).hint(format!("the risks are {}", words.join(", ")))
    })
}

/// The attempt's head that starts with these digits.
fn abbreviated(task: &Task, digits: &str) -> Result<CommitId, Fault> {
    if digits.len() < 7 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Fault::input(format!("`{digits}` does not name a commit")).hint("give 7 digits of it, or all"));
    }
    let digits = digits.to_ascii_lowercase();
    let heads = task.attempts.iter().filter_map(|attempt| Some(&attempt.snapshot.as_ref()?.commit));
    let mut matching: Vec<&CommitId> = heads.filter(|head| head.as_str().starts_with(&digits)).collect();
    matching.dedup();
    match matching.as_slice() {
        [head] => Ok((*head).clone()),
        [] => {
            Err(Fault::conflict(format!("no attempt of {} stands at {digits}; it has moved on, or never did", task.id))
                .hint(format!("look again with `overnight diff {}`, then approve what you saw", task.id)))
        }
        [_, ..] => Err(Fault::input(format!("`{digits}` names several heads of {}", task.id)).hint("give more digits")),
    }
}

pub(crate) async fn reject(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Reject>,
) -> Answer<wire::Spoken> {
    say(&app, id, caller, Event::Rejected { why: reason(asked.why)? }).await
}

pub(crate) async fn cancel(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Cancel>,
) -> Answer<wire::Spoken> {
    say(&app, id, caller, Event::CancelRequested { why: reason(asked.why)? }).await
}

pub(crate) async fn restore(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(wire::Empty {}): Body<wire::Empty>,
) -> Answer<wire::Spoken> {
    say(&app, id, caller, Event::RestoreRequested).await
}

/// An ended task is asked too, and refuses: so a repeated key gets the same answer whatever happened between.
pub(crate) async fn retry(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Retry>,
) -> Answer<wire::Spoken> {
    let task = app.task(id).await?;
    // An ended task has forgotten its keys and must not get new ones.
    let credentials = if task.is_ended() { Credentials::default() } else { asked.credentials.clone() };
    match app.handle.say(id, said(caller.clone(), Event::RetryRequested, credentials)).await? {
        Receipt::Accepted { note } => Ok(Json(wire::Spoken { note, task: app.summary(id).await? })),
        Receipt::Refused { fault } if !task.is_ended() => Err(Failure::with(StatusCode::CONFLICT, fault)),
        Receipt::Refused { .. } => {
            let again = app.handle.submit(resubmission(&app, task, caller, asked.credentials)).await?;
            let note = format!("{id} has ended: {again} starts over with the same brief");
            Ok(Json(wire::Spoken { note, task: app.summary(again).await? }))
        }
    }
}

/// The same brief on the target as it is now; without a target, on the same base.
fn resubmission(app: &App, task: Task, caller: Caller, credentials: Credentials) -> Submit {
    let Origin { repository, base, target, .. } = task.origin;
    // A scratch repository is the task's own, below the home: the new task gets one of its own.
    let repository = (!repository.path.starts_with(&app.home)).then(|| ResolveRequest {
        directory: repository.path,
        base: Some(target.clone().unwrap_or_else(|| base.to_string())),
        into: target,
        ..ResolveRequest::default()
    });
    Submit {
        dedup: submission_key(&caller),
        actor: caller.actor,
        via: caller.via,
        brief: task.brief,
        repository,
        credentials,
        confinement: task.confinement,
    }
}

async fn say(app: &App, id: TaskId, caller: Caller, event: Event) -> Answer<wire::Spoken> {
    match app.handle.say(id, said(caller, event, Credentials::default())).await? {
        Receipt::Accepted { note } => Ok(Json(wire::Spoken { note, task: app.summary(id).await? })),
        Receipt::Refused { fault } => Err(Failure::with(StatusCode::CONFLICT, fault)),
    }
}

fn said(caller: Caller, event: Event, credentials: Credentials) -> Said {
    Said { dedup: caller.key, actor: caller.actor, via: caller.via, event, credentials }
}

/// The request that was named, else the only open one of its kind. Where there is none, the task is asked all the same: a
/// repeated key must get its first receipt, though the request is closed by now.
async fn request(
    app: &App,
    id: TaskId,
    named: Option<u32>,
    kind: impl Fn(&Wanted) -> bool,
) -> Result<RequestId, Fault> {
    if let Some(named) = named {
        return Ok(RequestId(named));
    }
    let needs = app.summary(id).await?.needs;
    let mut open = needs.iter().filter(|need| kind(&need.wanted)).map(|need| need.request);
    Ok(match (open.next(), open.next()) {
        (Some(only), None) => only,
        (Some(_), Some(_)) => SEVERAL_REQUESTS,
        (None, _) => NO_REQUEST,
    })
}

/// A refusal of [`NO_REQUEST`] or [`SEVERAL_REQUESTS`] in words that do not name it.
fn named(failure: Failure, request: RequestId, id: TaskId, kind: &str) -> Failure {
    if failure.0.status != StatusCode::CONFLICT.as_u16() {
        return failure;
    }
    let fault = match request {
        NO_REQUEST => Fault::conflict(format!("{id} has no {kind} open")).hint(format!(
            "`overnight show {id}` says where it is; `overnight comment {id} \"…\"` reaches it all the same"
        )),
        SEVERAL_REQUESTS => Fault::conflict(format!("{id} has more than one {kind} open"))
            .hint(format!("`overnight show {id}` lists them; name one with `--request`")),
        _ => return failure,
    };
    Failure::with(StatusCode::CONFLICT, fault)
}

pub(crate) fn text(what: &str, text: String) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(Fault::input(format!("the {what} is empty")).hint("say something"));
    }
    if text.len() > MAX_TEXT {
        return Err(Fault::input(format!("the {what} has {} bytes, more than {MAX_TEXT}", text.len()))
            .hint("say it shorter, or put it into a file of the repository and name it"));
    }
    Ok(text)
}

/// An empty reason is none.
fn reason(why: Option<String>) -> Result<Option<String>, Fault> {
    why.filter(|why| !why.trim().is_empty()).map(|why| text("reason", why)).transpose()
}
