//! Lanes: the commands of one attempt are performed one after another, those of different attempts side by side.
//!
//! Commands without an attempt have a lane of their own per task. `Interrupt` and `DeliverComment` overtake: they act on what runs.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{
    command::Command,
    ids::{AttemptNo, CommandId, TaskId},
};
use tokio::sync::Notify;

use crate::{interrupt::Interrupt, perform::Origin};

/// A committed command on its way to its performer.
#[derive(Debug)]
pub(crate) struct Queued {
    pub id: CommandId,
    pub command: Command,
    pub origin: Origin,
}

pub(super) type LaneKey = (TaskId, Option<AttemptNo>);

/// What is to be done about a command that was pushed.
#[derive(Debug)]
pub(super) enum Pushed {
    /// Its lane is at work and will come to it.
    Queued,
    /// Its lane was empty: somebody has to work it off.
    Opened(LaneKey),
    /// It overtakes: perform it now, then say [`Lanes::overtaken`].
    Overtakes(Queued),
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

    /// The command's interrupt, from its commit until it was performed.
    pub fn interrupt(&self, task: TaskId, id: CommandId) -> Arc<Interrupt> {
        Arc::clone(self.state().interrupts.entry((task, id)).or_default())
    }

    /// The command is no longer to be performed.
    pub fn abort(&self, task: TaskId, id: CommandId) {
        if let Some(interrupt) = self.state().interrupts.get(&(task, id)) {
            interrupt.abort();
        }
    }

    pub fn forget_interrupt(&self, task: TaskId, id: CommandId) {
        self.state().interrupts.remove(&(task, id));
    }

    pub fn push(&self, task: TaskId, queued: Queued) -> Pushed {
        let mut state = self.state();
        if matches!(queued.command, Command::Interrupt { .. } | Command::DeliverComment { .. }) {
            state.overtaking += 1;
            return Pushed::Overtakes(queued);
        }
        let key = (task, queued.command.attempt());
        let at_work = state.queues.contains_key(&key);
        state.queues.entry(key).or_default().push_back(queued);
        if at_work { Pushed::Queued } else { Pushed::Opened(key) }
    }

    pub fn overtaken(&self) {
        self.state().overtaking -= 1;
        self.quiet.notify_waiters();
    }

    /// The next command of a lane; `None` closes it.
    pub fn next(&self, key: LaneKey) -> Option<Queued> {
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
