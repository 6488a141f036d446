//! What callers ask of a repository rather than of a task: its environment and its secrets.

use std::{path::PathBuf, sync::Arc};

use domain::{
    Fault,
    environment::{EnvironmentUse, Stage},
    ids::{AttemptNo, TaskId},
    ports::{
        egress::Egress,
        environments::{BuildRequest, Built, Environments, Start, Told},
        sandbox::Confinement,
        workspace::{DiskUse, Origin, Repository, ResolveRequest},
    },
};

use crate::{Handle, Look, TakeOver, TakeOverRequest, perform::checks_of};

impl Handle {
    pub fn environments(&self) -> &Arc<dyn Environments> {
        &self.ports().environments
    }

    pub fn egress(&self) -> &Arc<dyn Egress> {
        &self.ports().egress
    }

    /// The repository at a directory, with a base to look at (`None`: `HEAD`), kept as a task's would be.
    pub async fn origin(&self, directory: PathBuf, base: Option<String>) -> Result<Origin, Fault> {
        self.ports().workspaces.resolve(ResolveRequest { directory, base, ..ResolveRequest::default() }).await
    }

    /// Builds the environment of a base, judged by the checks that the base defines or suggests.
    pub async fn build_environment(&self, origin: &Origin, start: Start, told: Told) -> Result<Built, Fault> {
        let request = self.build_request(origin, told).await?;
        self.environments().build(request, start).await
    }

    /// Judges the environment that serves a base.
    pub async fn check_environment(&self, origin: &Origin, told: Told) -> Result<EnvironmentUse, Fault> {
        let request = self.build_request(origin, told).await?;
        self.environments().check(request).await
    }

    async fn build_request(&self, origin: &Origin, told: Told) -> Result<BuildRequest, Fault> {
        let (repository, base) = (origin.repository.clone(), origin.base.clone());
        let definition = self.environments().definition(repository.clone(), base.clone()).await?;
        let checks = checks_of(&self.core.site, origin, &definition).await?;
        Ok(BuildRequest { repository, base, confinement: Confinement::Confined, checks, told })
    }

    /// Sets a secret of a repository, or removes it. `NotFound` when there is none to remove.
    pub async fn set_secret(
        &self,
        repository: &Repository,
        stage: Stage,
        name: &str,
        value: Option<String>,
    ) -> Result<(), Fault> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.len() > 128
            || !name.chars().all(valid)
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(Fault::input(format!("`{name}` cannot name a secret"))
                .hint("as a variable: letters, digits and `_`, not beginning with a digit"));
        }
        let _one_at_a_time = self.core.secrets.lock().await;
        let (secrets, scope) = (&self.ports().secrets, secrets_scope(repository, stage));
        let mut values = secrets.get(scope.clone()).await?;
        match value {
            Some(value) if value.is_empty() => return Err(Fault::input(format!("the value of {name} is empty"))),
            Some(value) => drop(values.0.insert(name.to_owned(), value)),
            None if values.0.remove(name).is_none() => {
                return Err(Fault::not_found(format!("there is no {} secret {name}", stage.word())));
            }
            None => {}
        }
        secrets.put(scope, values).await
    }

    pub async fn secret_names(&self, repository: &Repository, stage: Stage) -> Result<Vec<String>, Fault> {
        Ok(self.ports().secrets.get(secrets_scope(repository, stage)).await?.0.into_keys().collect())
    }

    /// Opens a terminal for a person in an attempt's sandbox.
    pub async fn take_over(&self, request: TakeOverRequest) -> Result<TakeOver, Fault> {
        self.core.take_over(request).await
    }

    /// One connection to a port of an attempt's services.
    pub async fn preview(&self, task: TaskId, attempt: Option<AttemptNo>, port: Option<u16>) -> Result<Look, Fault> {
        self.core.preview(task, attempt, port).await
    }

    pub async fn disk_use(&self) -> Result<DiskUse, Fault> {
        self.ports().workspaces.disk_use().await
    }
}

/// Where a repository's secrets are kept.
fn secrets_scope(repository: &Repository, stage: Stage) -> String {
    format!("repository/{}/{}", repository.id.0, stage.word())
}
