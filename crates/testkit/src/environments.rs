//! Environments that furnish nothing: sandboxes as they come, with what a test puts in.

use std::sync::{Arc, Mutex};

use domain::{
    Fault,
    environment::{Definition, EnvironmentUse, Health},
    ids::CommitId,
    ports::{
        BoxFuture,
        egress::Refusal,
        environments::{BuildRequest, Built, Environments, Layer, OpenRequest, Opened, Purpose, Start},
        sandbox::{Confinement, Limits, Network, SandboxSpec, Sandboxes},
        workspace::Repository,
    },
    redact::Redactor,
};

use crate::{locked, ready};

/// Opens sandboxes without a proxy and without services; there are no layers.
#[derive(Clone)]
pub struct PlainEnvironments {
    sandboxes: Arc<dyn Sandboxes>,
    wishes: Arc<Mutex<Wishes>>,
}

#[derive(Default)]
struct Wishes {
    definition: Arc<Definition>,
    redactor: Arc<Redactor>,
    notes: Vec<String>,
    refusals: Vec<Refusal>,
    purposes: Vec<Purpose>,
}

impl std::fmt::Debug for PlainEnvironments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainEnvironments").finish_non_exhaustive()
    }
}

impl PlainEnvironments {
    pub fn new(sandboxes: Arc<dyn Sandboxes>) -> Self {
        Self { sandboxes, wishes: Arc::default() }
    }

    /// What every base says from now on. Nothing of it is done.
    pub fn define(&self, definition: Definition) {
        locked(&self.wishes).definition = Arc::new(definition);
    }

    /// What is taken out of the output of sandboxes opened from now on.
    pub fn redact(&self, redactor: Redactor) {
        locked(&self.wishes).redactor = Arc::new(redactor);
    }

    /// The notes of every sandbox opened from now on.
    pub fn note(&self, notes: impl IntoIterator<Item = String>) {
        locked(&self.wishes).notes = notes.into_iter().collect();
    }

    /// Hosts that every sandbox opened from now on is refused at once.
    pub fn refuse(&self, refusals: impl IntoIterator<Item = Refusal>) {
        locked(&self.wishes).refusals = refusals.into_iter().collect();
    }

    /// What sandboxes were opened for, in order.
    pub fn purposes(&self) -> Vec<Purpose> {
        locked(&self.wishes).purposes.clone()
    }
}

fn bare() -> EnvironmentUse {
    EnvironmentUse { layer: None, health: Health::Unknown, note: None }
}

impl Environments for PlainEnvironments {
    fn definition(&self, _: Repository, _: CommitId) -> BoxFuture<'_, Result<Arc<Definition>, Fault>> {
        ready(Ok(Arc::clone(&locked(&self.wishes).definition)))
    }

    fn provide(&self, _: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>> {
        ready(Ok(bare()))
    }

    fn build(&self, _: BuildRequest, _: Start) -> BoxFuture<'_, Result<Built, Fault>> {
        ready(Ok(Built { used: bare(), seconds: 0, log: None, left_out: Vec::new(), refused: Vec::new() }))
    }

    fn check(&self, request: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>> {
        ready(Err(Fault::not_found(format!("no layer serves {}", request.base.short()))))
    }

    fn layers(&self, _: Repository) -> BoxFuture<'_, Result<Vec<Layer>, Fault>> {
        ready(Ok(Vec::new()))
    }

    fn open(&self, request: OpenRequest) -> BoxFuture<'_, Result<Opened, Fault>> {
        let OpenRequest { place, purpose, confinement, programs, env, bridges, refused, output_bytes, .. } = request;
        let (redactor, notes, refusals) = {
            let mut wishes = locked(&self.wishes);
            wishes.purposes.push(purpose);
            (Arc::clone(&wishes.redactor), wishes.notes.clone(), wishes.refusals.clone())
        };
        let spec = SandboxSpec {
            root: place.root,
            home: place.home,
            scratch: place.scratch,
            readable: [place.readable, programs].concat(),
            hidden: Vec::new(),
            env,
            network: match confinement {
                Confinement::Confined => Network::Own(bridges),
                Confinement::Unconfined => Network::Host,
            },
            redactor,
            limits: Limits { output_bytes, ..Limits::default() },
            lock: place.lock,
            spill: place.spill,
            confinement,
        };
        Box::pin(async move {
            let sandbox = self.sandboxes.open(spec).await?;
            refusals.into_iter().for_each(|refusal| refused(refusal));
            Ok(Opened { sandbox, notes })
        })
    }

    fn redactor(&self, _: Repository) -> BoxFuture<'_, Result<Arc<Redactor>, Fault>> {
        ready(Ok(Arc::clone(&locked(&self.wishes).redactor)))
    }
}
