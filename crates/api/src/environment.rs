//! A repository's environment: what its base says, the layers there are, building and judging one.

use std::path::PathBuf;

use axum::{Json, extract::State, response::Response};
use domain::{
    Fault,
    environment::Definition,
    ports::{environments::Layer, workspace::Origin},
};

use crate::{
    App,
    extract::{Answer, Body, Id, Params, absolute},
    problem::Failure,
    wire::{self, EnvironmentQuery, Kept},
    work::work,
};

pub(crate) async fn show(State(app): State<App>, Params(asked): Params<EnvironmentQuery>) -> Answer<wire::Environment> {
    let origin = origin(&app, asked.directory, asked.base).await?;
    Ok(Json(view(&app, origin).await?))
}

/// The environment of the base that a task stands on, whatever the repository has come to since.
pub(crate) async fn of_task(State(app): State<App>, Id(id): Id) -> Answer<wire::Environment> {
    let task = app.task(id).await?;
    Ok(Json(view(&app, task.origin).await?))
}

async fn origin(app: &App, directory: PathBuf, base: Option<String>) -> Result<Origin, Fault> {
    app.handle.origin(absolute(directory)?, base).await
}

async fn view(app: &App, origin: Origin) -> Result<wire::Environment, Fault> {
    let Origin { repository, base, .. } = origin;
    let environments = app.handle.environments();
    let definition = environments.definition(repository.clone(), base.clone()).await?;
    let layers = environments.layers(repository.clone()).await?;
    let kept = app.handle.secret_names(&repository, definition.stage).await?;
    let checks = match definition.checks.as_slice() {
        [] => app.ports().checks.detect(repository.clone(), base.clone()).await?,
        checks => checks.to_vec(),
    };
    Ok(wire::Environment {
        repository: repository.path.to_string_lossy().into_owned(),
        base,
        definition: definition_view(&definition, &kept),
        checks,
        layers: layers.into_iter().map(layer_view).collect(),
    })
}

fn definition_view(definition: &Definition, kept: &[String]) -> wire::environment::Definition {
    let services = definition.services.iter().map(|service| wire::environment::Service {
        name: service.name.clone(),
        command: service.command.clone(),
        ready: service.ready.clone(),
        ready_within_s: service.ready_within.as_secs(),
        port: service.port,
    });
    let secrets = definition.secrets.iter().map(|secret| wire::environment::SecretUse {
        name: secret.name.clone(),
        to: secret.to.clone(),
        value: if kept.contains(&secret.name) { Kept::Set } else { Kept::Absent },
    });
    wire::environment::Definition {
        source: definition.source.clone(),
        install: definition.install.clone(),
        install_network: definition.install_network.clone(),
        services: services.collect(),
        variables: definition.variables.clone(),
        secrets: secrets.collect(),
        network: definition.network.clone(),
        checks_network: definition.checks_network.clone(),
        resources: definition.resources,
        caches: definition.caches.clone(),
        locks: definition.locks.clone(),
        stage: definition.stage,
        notes: definition.notes.clone(),
    }
}

fn layer_view(known: Layer) -> wire::environment::Layer {
    let Layer { layer, health, source, seconds, log } = known;
    wire::environment::Layer {
        id: layer.id,
        base: layer.base,
        health,
        frozen_at: layer.frozen_at,
        bytes: layer.bytes,
        users: layer.users,
        source,
        seconds,
        log,
    }
}

pub(crate) async fn build(
    State(app): State<App>,
    Body(asked): Body<wire::BuildEnvironment>,
) -> Result<Response, Failure> {
    let origin = origin(&app, asked.directory, asked.base).await?;
    let start = asked.start.into();
    let handle = app.handle.clone();
    Ok(work(app, "built", |told| async move {
        let built = handle.build_environment(&origin, start, told).await?;
        let domain::ports::environments::Built { used, seconds, log, left_out, refused } = built;
        Ok(wire::environment::Built { used, seconds, log, left_out, refused })
    }))
}

pub(crate) async fn check(
    State(app): State<App>,
    Body(asked): Body<wire::CheckEnvironment>,
) -> Result<Response, Failure> {
    let origin = origin(&app, asked.directory, asked.base).await?;
    let handle = app.handle.clone();
    Ok(work(app, "checked", |told| async move { handle.check_environment(&origin, told).await }))
}
