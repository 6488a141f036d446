//! Port of `environments`: what a base says of its environment, the layers built of it, and sandboxes furnished as it says.

use std::{path::PathBuf, sync::Arc};

use super::{
    BoxFuture,
    egress::Refusal,
    sandbox::{Bridge, Confinement, Sandbox},
    workspace::{EnvironmentLayer, Prepared, Repository},
};
use crate::{
    Fault,
    check::{BlobId, CheckSpec},
    environment::{Definition, EnvironmentUse, Health},
    ids::CommitId,
    redact::Redactor,
};

pub trait Environments: Send + Sync {
    /// What the base says: `overnight.toml`, else `.cursor/environment.json`, else `devcontainer.json`, else what its files
    /// suggest. `Input` names the file, the place in it and what is wrong.
    fn definition(&self, repository: Repository, base: CommitId) -> BoxFuture<'_, Result<Arc<Definition>, Fault>>;

    /// The environment for a task on `base`. A layer that serves is given at once, and a newer one is built in the background where
    /// the base or a lock file has moved. Where none serves and a file defines it, one is built first, and waited for. `Environment`
    /// when installing fails: the end of its log, the hosts that were refused, and the line to add.
    fn provide(&self, request: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>>;

    /// Builds the layer for `base`, whether or not one is there.
    fn build(&self, request: BuildRequest, start: Start) -> BoxFuture<'_, Result<Built, Fault>>;

    /// Runs the checks on the base in a fresh checkout over the layer that serves it, and keeps what they say as its health.
    /// `NotFound` where no layer serves.
    fn check(&self, request: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>>;

    /// Newest first, with what is known of each.
    fn layers(&self, repository: Repository) -> BoxFuture<'_, Result<Vec<Layer>, Fault>>;

    /// Opens a sandbox as the definition says: network, variables, bounds, services. A service that does not become ready is no
    /// fault: it is told in the notes.
    fn open(&self, request: OpenRequest) -> BoxFuture<'_, Result<Opened, Fault>>;

    /// The values that must not be seen in anything of this repository.
    fn redactor(&self, repository: Repository) -> BoxFuture<'_, Result<Arc<Redactor>, Fault>>;
}

/// Tells a person how a build goes, a line at a time.
pub type Told = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Clone)]
pub struct BuildRequest {
    pub repository: Repository,
    pub base: CommitId,
    pub confinement: Confinement,
    /// What judges the base's health; run in the fresh environment, whose caches they warm.
    pub checks: Vec<CheckSpec>,
    pub told: Told,
}

impl std::fmt::Debug for BuildRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildRequest").field("base", &self.base).field("checks", &self.checks).finish_non_exhaustive()
    }
}

/// What a build starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The newest layer of the repository, where there is one.
    Newest,
    /// Nothing but the definition's cache directories.
    Nothing,
}

/// A layer that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    pub used: EnvironmentUse,
    pub seconds: u64,
    /// All that was printed.
    pub log: Option<BlobId>,
    /// Tracked files that the installation changed; they stay as the base has them.
    pub left_out: Vec<String>,
    /// Hosts that the installation was not let reach; its checks' are told with the health.
    pub refused: Vec<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub layer: EnvironmentLayer,
    pub health: Health,
    pub source: String,
    pub seconds: u64,
    pub log: Option<BlobId>,
}

/// What a sandbox is opened for: it decides what is reached and which services run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An agent's turn, or a person who took over.
    Turn,
    /// A turn run again from its record: as for a turn, but no host is reached.
    Replay,
    Check,
}

pub struct OpenRequest {
    pub repository: Repository,
    /// Whose definition holds: never the head's.
    pub base: CommitId,
    pub place: Prepared,
    pub purpose: Purpose,
    pub confinement: Confinement,
    /// Host directories that appear read-only at the same path. PATH does not lead to them: it is the repository's.
    pub programs: Vec<PathBuf>,
    /// Allowed besides what the definition allows.
    pub allow: Vec<String>,
    /// Added last.
    pub env: Vec<(String, String)>,
    /// Besides the proxy's.
    pub bridges: Vec<Bridge>,
    pub refused: Arc<dyn Fn(Refusal) + Send + Sync>,
    /// Of one command's kept output.
    pub output_bytes: u64,
}

impl std::fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenRequest")
            .field("place", &self.place)
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// A furnished sandbox. Killing or dropping it ends its services too.
pub struct Opened {
    pub sandbox: Arc<dyn Sandbox>,
    /// What the one who works in it should know: a service that is not ready, with the end of its output.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("notes", &self.notes).finish_non_exhaustive()
    }
}
