//! The engine as its callers see it: say something to a task, read what is known, be woken by news.

use std::sync::Arc;

use domain::{
    Fault,
    brief::{Brief, Deliverable, Login},
    event::{Event, Fork, Receipt, Submission},
    ids::{Actor, TaskId, Via},
    ports::{
        model::Credentials,
        sandbox::Confinement,
        workspace::{Origin, ResolveRequest},
    },
    profile::Profile,
};
use tokio::sync::broadcast;

use crate::{
    Ports,
    acceptance::Accepted,
    embedded::Core,
    incoming::{Incoming, News},
    perform::secrets_scope,
};

/// A request to start a task.
#[derive(Clone, Debug)]
pub struct Submit {
    /// The idempotency key: the same key is the same task.
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    pub brief: Brief,
    /// `None`: no repository; a report task in a scratch workspace.
    pub repository: Option<ResolveRequest>,
    pub credentials: Credentials,
    pub confinement: Confinement,
}

/// A submission whose base is kept.
pub(crate) struct Start {
    pub id: TaskId,
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    pub accepted: Accepted,
    pub origin: Origin,
    pub profile: Option<Profile>,
    pub fork: Option<Fork>,
    pub credentials: Credentials,
    pub confinement: Confinement,
}

/// Something a person says to a task.
#[derive(Clone, Debug)]
pub struct Said {
    /// The idempotency key: the same key is the same event.
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    /// One for which [`Event::is_said`] holds.
    pub event: Event,
    /// Replaces the task's keys when not empty.
    pub credentials: Credentials,
}

/// A cheap handle on the running engine.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) core: Arc<Core>,
}

impl Handle {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Everything that can be read, read it here; write only through [`Handle::submit`] and [`Handle::say`].
    pub fn ports(&self) -> &Ports {
        &self.core.site.ports
    }

    /// Positions of events as they are committed. A receiver that lags reads the journal from its last position.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.core.news.subscribe()
    }

    /// Starts a task. Resolves once the submission is durable and its base is kept. `Err`: refused, nothing was started.
    pub async fn submit(&self, submit: Submit) -> Result<TaskId, Fault> {
        let ports = &self.core.site.ports;
        if let Some((task, _)) = ports.store.submitted(submit.dedup.clone()).await? {
            return Ok(task);
        }
        let Submit { dedup, actor, via, brief, repository, credentials, confinement } = submit;
        // What this installation cannot do is told before anything is made; what a profile says, its base has to be there for.
        let accepted = match brief.profile {
            None => Some(self.acceptable(&brief, &credentials, confinement).await?),
            Some(_) => None,
        };
        let origin = match repository {
            Some(request) => {
                let origin = ports.workspaces.resolve(request).await?;
                // What its base says wrong of its environment is told to the one who is still there.
                ports.environments.definition(origin.repository.clone(), origin.base.clone()).await?;
                Some(origin)
            }
            None => None,
        };
        let (accepted, profile) = match accepted {
            Some(accepted) => (accepted, None),
            None => {
                let (brief, profile) = self.with_profile(brief, origin.as_ref()).await?;
                (self.acceptable(&brief, &credentials, confinement).await?, profile)
            }
        };
        if origin.is_none() && accepted.brief.deliverable != Deliverable::Report {
            return Err(Fault::input("a change needs a repository").hint("stand in one, or ask for `--report`"));
        }
        // A number is taken only for what is accepted, so that people's numbers have no holes.
        let id = ports.store.next_task();
        let origin = match origin {
            Some(origin) => origin,
            None => ports.workspaces.scratch(id).await?,
        };
        self.start(Start { id, dedup, actor, via, accepted, origin, profile, fork: None, credentials, confinement })
            .await
    }

    /// Journals a submission whose base is kept.
    pub(crate) async fn start(&self, start: Start) -> Result<TaskId, Fault> {
        let id = start.id;
        let submission = Submission {
            brief: start.accepted.brief,
            origin: start.origin,
            model: start.accepted.model,
            confinement: start.confinement,
            profile: start.profile,
            fork: start.fork,
        };
        let incoming = Incoming {
            dedup: start.dedup,
            actor: start.actor,
            via: start.via,
            event: Event::Submitted(submission.clone()),
        };
        let (core, credentials) = (Arc::clone(&self.core), start.credentials);
        let needs_keys = submission.model.is_some() || submission.brief.agent.login == Login::Own;
        whole(async move {
            let secrets = &core.site.ports.secrets;
            if !credentials.0.is_empty() && needs_keys {
                secrets.put(secrets_scope(id), credentials).await?;
            }
            let opened = core.open(id, incoming, &submission).await;
            if !matches!(&opened, Ok(task) if *task == id) {
                // No task has this number, so none would ever forget its keys.
                if let Err(fault) = secrets.forget(secrets_scope(id)).await {
                    tracing::warn!(%fault, "the keys of a submission that came to nothing stay until the next start");
                }
            }
            opened
        })
        .await
    }

    /// Says something to a task. Resolves once it is durable. `Err` only when it could not be recorded (no such task, store failed).
    pub async fn say(&self, task: TaskId, said: Said) -> Result<Receipt, Fault> {
        if !said.event.is_said() {
            return Err(Fault::bug(format!("{} is not for people to say", said.event.name())));
        }
        if !said.credentials.0.is_empty() && self.core.task(task).await?.model.is_some() {
            self.core.site.ports.secrets.put(secrets_scope(task), said.credentials).await?;
        }
        let incoming =
            Incoming { dedup: format!("h-{}", said.dedup), actor: said.actor, via: said.via, event: said.event };
        let core = Arc::clone(&self.core);
        whole(async move { core.apply(task, incoming).await }).await
    }
}

/// Brings what was begun to its end though nobody waits for it any more: a client that hung up between a commit and its
/// commands would leave a task that nobody works on until the next start.
async fn whole<T: Send + 'static>(work: impl Future<Output = Result<T, Fault>> + Send + 'static) -> Result<T, Fault> {
    tokio::spawn(work).await.unwrap_or_else(|broken| Err(Fault::bug(format!("a request broke off: {broken}"))))
}
