//! Where performers work: the ports, the bounded places, and what is shared between commands. Any driver has one.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    Fault,
    budget::BudgetRule,
    event::Receipt,
    ids::{AttemptKey, CommandId, TaskId},
    ports::BoxFuture,
    task::Task,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};

use super::{guidance::Guidance, hands::Hands, line::Lines, previews::Previews, vigil::Stalls};
use crate::{Ports, incoming::Incoming, interrupt::Interrupt};

/// What a performer asks of the driver that runs it.
pub(crate) trait Driver: Send + Sync + fmt::Debug {
    /// The task as it is now.
    fn task(&self, id: TaskId) -> BoxFuture<'_, Result<Task, Fault>>;

    /// Records something that happened on the way. Durable when it resolves; a repeated key is one event.
    fn apply(&self, id: TaskId, incoming: Incoming) -> BoxFuture<'_, Result<Receipt, Fault>>;

    /// The wish, if there ever is one, that this command end early.
    fn interrupt(&self, task: TaskId, command: CommandId) -> Arc<Interrupt>;

    /// Resolves when no attempt of this task has a command at work.
    fn attempts_quiet(&self, task: TaskId) -> BoxFuture<'_, ()>;
}

/// How much goes on at the same time.
#[derive(Debug)]
pub(crate) struct Places {
    turns: Arc<Semaphore>,
    /// Places of attempts whose workspace is ready and whose turn is about to start.
    kept: Mutex<HashMap<AttemptKey, OwnedSemaphorePermit>>,
    judgements: Semaphore,
    disk: Semaphore,
}

impl Places {
    pub fn new(turns: usize, judgements: usize, disk: usize) -> Self {
        let places = |number: usize| Semaphore::new(number.min(Semaphore::MAX_PERMITS));
        let kept = Mutex::default();
        Self { turns: Arc::new(places(turns)), kept, judgements: places(judgements), disk: places(disk) }
    }
}

/// What this installation lets turns have.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How often a turn that goes on is snapshotted.
    pub snapshot_every: Duration,
    pub stalls: Stalls,
    /// What calls are paid from beside the task's own budget.
    pub budgets: Vec<BudgetRule>,
    /// The cheap model for side work of the built-in agent; `None`: the task's own.
    pub side_model: Option<String>,
    /// Whether a person's own login may be lent to an agent.
    pub own_logins: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            snapshot_every: Duration::from_mins(1),
            stalls: Stalls::default(),
            budgets: Vec::new(),
            side_model: None,
            own_logins: true,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Site {
    pub ports: Ports,
    pub lines: Lines,
    /// Attempts that a person works on by hand.
    pub hands: Hands,
    pub previews: Previews,
    pub guidance: Guidance,
    pub terms: Terms,
    places: Places,
    stopping: watch::Receiver<bool>,
    number: AtomicU64,
}

impl Site {
    pub fn new(ports: Ports, places: Places, terms: Terms, stopping: watch::Receiver<bool>) -> Self {
        Self {
            ports,
            lines: Lines::default(),
            hands: Hands::default(),
            previews: Previews::default(),
            guidance: Guidance::default(),
            terms,
            places,
            stopping,
            number: AtomicU64::new(0),
        }
    }

    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves once the engine is to stop.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // An error means that the engine itself is gone, which is a stop too.
        let _ = stopping.wait_for(|stop| *stop).await;
    }

    /// A number that no event of this life has had.
    pub fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// The place for a turn: the one kept for this attempt, or the next that is free.
    pub async fn turn_place(&self, key: AttemptKey) -> Result<OwnedSemaphorePermit, Fault> {
        let kept = self.places.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        match kept {
            Some(place) => Ok(place),
            None => Arc::clone(&self.places.turns).acquire_owned().await.map_err(|_| closed()),
        }
    }

    /// Keeps a place for the attempt's turn, from one command to the next.
    pub fn keep_turn_place(&self, key: AttemptKey, place: OwnedSemaphorePermit) {
        self.places.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, place);
    }

    /// No turn follows after all.
    pub fn let_turn_place_go(&self, key: AttemptKey) {
        self.places.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    pub async fn judgement_place(&self) -> Result<SemaphorePermit<'_>, Fault> {
        place(&self.places.judgements).await
    }

    pub async fn disk_place(&self) -> Result<SemaphorePermit<'_>, Fault> {
        place(&self.places.disk).await
    }
}

async fn place(semaphore: &Semaphore) -> Result<SemaphorePermit<'_>, Fault> {
    semaphore.acquire().await.map_err(|_| closed())
}

fn closed() -> Fault {
    Fault::bug("a semaphore of the engine was closed")
}
