//! Environments: what a base says of its own, layers of what it installs, and sandboxes furnished as it says.
//!
//! | file | for |
//! |---|---|
//! | `definition` | what a base says: a file per format, and what its files suggest |
//! | `provide` | which layer serves a base, and when one is built |
//! | `flights` | builds that are under way, each once |
//! | `build` | one build: install, rid of secrets, judged, frozen |
//! | `line` | one command with its whole output |
//! | `leftovers` | what an installation left of its secrets |
//! | `health` | whether the base passes its own checks |
//! | `about` | what names a layer, and what is kept with it |
//! | `furnish` | a sandbox with the network, variables and bounds of a definition |
//! | `services` | what runs as long as a sandbox, awaited until it is ready |
//! | `secrets` | values of secrets, and what takes them out of everything else |
//!
//! A definition is read from a base, never from a head: no agent decides what its own sandbox may reach. Secrets of an
//! installation are gone before anything else of the base runs.
#![forbid(unsafe_code)]

mod about;
mod build;
mod definition;
mod flights;
mod furnish;
mod health;
mod leftovers;
mod line;
mod provide;
mod secrets;
mod services;

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::{
    Fault,
    environment::{Definition, EnvironmentUse},
    ids::CommitId,
    ports::{
        BoxFuture,
        checks::CheckCache,
        egress::Egress,
        environments::{BuildRequest, Built, Layer, OpenRequest, Opened, Purpose, Start},
        sandbox::{Limits, Sandboxes},
        store::{Blobs, Secrets},
        workspace::{Repository, Workspaces},
    },
    redact::Redactor,
};

use crate::{
    definition::{Base, Definitions},
    flights::Flights,
    furnish::{Reach, Request},
    secrets::{Redactors, Used},
};

/// The rooms that this one works over.
#[derive(Clone)]
pub struct Rooms {
    pub workspaces: Arc<dyn Workspaces>,
    pub sandboxes: Arc<dyn Sandboxes>,
    pub egress: Arc<dyn Egress>,
    pub secrets: Arc<dyn Secrets>,
    pub blobs: Arc<dyn Blobs>,
    /// Keeps what later looks at a layer's health find.
    pub cache: Arc<dyn CheckCache>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

/// What the room is wired with.
#[derive(Clone, Debug)]
pub struct Options {
    pub rooms: Rooms,
    /// Host paths that no sandbox may see.
    pub hidden: Vec<PathBuf>,
    /// Bounds of sandboxes whose definition says nothing of them.
    pub limits: Limits,
    /// For all lines of one installation together.
    pub deadline: Duration,
    /// Builds at the same time, at least one.
    pub parallel: usize,
}

impl Options {
    /// Four builds at a time, so that one that hangs holds nobody else up; 30 minutes for an installation, nothing hidden.
    pub fn new(rooms: Rooms) -> Self {
        let deadline = Duration::from_secs(30 * 60);
        Self { rooms, hidden: Vec::new(), limits: Limits::default(), deadline, parallel: 4 }
    }
}

/// What every part of this room works on.
#[derive(Debug)]
struct Site {
    options: Options,
    redactors: Redactors,
}

impl Site {
    fn rooms(&self) -> &Rooms {
        &self.options.rooms
    }

    async fn redactor(&self, repository: &Repository) -> Result<Arc<Redactor>, Fault> {
        self.redactors.of(&*self.rooms().secrets, repository).await
    }

    fn base(&self, repository: &Repository, commit: &CommitId) -> Base<'_> {
        Base { workspaces: &*self.rooms().workspaces, repository: repository.clone(), commit: commit.clone() }
    }
}

/// The port's implementation. Must be used within a tokio runtime.
#[derive(Debug)]
pub struct Environments {
    site: Arc<Site>,
    definitions: Definitions,
    flights: Flights,
}

impl Environments {
    pub fn new(options: Options) -> Arc<Self> {
        let flights = Flights::new(options.parallel);
        let site = Arc::new(Site { options, redactors: Redactors::default() });
        Arc::new(Self { site, definitions: Definitions::default(), flights })
    }

    async fn defined(&self, repository: &Repository, base: &CommitId) -> Result<Arc<Definition>, Fault> {
        self.definitions.of(self.site.base(repository, base), &*self.site.rooms().egress).await
    }

    async fn furnish(&self, request: OpenRequest) -> Result<Opened, Fault> {
        let definition = self.defined(&request.repository, &request.base).await?;
        let used = Used::of(&*self.site.rooms().secrets, &request.repository, &definition).await?;
        let furnished = self.site.furnish(
            Request {
                repository: &request.repository,
                definition: &definition,
                place: &request.place,
                reach: match request.purpose {
                    Purpose::Turn => Reach::Turn,
                    Purpose::Replay => Reach::Nothing,
                    Purpose::Check => Reach::Check,
                },
                confinement: request.confinement,
                programs: request.programs,
                allow: request.allow,
                env: request.env,
                bridges: request.bridges,
                refused: request.refused,
                output_bytes: request.output_bytes,
            },
            &used,
        );
        let furnished = furnished.await?;
        let mut notes = used.notes;
        notes.extend(services::start(&furnished, &definition.services).await);
        Ok(Opened { sandbox: furnished, notes })
    }
}

impl domain::ports::environments::Environments for Environments {
    fn definition(&self, repository: Repository, base: CommitId) -> BoxFuture<'_, Result<Arc<Definition>, Fault>> {
        Box::pin(async move { self.defined(&repository, &base).await })
    }

    fn provide(&self, request: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>> {
        Box::pin(self.provided(request))
    }

    fn build(&self, request: BuildRequest, start: Start) -> BoxFuture<'_, Result<Built, Fault>> {
        Box::pin(self.built(request, start))
    }

    fn check(&self, request: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>> {
        Box::pin(self.checked(request))
    }

    fn layers(&self, repository: Repository) -> BoxFuture<'_, Result<Vec<Layer>, Fault>> {
        Box::pin(self.known_layers(repository))
    }

    fn open(&self, request: OpenRequest) -> BoxFuture<'_, Result<Opened, Fault>> {
        Box::pin(self.furnish(request))
    }

    fn redactor(&self, repository: Repository) -> BoxFuture<'_, Result<Arc<Redactor>, Fault>> {
        Box::pin(async move { self.site.redactor(&repository).await })
    }
}
