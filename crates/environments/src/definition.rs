//! What a base says of its environment: the first file that says something, else what its files suggest.

mod cursor;
mod detect;
mod devcontainer;
mod json;
mod overnight;
mod values;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Fault,
    environment::{Definition, Source},
    ids::{CommitId, RepositoryId},
    ports::{
        egress::Egress,
        workspace::{Repository, Workspaces},
    },
};

/// Bytes of a file looked at.
const LONGEST: usize = 1 << 20;
/// Bases whose definition is remembered.
const REMEMBERED: usize = 256;

pub(crate) const OVERNIGHT: &str = "overnight.toml";
const CURSOR: &str = ".cursor/environment.json";
const DEVCONTAINERS: [&str; 3] = [".devcontainer/devcontainer.json", ".devcontainer.json", "devcontainer.json"];

/// Definitions by their base, which never changes what it says.
#[derive(Debug, Default)]
pub(crate) struct Definitions(Mutex<HashMap<(RepositoryId, CommitId), Arc<Definition>>>);

impl Definitions {
    pub async fn of(&self, base: Base<'_>, egress: &dyn Egress) -> Result<Arc<Definition>, Fault> {
        let key = (base.repository.id.clone(), base.commit.clone());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let read = Arc::new(base.definition(egress).await?);
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(key, Arc::clone(&read));
        Ok(read)
    }
}

/// A commit to look at.
#[derive(Clone)]
pub(crate) struct Base<'a> {
    pub workspaces: &'a dyn Workspaces,
    pub repository: Repository,
    pub commit: CommitId,
}

impl Base<'_> {
    async fn definition(&self, egress: &dyn Egress) -> Result<Definition, Fault> {
        let Some(text) = self.read(OVERNIGHT).await? else { return self.without_a_file_of_ours().await };
        let file = overnight::parse(&text, egress)?;
        let Some(environment) = file.environment else {
            let mut definition = self.without_a_file_of_ours().await?;
            definition.checks = file.checks;
            definition.checks_network.extend(file.checks_network);
            return Ok(definition);
        };
        let mut definition = environment.definition;
        let detected = detect::detect(self).await?;
        // Whoever names a host or a service need not spell out what every such repository installs.
        if !environment.says_what_to_install {
            definition.install = detected.install;
            for (name, value) in detected.variables {
                definition.variables.entry(name).or_insert(value);
            }
        }
        if !(environment.says_what_to_install && environment.says_where_from) {
            definition.install_network.extend(detected.install_network);
        }
        definition.locks.extend(detected.locks);
        definition.checks = file.checks;
        definition.checks_network = file.checks_network;
        Ok(definition)
    }

    async fn without_a_file_of_ours(&self) -> Result<Definition, Fault> {
        let detected = detect::detect(self).await?;
        let mut found = None;
        if let Some(text) = self.read(CURSOR).await? {
            found = Some(cursor::parse(CURSOR, &text)?);
        }
        for path in DEVCONTAINERS {
            if found.is_none()
                && let Some(text) = self.read(path).await?
            {
                found = Some(devcontainer::parse(path, &text)?);
            }
        }
        let Some(mut definition) = found else { return Ok(detected) };
        // Such a file knows nothing of networks; what its lines install is what the base's files speak of.
        definition.install_network = detected.install_network;
        definition.locks = detected.locks;
        for (name, value) in detected.variables {
            definition.variables.entry(name).or_insert(value);
        }
        if definition.install.is_empty() {
            definition.install = detected.install;
        }
        Ok(definition)
    }

    /// Names of the entries of a directory.
    async fn list(&self, directory: &str) -> Result<Vec<String>, Fault> {
        self.workspaces.list(self.repository.clone(), self.commit.clone(), directory.to_owned()).await
    }

    /// `None` where there is no such file.
    pub async fn bytes(&self, path: &str, max: usize) -> Result<Option<bytes::Bytes>, Fault> {
        self.workspaces.read(self.repository.clone(), self.commit.clone(), path.to_owned(), max).await
    }

    async fn read(&self, path: &str) -> Result<Option<String>, Fault> {
        let Some(content) = self.bytes(path, LONGEST + 1).await? else { return Ok(None) };
        if content.len() > LONGEST {
            return Err(Fault::input(format!("{path} is longer than {LONGEST} bytes")).hint("keep it short"));
        }
        match String::from_utf8(content.into()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Fault::input(format!("{path} is not UTF-8")).hint("save it as UTF-8 text")),
        }
    }
}

/// A mistake at a place of a file, by the offset of its first byte.
fn mistake(path: &str, text: &str, at: Option<usize>, what: &str) -> Fault {
    let what = what.trim_end().replace('\n', "; ");
    match at {
        Some(at) => {
            let before = &text.as_bytes()[..at.min(text.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Fault::input(format!("{path}:{line}: {what}"))
        }
        None => Fault::input(format!("{path}: {what}")),
    }
}

/// How a definition's source is told to a person.
pub(crate) fn told(source: &Source) -> String {
    match source {
        Source::Nothing => "nothing to install".to_owned(),
        Source::File(path) => path.clone(),
        Source::Detected(what) => format!("detected: {}", what.join(", ")),
    }
}

#[cfg(test)]
mod tests;
