//! Agents and profiles: what there is to choose from.

use axum::{Json, extract::State};
use domain::ports::agent::AgentInfo;

use crate::{
    App,
    extract::{Answer, Params, absolute},
    wire::{self, ProfilesQuery},
};

pub(crate) async fn list(State(app): State<App>) -> Answer<wire::Agents> {
    Ok(Json(wire::Agents { agents: app.ports().agents.list().into_iter().map(|info| view(&app, info)).collect() }))
}

fn view(app: &App, info: AgentInfo) -> wire::Agent {
    // What is not installed has no login to lend either.
    let needs = app.ports().agents.find(&info.name).and_then(|agent| agent.needs());
    let login_files = needs.ok().and_then(|needs| needs.login).map(|login| login.files).unwrap_or_default();
    let AgentInfo { name, driven, version, tried, program, model, protocols, missing, remarks } = info;
    wire::Agent { name, driven, version, tried, program, model, protocols, missing, remarks, login_files }
}

pub(crate) async fn profiles(State(app): State<App>, Params(asked): Params<ProfilesQuery>) -> Answer<wire::Profiles> {
    let origin = match asked.directory {
        Some(directory) => Some(app.handle.origin(absolute(directory)?, asked.base).await?),
        None => None,
    };
    Ok(Json(wire::Profiles { profiles: app.handle.profiles(origin.as_ref()).await? }))
}
