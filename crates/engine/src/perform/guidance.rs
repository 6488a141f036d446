//! What a repository tells agents at the base: its AGENTS.md, and the files where it keeps profiles, skills, commands and servers
//! of tools. Read once per base.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use domain::{
    Fault,
    ids::{CommitId, RepositoryId},
    ports::{
        agent::{GUIDANCE_FILES, PROFILE_FILES},
        workspace::{Origin, Workspaces},
    },
};

/// The file with the instructions, in the root of a repository.
const INSTRUCTIONS: &str = "AGENTS.md";
/// The longest instructions that an agent is given, and the longest other file.
const BYTES: usize = 32 << 10;
/// Files of one kind of place at most; directories below it at most so deep.
const FILES: usize = 200;
const DEPTH: usize = 4;
/// Bases remembered; when full, all are forgotten (they are cheap to read again).
const REMEMBERED: usize = 64;

/// Files by path.
pub(crate) type Papers = Arc<Vec<(String, Bytes)>>;

/// What one base says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// (path, text), root first.
    pub instructions: Vec<(String, String)>,
    /// Of [`GUIDANCE_FILES`].
    pub guidance: Papers,
    /// Of [`PROFILE_FILES`].
    pub profiles: Papers,
}

#[derive(Debug, Default)]
pub(crate) struct Guidance(Mutex<HashMap<(RepositoryId, CommitId), Said>>);

impl Guidance {
    pub async fn of(&self, workspaces: &Arc<dyn Workspaces>, origin: &Origin) -> Result<Said, Fault> {
        let key = (origin.repository.id.clone(), origin.base.clone());
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let base = Base { workspaces, origin, root: list(workspaces, origin, "").await? };
        let instructions = base.read(INSTRUCTIONS).await?;
        let text = |(path, content): (String, Bytes)| (path, String::from_utf8_lossy(&content).into_owned());
        let said = Said {
            instructions: instructions.into_iter().map(text).collect(),
            guidance: Arc::new(base.papers(&GUIDANCE_FILES).await?),
            profiles: Arc::new(base.papers(&PROFILE_FILES).await?),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, said.clone());
        Ok(said)
    }
}

struct Base<'a> {
    workspaces: &'a Arc<dyn Workspaces>,
    origin: &'a Origin,
    /// Names in the root: most bases have none of the places.
    root: Vec<String>,
}

impl Base<'_> {
    async fn papers(&self, places: &[(&str, &str)]) -> Result<Vec<(String, Bytes)>, Fault> {
        let mut papers = Vec::new();
        for (place, end) in places {
            if end.is_empty() {
                papers.extend(self.read(place).await?);
            } else {
                for path in self.below(place, end).await? {
                    papers.extend(self.read(&path).await?);
                }
            }
        }
        Ok(papers)
    }

    async fn read(&self, path: &str) -> Result<Option<(String, Bytes)>, Fault> {
        if !self.has(path) {
            return Ok(None);
        }
        let Origin { repository, base, .. } = self.origin;
        let content = self.workspaces.read(repository.clone(), base.clone(), path.to_owned(), BYTES).await?;
        Ok(content.map(|content| (path.to_owned(), content)))
    }

    fn has(&self, path: &str) -> bool {
        let first = path.split('/').next().unwrap_or(path);
        self.root.iter().any(|name| name == first)
    }

    /// Paths below `place` that end so, in order.
    async fn below(&self, place: &str, end: &str) -> Result<Vec<String>, Fault> {
        let (mut found, mut level) = (Vec::new(), vec![place.to_owned()]);
        for _ in 0..DEPTH {
            let mut next = Vec::new();
            for directory in level.into_iter().filter(|directory| self.has(directory)) {
                for name in list(self.workspaces, self.origin, &directory).await? {
                    let path = format!("{directory}/{name}");
                    if path.ends_with(end) {
                        found.push(path);
                    } else if !name.contains('.') {
                        next.push(path);
                    }
                }
            }
            level = next;
        }
        found.sort();
        found.truncate(FILES);
        Ok(found)
    }
}

async fn list(workspaces: &Arc<dyn Workspaces>, origin: &Origin, directory: &str) -> Result<Vec<String>, Fault> {
    workspaces.list(origin.repository.clone(), origin.base.clone(), directory.to_owned()).await
}
