//! Values of a repository's secrets: for the sandboxes that use them, and to keep them out of everything else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Fault,
    environment::{Definition, SecretPurpose, Stage},
    ids::RepositoryId,
    ports::{egress::Stamp, model::Credentials, store::Secrets, workspace::Repository},
    redact::Redactor,
};

/// Redactors by repository, each with the values it was made of.
#[derive(Default)]
pub(crate) struct Redactors(Mutex<HashMap<RepositoryId, ([Credentials; 2], Arc<Redactor>)>>);

impl std::fmt::Debug for Redactors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactors").finish_non_exhaustive()
    }
}

impl Redactors {
    /// For the values of all stages as they are now.
    pub async fn of(&self, secrets: &dyn Secrets, repository: &Repository) -> Result<Arc<Redactor>, Fault> {
        let values =
            [values(secrets, repository, Stage::Staging).await?, values(secrets, repository, Stage::Production).await?];
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, redactor)) = made.get(&repository.id)
            && *of == values
        {
            return Ok(Arc::clone(redactor));
        }
        let pairs = values.iter().flat_map(|stage| stage.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let redactor = Arc::new(Redactor::new(pairs));
        made.insert(repository.id.clone(), (values, Arc::clone(&redactor)));
        Ok(redactor)
    }
}

pub(crate) async fn values(secrets: &dyn Secrets, repository: &Repository, stage: Stage) -> Result<Credentials, Fault> {
    secrets.get(format!("repository/{}/{}", repository.id.0, stage.word())).await
}

/// The secrets that a definition uses, with their values.
#[derive(Default)]
pub(crate) struct Used {
    /// Variables of an installation.
    pub install: Vec<(String, String)>,
    pub stamps: Vec<Stamp>,
    /// One sentence for each that is not set.
    pub notes: Vec<String>,
}

impl Used {
    pub async fn of(secrets: &dyn Secrets, repository: &Repository, definition: &Definition) -> Result<Self, Fault> {
        let mut used = Self::default();
        if definition.secrets.is_empty() {
            return Ok(used);
        }
        let values = values(secrets, repository, definition.stage).await?;
        for secret in &definition.secrets {
            let name = &secret.name;
            match (values.get(name), &secret.to) {
                (Some(value), SecretPurpose::Install) => used.install.push((name.clone(), value.to_owned())),
                (Some(secret), SecretPurpose::Proxy { host, header, value }) => used.stamps.push(Stamp {
                    host: host.clone(),
                    header: header.clone(),
                    value: value.replace("{}", secret.trim()),
                }),
                (None, _) => {
                    let stage = match definition.stage {
                        Stage::Staging => "",
                        Stage::Production => " --stage production",
                    };
                    used.notes.push(format!("The secret {name} is not set: `overnight secret set {name}{stage}`."));
                }
            }
        }
        Ok(used)
    }
}
