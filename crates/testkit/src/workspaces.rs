//! Workspaces without git.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use domain::{
    Fault,
    alphabet::commit,
    environment::EnvironmentId,
    ids::{AttemptKey, CommitId, RepositoryId, TaskId},
    ports::{
        BoxFuture,
        sandbox::Tree,
        workspace::{
            BlamedLine, ChangedPath, CheckoutRequest, DiffStat, DiskUse, EnvironmentLayer, LandRequest, Landing,
            Origin, PrepareRequest, Prepared, RaiseRequest, Repository, ResolveRequest, Snapshot, SnapshotRequest,
            Workspaces,
        },
    },
};
use jiff::Timestamp;

use crate::{locked, ready};

/// Workspaces that remember what was asked of them. Every snapshot is a new commit with a change in it.
#[derive(Clone, Debug, Default)]
pub struct ScriptedWorkspaces {
    calls: Arc<Mutex<Vec<String>>>,
    landings: Arc<Mutex<VecDeque<Landing>>>,
    faults: Arc<Mutex<VecDeque<(&'static str, Fault)>>>,
    snapshots: Arc<AtomicU64>,
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    raised: Arc<Mutex<BTreeMap<EnvironmentId, CommitId>>>,
    layers: Arc<Mutex<Vec<EnvironmentLayer>>>,
}

impl ScriptedWorkspaces {
    /// What was called, in order: `prepare T-1.1`, `snapshot T-1.1`, …
    pub fn calls(&self) -> Vec<String> {
        locked(&self.calls).clone()
    }

    /// The next landings come out like this; without one, a landing lands.
    pub fn land_as(&self, landings: impl IntoIterator<Item = Landing>) {
        locked(&self.landings).extend(landings);
    }

    /// The next call of this name fails.
    pub fn fail_next(&self, call: &'static str, fault: Fault) {
        locked(&self.faults).push_back((call, fault));
    }

    /// From now on every commit has this file.
    pub fn put(&self, path: &str, content: &str) {
        locked(&self.files).insert(path.to_owned(), Bytes::copy_from_slice(content.as_bytes()));
    }

    fn called(&self, name: &str, of: impl std::fmt::Display) -> Result<(), Fault> {
        locked(&self.calls).push(format!("{name} {of}"));
        let mut faults = locked(&self.faults);
        match faults.iter().position(|(call, _)| *call == name) {
            Some(at) => Err(faults.remove(at).map_or_else(|| Fault::bug("lost"), |(_, fault)| fault)),
            None => Ok(()),
        }
    }
}

impl Workspaces for ScriptedWorkspaces {
    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Origin, Fault>> {
        let repository = Repository { id: RepositoryId("r".to_owned()), path: request.directory };
        let origin = Origin { repository, base: commit(1), target: Some("main".to_owned()), notes: Vec::new() };
        ready(self.called("resolve", "").map(|()| origin))
    }

    fn scratch(&self, task: TaskId) -> BoxFuture<'_, Result<Origin, Fault>> {
        let repository = Repository { id: RepositoryId("scratch".to_owned()), path: PathBuf::from("/scratch") };
        let origin = Origin { repository, base: commit(1), target: None, notes: Vec::new() };
        ready(self.called("scratch", task).map(|()| origin))
    }

    fn prepare(&self, request: PrepareRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        ready(self.called("prepare", request.key).map(|()| nowhere()))
    }

