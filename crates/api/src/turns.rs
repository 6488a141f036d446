//! Going back to a turn: a new task from it, the same attempt from it, the whole attempt again from its record.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use domain::{
    event::Receipt,
    ids::{AttemptNo, TurnNo},
};
use engine::{ForkRequest, RewindRequest};

use crate::{
    App,
    extract::{Answer, Body, Caller, Id},
    problem::Failure,
    speech,
    tasks::{Created, created, submission_key},
    wire,
    work::work,
};

pub(crate) async fn fork(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Fork>,
) -> Result<Created, Failure> {
    let text = if asked.text.trim().is_empty() { String::new() } else { speech::text("text", asked.text)? };
    let request = ForkRequest {
        dedup: submission_key(&caller),
        actor: caller.actor,
        via: caller.via,
        task: id,
        attempt: asked.attempt.map(AttemptNo),
        turn: TurnNo(asked.turn),
        text,
        model: asked.model,
        agent: asked.agent,
        credentials: asked.credentials,
    };
    let forked = app.handle.fork(request).await?;
    created(&app, forked).await
}

pub(crate) async fn rewind(
    State(app): State<App>,
    Id(id): Id,
    caller: Caller,
    Body(asked): Body<wire::Rewind>,
) -> Answer<wire::Spoken> {
    let text = asked.text.filter(|text| !text.trim().is_empty()).map(|text| speech::text("text", text)).transpose()?;
    let request = RewindRequest {
        dedup: caller.key,
        actor: caller.actor,
        via: caller.via,
        task: id,
        attempt: asked.attempt.map(AttemptNo),
        turn: TurnNo(asked.turn),
        text,
    };
    match app.handle.rewind(request).await? {
        Receipt::Accepted { note } => Ok(Json(wire::Spoken { note, task: app.summary(id).await? })),
        Receipt::Refused { fault } => Err(Failure::with(StatusCode::CONFLICT, fault)),
    }
}

pub(crate) async fn replay(
    State(app): State<App>,
    Id(id): Id,
    Body(asked): Body<wire::Replay>,
) -> Result<Response, Failure> {
    let handle = app.handle.clone();
    Ok(work(app, "replayed", |_| async move { handle.replay(id, asked.attempt.map(AttemptNo)).await }))
}
