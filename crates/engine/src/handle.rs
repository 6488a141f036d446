//! The engine as its callers see it: say something to a task, read what is known, be woken by news.

use domain::{
    Fault,
    brief::Brief,
    event::{Event, Receipt},
    ids::{Actor, TaskId, Via},
    ports::{
        model::Credentials,
        sandbox::Confinement,
        workspace::ResolveRequest,
    },
};
use tokio::sync::broadcast;

use crate::Ports;

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

/// A committed event: where it stands, and of which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    pub position: u64,
    pub task: TaskId,
}

/// A cheap handle on the running engine.
#[derive(Clone, Debug)]
pub struct Handle {
    ports: Ports,
    news: broadcast::Sender<News>,
}

impl Handle {
    /// Everything that can be read, read it here; write only through [`Handle::submit`] and [`Handle::say`].
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Positions of events as they are committed. A receiver that lags reads the journal from its last position.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Starts a task. Resolves once the submission is durable and its base is kept. `Err`: refused, nothing was started.
    pub async fn submit(&self, submit: Submit) -> Result<TaskId, Fault> {
        Err(Fault::bug(format!("not wired yet: {}", submit.dedup)))
    }

    /// Says something to a task. Resolves once it is durable. `Err` only when it could not be recorded (no such task, store failed).
    pub async fn say(&self, task: TaskId, said: Said) -> Result<Receipt, Fault> {
        Err(Fault::bug(format!("not wired yet: {task} {}", said.dedup)))
    }
}
