//! The port itself: each call is a job on a blocking thread, as many at once as the machine has use for.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use domain::{
    Fault,
    environment::EnvironmentId,
    ids::{AttemptKey, CommitId, TaskId},
    ports::{
        BoxFuture,
        workspace::{
            BlamedLine, ChangedPath, CheckoutRequest, DiskUse, EnvironmentLayer, LandRequest, Landing, Origin,
            PrepareRequest, Prepared, RaiseRequest, Repository, ResolveRequest, Snapshot, SnapshotRequest,
            Workspaces as Port,
        },
    },
};
use tokio::sync::Semaphore;

use crate::{git::Git, home::Home, rung::Rung, store::Store};

/// How this room is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// `$OVERNIGHT_HOME`; made if absent. One process at a time may have it.
    pub home: PathBuf,
    /// What the machine was found to be able to, for confined processes. Plain ones get copies.
    pub rung: Rung,
    /// What layers may hold on disk, in bytes. `None`: 10 GiB, or a tenth of the file system where that is less.
    pub layers_bytes: Option<u64>,
}

/// The implementation of the port. One per home.
#[derive(Debug)]
pub struct Workspaces {
    home: Arc<Home>,
    jobs: Arc<Semaphore>,
}

impl Workspaces {
    /// Finds git and sweeps what an earlier life left. `Environment`: no git, one older than 2.38, or a home that cannot be
    /// written; the hint says what to do.
    pub fn open(options: Options) -> Result<Arc<Self>, Fault> {
        let home = Home::open(&options, Git::find()?)?;
        home.sweep()?;
        // A job is mostly one git process at a time; a few more than cores cover those that wait for the disk.
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Arc::new(Self { home, jobs: Arc::new(Semaphore::new(2 * cores + 2)) }))
    }

    /// Runs a job to its end, even where the caller stops waiting: an effect is not left half done without need.
    fn run<'a, T: Send + 'static>(
        &'a self,
        job: impl FnOnce(&Home) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, Fault>> {
        let (home, jobs) = (Arc::clone(&self.home), Arc::clone(&self.jobs));
        Box::pin(async move {
            let permit = jobs.acquire_owned().await.map_err(|error| Fault::bug(error.to_string()))?;
            let ended = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                job(&home)
            });
            ended.await.map_err(|error| Fault::bug(format!("a workspace job did not end: {error}")))?
        })
    }

    fn look<'a, T: Send + 'static>(
        &'a self,
        repository: Repository,
        job: impl FnOnce(&Store<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, Fault>> {
        self.run(move |home| job(&home.store(&repository.id)?))
    }
}

impl Port for Workspaces {
    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Origin, Fault>> {
        self.run(move |home| home.resolve(&request))
    }

    fn scratch(&self, _task: TaskId) -> BoxFuture<'_, Result<Origin, Fault>> {
        self.run(Home::scratch)
    }

    fn prepare(&self, request: PrepareRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        self.run(move |home| home.prepare(&request))
    }

    fn snapshot(&self, request: SnapshotRequest) -> BoxFuture<'_, Result<Snapshot, Fault>> {
        self.run(move |home| home.snapshot(&request))
    }

    fn release(
        &self,
        repository: Repository,
        key: AttemptKey,
        snapshot: Option<CommitId>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        self.run(move |home| home.release(&repository, key, snapshot.as_ref()))
    }

    fn checkout(&self, request: CheckoutRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        self.run(move |home| home.checkout(&request))
    }

    fn discard_checkout(&self, name: String) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(fault) = self.run(move |home| home.discard_checkout(&name)).await {
                tracing::warn!(%fault, "a checkout stays until the next start");
            }
        })
    }

    fn raise(&self, request: RaiseRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        self.run(move |home| home.raise(&request))
    }

    fn freeze(
        &self,
        repository: Repository,
        id: EnvironmentId,
        about: String,
    ) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        self.run(move |home| home.freeze(&repository, &id, about))
    }

    fn remove_environment(&self, repository: Repository, id: EnvironmentId) -> BoxFuture<'_, Result<(), Fault>> {
        self.run(move |home| home.remove_environment(&repository, &id))
    }

    fn environments(&self, repository: Repository) -> BoxFuture<'_, Result<Vec<EnvironmentLayer>, Fault>> {
        self.run(move |home| home.environments(&repository))
    }

    fn serves(&self, repository: Repository, id: EnvironmentId, base: CommitId) -> BoxFuture<'_, Result<bool, Fault>> {
        self.run(move |home| home.serves(&repository, &id, &base))
    }

    fn disk_use(&self) -> BoxFuture<'_, Result<DiskUse, Fault>> {
        self.run(Home::disk_use)
    }

    fn diff(&self, repository: Repository, from: CommitId, to: CommitId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        self.look(repository, move |store| store.diff(&from, &to))
    }

    fn changed_paths(
        &self,
        repository: Repository,
        from: CommitId,
        to: CommitId,
    ) -> BoxFuture<'_, Result<Vec<ChangedPath>, Fault>> {
        self.look(repository, move |store| store.changed_paths(&from, &to))
    }

    fn read(
        &self,
        repository: Repository,
        commit: CommitId,
        path: String,
        max: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        self.look(repository, move |store| store.read(&commit, &path, max))
    }

    fn list(
        &self,
        repository: Repository,
        commit: CommitId,
        directory: String,
    ) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        self.look(repository, move |store| store.list(&commit, &directory))
    }

    fn blame(
        &self,
        repository: Repository,
        commit: CommitId,
        path: String,
    ) -> BoxFuture<'_, Result<Vec<BlamedLine>, Fault>> {
        self.look(repository, move |store| store.blame(&commit, &path))
    }

    fn land(&self, request: LandRequest) -> BoxFuture<'_, Result<Landing, Fault>> {
        self.run(move |home| home.land(&request))
    }

    fn pull(
        &self,
        directory: PathBuf,
        repository: Repository,
        task: TaskId,
        head: CommitId,
    ) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        self.run(move |home| home.pull(&directory, &repository, task, &head))
    }

    fn discard(&self, repository: Repository, task: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        self.run(move |home| home.discard(&repository, task))
    }

    fn purge(&self, repository: Repository, task: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        self.run(move |home| home.purge(&repository, task))
    }
}
