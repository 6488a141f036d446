//! Models at hand, and the budgets they are paid from.

use axum::{Json, extract::State};
use domain::{
    Fault,
    ports::model::{Credentials, TriedModel},
};

use crate::{
    App,
    extract::{Answer, Body, Caller},
    wire::{self, AskModels, TryModel},
};

pub(crate) async fn list(State(app): State<App>, Body(asked): Body<AskModels>) -> Answer<wire::Models> {
    let credentials = with_kept(&app, asked.credentials).await?;
    let models = app.ports().gateways.models(credentials).await;
    Ok(Json(wire::Models { models: models.into_iter().map(Into::into).collect() }))
}

/// The caller's go before those that are kept.
async fn with_kept(app: &App, given: Credentials) -> Result<Credentials, Fault> {
    let mut credentials = app.ports().secrets.get(crate::keys::SCOPE.to_owned()).await?;
    credentials.0.extend(given.0);
    Ok(credentials)
}

pub(crate) async fn try_out(State(app): State<App>, caller: Caller, Body(asked): Body<TryModel>) -> Answer<TriedModel> {
    Ok(Json(app.handle.try_model(asked.name, &caller.actor.to_string(), asked.credentials).await?))
}

pub(crate) async fn budget(State(app): State<App>, caller: Caller) -> Answer<wire::Purses> {
    let purses = app.handle.purses(&caller.actor.to_string()).await?;
    Ok(Json(wire::Purses { purses: purses.into_iter().map(Into::into).collect() }))
}
