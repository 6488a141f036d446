//! Secrets of a repository: written here, never read out.

use axum::{Json, extract::State};
use domain::{Fault, ports::workspace::Repository, redact::Redactor};

use crate::{
    App,
    extract::{Answer, Body, Params, Segment, absolute},
    wire::{self, Kept, SecretsQuery},
};

/// The most one value may hold, in bytes: a variable must fit into a process's environment.
const MAX_VALUE: usize = 64 << 10;

pub(crate) async fn list(State(app): State<App>, Params(asked): Params<SecretsQuery>) -> Answer<wire::Secrets> {
    let repository = repository(&app, &asked).await?;
    let names = app.handle.secret_names(&repository, asked.stage).await?;
    Ok(Json(wire::Secrets { repository: path(&repository), stage: asked.stage, names }))
}

pub(crate) async fn set(
    State(app): State<App>,
    Segment(name): Segment,
    Params(asked): Params<SecretsQuery>,
    Body(body): Body<wire::SetSecret>,
) -> Answer<wire::Secret> {
    let value = body.value;
    if value.len() > MAX_VALUE || value.contains('\0') {
        return Err(Fault::input(format!("the value of {name} is longer than {MAX_VALUE} bytes or holds a zero byte"))
            .hint("a secret becomes a variable or a header: give the text alone")
            .into());
    }
    let mut notes = Vec::new();
    if Redactor::new([(name.as_str(), value.as_str())]).is_empty() {
        notes.push("it is too short to be looked for in what programs print, and so is never redacted".to_owned());
    }
    let repository = repository(&app, &asked).await?;
    app.handle.set_secret(&repository, asked.stage, &name, Some(value)).await?;
    Ok(Json(wire::Secret { name, repository: path(&repository), stage: asked.stage, value: Kept::Set, notes }))
}

pub(crate) async fn forget(
    State(app): State<App>,
    Segment(name): Segment,
    Params(asked): Params<SecretsQuery>,
) -> Answer<wire::Secret> {
    let repository = repository(&app, &asked).await?;
    app.handle.set_secret(&repository, asked.stage, &name, None).await?;
    let (repository, value, notes) = (path(&repository), Kept::Absent, Vec::new());
    Ok(Json(wire::Secret { name, repository, stage: asked.stage, value, notes }))
}

async fn repository(app: &App, asked: &SecretsQuery) -> Result<Repository, Fault> {
    let directory = absolute(asked.directory.clone())?;
    Ok(app.handle.origin(directory, None).await?.repository)
}

fn path(repository: &Repository) -> String {
    repository.path.to_string_lossy().into_owned()
}
