//! Workspaces without git, sandboxes without processes, checks without commands.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use domain::{
    Fault,
    alphabet::commit,
    check::{CheckSpec, Judgement, Verdict},
    ids::{AttemptKey, CommitId, RepositoryId, TaskId},
    ports::{
        BoxFuture,
        checks::{Checks, JudgeRequest},
        model::{Access, Credentials, Endpoint, Gateways, Model, ResolvedModel},
        sandbox::{Exec, Files, Probe, Process, Sandbox, SandboxSpec, Sandboxes},
        workspace::{
            ChangedPath, Checkout, CheckoutRequest, DiffStat, LandRequest, Landing, Origin, Prepared, Repository,
            ResolveRequest, Snapshot, SnapshotRequest, Workspaces,
        },
    },
};

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Workspaces that remember what was asked of them. Every snapshot is a new commit with a change in it.
#[derive(Clone, Debug, Default)]
pub struct ScriptedWorkspaces {
    calls: Arc<Mutex<Vec<String>>>,
    landings: Arc<Mutex<VecDeque<Landing>>>,
    faults: Arc<Mutex<VecDeque<(&'static str, Fault)>>>,
    snapshots: Arc<AtomicU64>,
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

    fn prepare(&self, _: Repository, key: AttemptKey, _: CommitId) -> BoxFuture<'_, Result<Prepared, Fault>> {
        let path = PathBuf::from("/nowhere");
        let prepared =
            Prepared { root: path.clone(), home: path.clone(), readable: Vec::new(), spill: path.clone(), lock: path };
        ready(self.called("prepare", key).map(|()| prepared))
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

    fn checkout(&self, request: CheckoutRequest) -> BoxFuture<'_, Result<Checkout, Fault>> {
        ready(Err(Fault::bug(format!("no check of a test checks anything out: {}", request.name))))
    }

    fn discard_checkout(&self, _: Checkout) -> BoxFuture<'_, ()> {
        ready(())
    }

    fn diff(&self, _: Repository, _: CommitId, _: CommitId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        ready(Ok(Bytes::new()))
    }

    fn changed_paths(&self, _: Repository, _: CommitId, _: CommitId) -> BoxFuture<'_, Result<Vec<ChangedPath>, Fault>> {
        ready(Ok(Vec::new()))
    }

    fn read(&self, _: Repository, _: CommitId, _: String, _: usize) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        ready(Ok(None))
    }

    fn list(&self, _: Repository, _: CommitId, _: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
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

/// Sandboxes in which nothing can be started.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainSandboxes;

impl Sandboxes for PlainSandboxes {
    fn probe(&self) -> Probe {
        Probe { confined: true, walls: Vec::new() }
    }

    fn open(&self, _: SandboxSpec) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, Fault>> {
        ready(Ok(Arc::new(Self) as Arc<dyn Sandbox>))
    }

    fn ensure_dead(&self, _: PathBuf, _: Duration) -> BoxFuture<'_, Result<(), Fault>> {
        ready(Ok(()))
    }
}

impl Sandbox for PlainSandboxes {
    fn spawn(&self, _: Exec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        ready(Err(Fault::bug("nothing can be started here")))
    }

    fn files(&self) -> &dyn Files {
        self
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        ready(())
    }
}

impl Files for PlainSandboxes {
    fn read(&self, path: &str, _: u64, _: usize) -> Result<(Bytes, u64), Fault> {
        Err(Fault::not_found(path))
    }

    fn write(&self, path: &str, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::not_found(path))
    }
}

/// Checks that say what a test wants to hear; green when it has no more wishes.
#[derive(Clone, Debug, Default)]
pub struct ScriptedChecks(Arc<Mutex<VecDeque<Verdict>>>);

impl ScriptedChecks {
    pub fn say(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        Self(Arc::new(Mutex::new(verdicts.into_iter().collect())))
    }
}

impl Checks for ScriptedChecks {
    fn detect(&self, _: Repository, _: CommitId) -> BoxFuture<'_, Result<Vec<CheckSpec>, Fault>> {
        ready(Ok(vec![CheckSpec::from_command("true")]))
    }

    fn judge(&self, _: JudgeRequest) -> BoxFuture<'_, Result<Judgement, Fault>> {
        let verdict = locked(&self.0).pop_front().unwrap_or(Verdict::Green);
        ready(Ok(Judgement {
            verdict,
            runs: Vec::new(),
            outside_allowed: Vec::new(),
            protected_touched: Vec::new(),
            digest: format!("the checks are {}", verdict.word()),
            fingerprint: if verdict == Verdict::Green { String::new() } else { "f".to_owned() },
        }))
    }
}

/// A gateway for agents that need none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmetered;

impl Gateways for Unmetered {
    fn resolve(&self, name: Option<&str>, _: &Credentials, _: &domain::budget::Budget) -> Result<ResolvedModel, Fault> {
        Ok(ResolvedModel { name: name.unwrap_or("none").to_owned(), priced: false })
    }

    fn model(&self, _: Access) -> Result<Arc<dyn Model>, Fault> {
        Err(Fault::bug("no model is needed here"))
    }

    fn endpoint(&self, _: Access) -> BoxFuture<'_, Result<Endpoint, Fault>> {
        ready(Err(Fault::bug("no model is needed here")))
    }
}
