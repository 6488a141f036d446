//! The engine as its callers see it: say something to a task, read what is known, be woken by news.

use std::sync::Arc;

use domain::{
    Fault,
    brief::{Brief, Deliverable},
    event::{Event, Receipt, Submission},
    ids::{Actor, TaskId, Via},
    ports::{agent::ModelNeed, model::Credentials, sandbox::Confinement, workspace::ResolveRequest},
};
use tokio::sync::broadcast;

use crate::{
    Ports,
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
        let model = self.acceptable(&submit).await?;
        // A number is taken only for what is accepted, so that people's numbers have no holes.
        let (id, origin) = match submit.repository {
            Some(request) => {
                let origin = ports.workspaces.resolve(request).await?;
                // What its base says wrong of its environment is told to the one who is still there.
                ports.environments.definition(origin.repository.clone(), origin.base.clone()).await?;
                (ports.store.next_task(), origin)
            }
            None if submit.brief.deliverable == Deliverable::Report => {
                let id = ports.store.next_task();
                (id, ports.workspaces.scratch(id).await?)
            }
            None => return Err(Fault::input("a change needs a repository").hint("stand in one, or ask for `--report`")),
        };
        let submission = Submission { brief: submit.brief, origin, model, confinement: submit.confinement };
        let incoming = Incoming {
            dedup: submit.dedup,
            actor: submit.actor,
            via: submit.via,
            event: Event::Submitted(submission.clone()),
        };
        let (core, credentials) = (Arc::clone(&self.core), submit.credentials);
        whole(async move {
            let secrets = &core.site.ports.secrets;
            if !credentials.0.is_empty() && submission.model.is_some() {
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

    /// Whether this installation can do what the brief asks for. Returns the model it would use.
    async fn acceptable(&self, submit: &Submit) -> Result<Option<String>, Fault> {
        let (ports, brief) = (&self.core.site.ports, &submit.brief);
        if brief.goal.trim().is_empty() {
            return Err(Fault::input("the brief has no goal").hint("say in a sentence what is wanted"));
        }
        if !(1..=16).contains(&brief.attempts) {
            return Err(Fault::input(format!("{} attempts are asked for; 1 to 16 are possible", brief.attempts)));
        }
        let agent = ports.agents.find(&brief.agent.name)?;
        if brief.agent.name == "command" && brief.agent.argv.is_empty() {
            return Err(Fault::input("the `command` agent was given no program")
                .hint("put it after `--`: `overnight run … --agent command -- ./codemod.sh`"));
        }
        if submit.confinement == Confinement::Confined && !ports.sandboxes.probe().confined {
            return Err(Fault::environment("this machine cannot confine an agent")
                .hint("`overnight doctor` says what is missing; `--unconfined` runs it with your own rights"));
        }
        match agent.model_need() {
            ModelNeed::Offered if brief.model.is_none() => Ok(None),
            ModelNeed::None => Ok(None),
            ModelNeed::Offered | ModelNeed::Required => {
                let mut credentials = ports.secrets.get("home".to_owned()).await?;
                credentials.0.extend(submit.credentials.0.clone());
                let resolved = ports.gateways.resolve(brief.model.as_deref(), &credentials, &brief.budget)?;
                Ok(Some(resolved.name))
            }
        }
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
