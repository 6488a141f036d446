//! Lanes: the commands of one attempt are performed one after another, those of different attempts side by side.
//!
//! Commands without an attempt have a lane of their own per task. `Interrupt` and `DeliverComment` overtake: they act on what runs.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use domain::{
    Fault, FaultClass,
    command::Command,
    event::Event,
    ids::{AttemptNo, CommandId, TaskId},
};
use tokio::sync::Notify;

use super::core::{Core, Incoming};
use crate::perform;

/// Where a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Issued,
    /// An earlier life of the daemon may have performed it in part.
    Recovered,
}

/// A wish that a command end early.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    level: AtomicU8,
    rung: Notify,
}

const ASKED: u8 = 1;
const ABORTED: u8 = 2;

impl Interrupt {
    /// Asks the command to come to an end and report it.
    pub fn ask(&self) {
        self.raise(ASKED);
    }

    fn raise(&self, level: u8) {
        self.level.fetch_max(level, Ordering::SeqCst);
        self.rung.notify_waiters();
    }

    pub fn is_asked(&self) -> bool {
        self.level.load(Ordering::SeqCst) >= ASKED
    }

    pub async fn asked(&self) {
        self.reached(ASKED).await;
    }

    /// Nobody waits for the command any more: drop it.
    async fn aborted(&self) {
        self.reached(ABORTED).await;
    }

    async fn reached(&self, level: u8) {
        loop {
            let rung = self.rung.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.level.load(Ordering::SeqCst) >= level {
                return;
            }
            rung.await;
        }
    }
}

type LaneKey = (TaskId, Option<AttemptNo>);

/// A committed command on its way to its performer.
#[derive(Debug)]
pub(crate) struct Queued {
    pub id: CommandId,
    pub command: Command,
    pub origin: Origin,
}

#[derive(Debug, Default)]
struct State {
    /// A lane is here while its worker runs.
    queues: HashMap<LaneKey, VecDeque<Queued>>,
    interrupts: HashMap<(TaskId, CommandId), Arc<Interrupt>>,
    /// Overtaking commands under way.
    overtaking: usize,
}

/// All lanes of this process.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    state: Mutex<State>,
    quiet: Notify,
}

impl Lanes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn interrupt(&self, task: TaskId, id: CommandId) -> Arc<Interrupt> {
        Arc::clone(self.state().interrupts.entry((task, id)).or_default())
    }

    /// The command is no longer to be performed.
    pub fn abort(&self, task: TaskId, id: CommandId) {
        if let Some(interrupt) = self.state().interrupts.get(&(task, id)) {
            interrupt.raise(ABORTED);
        }
    }

    pub fn push(&self, core: &Arc<Core>, task: TaskId, queued: Queued) {
        if core.is_stopping() {
            return;
        }
        if matches!(queued.command, Command::Interrupt { .. } | Command::DeliverComment { .. }) {
            self.state().overtaking += 1;
            let core = Arc::clone(core);
            tokio::spawn(async move {
                perform_one(&core, task, queued).await;
                core.lanes.state().overtaking -= 1;
                core.lanes.quiet.notify_waiters();
            });
            return;
        }
        let key = (task, queued.command.attempt());
        let mut state = self.state();
        state.interrupts.entry((task, queued.id)).or_default();
        let new = !state.queues.contains_key(&key);
        state.queues.entry(key).or_default().push_back(queued);
        if new {
            tokio::spawn(work(Arc::clone(core), key));
        }
    }

    fn next(&self, key: LaneKey) -> Option<Queued> {
        let mut state = self.state();
        let next = state.queues.get_mut(&key).and_then(VecDeque::pop_front);
        if next.is_none() {
            state.queues.remove(&key);
            drop(state);
            self.quiet.notify_waiters();
        }
        next
    }

    /// Resolves when no other lane of this task is at work.
    pub async fn others_quiet(&self, task: TaskId) {
        self.until(|state| !state.queues.keys().any(|(of, attempt)| *of == task && attempt.is_some())).await;
    }

    /// Resolves when nothing is at work.
    pub async fn drained(&self) {
        self.until(|state| state.queues.is_empty() && state.overtaking == 0).await;
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            quiet.as_mut().enable();
            if reached(&self.state()) {
                return;
            }
            quiet.await;
        }
    }
}

async fn work(core: Arc<Core>, key: LaneKey) {
    while let Some(queued) = core.lanes.next(key) {
        if core.is_stopping() {
            continue;
        }
        let id = queued.id;
        perform_one(&core, key.0, queued).await;
        core.lanes.state().interrupts.remove(&(key.0, id));
    }
}

/// Performs a command and feeds what it came to, unless the engine stops: then the row stays in the outbox for the next start.
async fn perform_one(core: &Arc<Core>, task: TaskId, queued: Queued) {
    let Queued { id, command, origin } = queued;
    let interrupt = core.interrupt(task, id);
    let performing = perform::perform(core, task, id, &command, origin);
    let result = tokio::select! {
        biased;
        () = interrupt.aborted() => return,
        result = performing => result,
    };
    let event = match result {
        Ok(perform::Performed::Event(event)) => event,
        Ok(perform::Performed::LeftForTheNextStart) => return,
        Err(fault) if fault.class == FaultClass::Fenced => return,
        Err(fault) => {
            tracing::warn!(%task, command = command.name(), %fault, "a command failed");
            Event::CommandFailed { command: id, fault }
        }
    };
    feed(core, task, id, event).await;
}

/// A completion must reach the journal: whatever keeps it out (a full disk) is waited out.
async fn feed(core: &Arc<Core>, task: TaskId, id: CommandId, event: Event) {
    let mut patience = Duration::from_millis(100);
    loop {
        let incoming = Incoming::system(format!("c{id}"), event.clone());
        let fault = match core.apply(task, incoming).await {
            Ok(_) => return,
            Err(fault) => fault,
        };
        if fault.class == FaultClass::Fenced || core.is_stopping() {
            return;
        }
        report(&fault, task);
        tokio::select! {
            () = tokio::time::sleep(patience) => {}
            () = core.stopped() => return,
        }
        patience = (patience * 2).min(Duration::from_secs(30));
    }
}

fn report(fault: &Fault, task: TaskId) {
    tracing::error!(%task, %fault, "a completion could not be recorded; trying again");
}