    fn snapshot(&self, request: SnapshotRequest) -> BoxFuture<'_, Result<Snapshot, Fault>> {
        let number = self.snapshots.fetch_add(1, Ordering::SeqCst);
        let stat = DiffStat { files: 1, added: 1, deleted: 0 };
        let snapshot = Snapshot { commit: commit(100 + number), empty: false, stat };
        ready(self.called("snapshot", request.key).map(|()| snapshot))
    }

    fn release(&self, _: Repository, key: AttemptKey, _: Option<CommitId>) -> BoxFuture<'_, Result<(), Fault>> {
        ready(self.called("release", key))
    }

    fn checkout(&self, request: CheckoutRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        ready(self.called("checkout", request.name).map(|()| nowhere()))
    }

    fn discard_checkout(&self, name: String) -> BoxFuture<'_, ()> {
        locked(&self.calls).push(format!("discard_checkout {name}"));
        ready(())
    }

    fn raise(&self, request: RaiseRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        let called = self.called("raise", &request.id);
        ready(called.map(|()| {
            locked(&self.raised).insert(request.id, request.base);
            nowhere()
        }))
    }

    fn freeze(&self, _: Repository, id: EnvironmentId, about: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        let called = self.called("freeze", &id);
        ready(called.and_then(|()| {
            let base = locked(&self.raised).remove(&id);
            let base = base.ok_or_else(|| Fault::not_found(format!("no place is raised for environment {id}")))?;
            let layer = EnvironmentLayer { id, base, frozen_at: Timestamp::UNIX_EPOCH, bytes: 0, about, users: 0 };
            locked(&self.layers).insert(0, layer);
            Ok(Vec::new())
        }))
    }

    fn remove_environment(&self, _: Repository, id: EnvironmentId) -> BoxFuture<'_, Result<(), Fault>> {
        locked(&self.raised).remove(&id);
        locked(&self.layers).retain(|layer| layer.id != id);
        ready(self.called("remove_environment", id))
    }

    fn environments(&self, _: Repository) -> BoxFuture<'_, Result<Vec<EnvironmentLayer>, Fault>> {
        ready(Ok(locked(&self.layers).clone()))
    }

    fn serves(&self, _: Repository, id: EnvironmentId, _: CommitId) -> BoxFuture<'_, Result<bool, Fault>> {
        ready(Ok(locked(&self.layers).iter().any(|layer| layer.id == id)))
    }

    fn disk_use(&self) -> BoxFuture<'_, Result<DiskUse, Fault>> {
        ready(Ok(DiskUse::default()))
    }

    fn diff(&self, _: Repository, _: CommitId, _: CommitId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        ready(Ok(Bytes::new()))
    }

    fn changed_paths(&self, _: Repository, _: CommitId, _: CommitId) -> BoxFuture<'_, Result<Vec<ChangedPath>, Fault>> {
        ready(Ok(Vec::new()))
    }

    fn read(
        &self,
        _: Repository,
        _: CommitId,
        path: String,
        max: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        ready(Ok(locked(&self.files).get(&path).map(|content| content.slice(..content.len().min(max)))))
    }

    fn list(&self, _: Repository, _: CommitId, directory: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        let prefix = if directory.is_empty() { directory } else { format!("{directory}/") };
        let files = locked(&self.files);
        let mut names: Vec<String> =
            files.keys().filter_map(|path| path.strip_prefix(&prefix)?.split('/').next().map(str::to_owned)).collect();
        names.dedup();
        ready(Ok(names))
    }

    fn blame(&self, _: Repository, _: CommitId, _: String) -> BoxFuture<'_, Result<Vec<BlamedLine>, Fault>> {
        ready(Ok(Vec::new()))
    }

    fn land(&self, request: LandRequest) -> BoxFuture<'_, Result<Landing, Fault>> {
        let scripted = locked(&self.landings).pop_front();
        let commit = request.rechecked.unwrap_or(request.head);
        let landing = scripted.unwrap_or(Landing::Landed { target: "main".to_owned(), commit });
        ready(self.called("land", request.task).map(|()| landing))
    }

    fn pull(&self, _: PathBuf, _: Repository, task: TaskId, _: CommitId) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        ready(self.called("pull", task).map(|()| Vec::new()))
    }

    fn discard(&self, _: Repository, task: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        ready(self.called("discard", task))
    }

    fn purge(&self, _: Repository, task: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        ready(self.called("purge", task))
    }
}

/// A place that no sandbox of a test looks at.
fn nowhere() -> Prepared {
    let path = PathBuf::from("/nowhere");
    let tree = Tree::Directory(path.clone());
    Prepared {
        root: tree.clone(),
        home: tree,
        scratch: path.clone(),
        readable: Vec::new(),
        spill: path.clone(),
        lock: path,
    }
}
