//! One place puts events in order: a lock per task around step and commit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Fault, FaultClass,
    event::{Envelope, Receipt, Submission},
    ids::{CommandId, TaskId},
    ports::{
        BoxFuture,
        store::{Commit, CommitFault},
    },
    step::{Decision, open, step},
    task::Task,
};
use tokio::sync::{Notify, broadcast, mpsc, watch};

use super::lanes::{Lanes, Queued};
use crate::{
    incoming::{Incoming, News},
    interrupt::Interrupt,
    perform::{Driver, Origin, Site},
};

/// The shared heart of the driver.
#[derive(Debug)]
pub(crate) struct Core {
    /// What performers work with.
    pub site: Site,
    pub news: broadcast::Sender<News>,
    /// Rings when timers were set.
    pub sooner: Notify,
    pub(super) lanes: Lanes,
    /// Committed commands, to the workers.
    orders: mpsc::UnboundedSender<(TaskId, Queued)>,
    fenced: watch::Sender<bool>,
    /// Held by whoever changes a repository's secrets: they are read, changed and written.
    pub secrets: tokio::sync::Mutex<()>,
    /// Live tasks by id. A cell leaves when its task has ended and nothing is in flight.
    cells: Mutex<HashMap<TaskId, Arc<Cell>>>,
}

/// A task's state between events; `None` until it is first needed.
#[derive(Debug, Default)]
struct Cell {
    state: tokio::sync::Mutex<Option<Task>>,
}

impl Core {
    pub fn new(site: Site, orders: mpsc::UnboundedSender<(TaskId, Queued)>) -> Arc<Self> {
        Arc::new(Self {
            site,
            news: broadcast::channel(4096).0,
            sooner: Notify::new(),
            lanes: Lanes::default(),
            orders,
            fenced: watch::channel(false).0,
            secrets: tokio::sync::Mutex::default(),
            cells: Mutex::default(),
        })
    }

    pub async fn fenced(&self) {
        let mut fenced = self.fenced.subscribe();
        let _ = fenced.wait_for(|fenced| *fenced).await;
    }

    fn cell(&self, task: TaskId) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(task).or_default())
    }

    /// The task as it is now.
    pub async fn task(&self, id: TaskId) -> Result<Task, Fault> {
        let cell = self.cell(id);
        let task = self.loaded(id, &mut *cell.state.lock().await).await?.clone();
        self.forget_if_ended(&task, cell);
        Ok(task)
    }

    async fn loaded<'a>(&self, id: TaskId, state: &'a mut Option<Task>) -> Result<&'a mut Task, Fault> {
        if state.is_none() {
            *state = self.site.ports.store.task(id).await?;
        }
        state.as_mut().ok_or_else(|| {
            self.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            Fault::not_found(format!("there is no task {id}")).hint("`overnight list` shows those there are")
        })
    }

    /// Frees an ended task's memory, unless somebody else is at its cell.
    fn forget_if_ended(&self, task: &Task, cell: Arc<Cell>) {
        if task.is_ended() && task.in_flight.is_empty() {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            // Clones are handed out under this lock only: two are the map's and ours.
            if Arc::strong_count(&cell) == 2 {
                cells.remove(&task.id);
            }
        }
    }

    /// Makes a task of a submission. Durable when it resolves.
    pub async fn open(&self, id: TaskId, incoming: Incoming, submission: &Submission) -> Result<TaskId, Fault> {
        let at = self.site.ports.clock.now();
        let Incoming { dedup, actor, via, event } = incoming;
        let envelope = Envelope { seq: 1, at, dedup, actor, via, event };
        let (task, decision) = open(id, &envelope, submission);
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        match self.commit(0, envelope, &task, &decision).await {
            Ok(()) => {
                *state = Some(task);
                self.perform(id, decision);
                Ok(id)
            }
            Err(CommitFault::Duplicate { task: first, .. }) => {
                self.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                Ok(first)
            }
            Err(fault) => Err(self.commit_fault(id, fault)),
        }
    }

    /// Applies one event: step, commit, news, commands. A repeated key gets the first receipt.
    pub async fn apply(&self, id: TaskId, incoming: Incoming) -> Result<Receipt, Fault> {
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        let before = self.loaded(id, &mut state).await?;
        let mut task = before.clone();
        let Incoming { dedup, actor, via, event } = incoming;
        let envelope = Envelope {
            seq: before.seq + 1,
            at: self.site.ports.clock.now().max(before.updated_at),
            dedup,
            actor,
            via,
            event,
        };
        let decision = step(&mut task, &envelope);
        match self.commit(before.seq, envelope, &task, &decision).await {
            Ok(()) => {
                let receipt = decision.receipt.clone();
                *state = Some(task.clone());
                // Before the next event can be applied: commands reach their lanes in the order of their events.
                self.perform(id, decision);
                drop(state);
                self.forget_if_ended(&task, cell);
                Ok(receipt)
            }
            Err(CommitFault::Duplicate { receipt, .. }) => Ok(receipt),
            Err(fault) => {
                // Whatever is stored is the truth; what is in memory may not be.
                *state = None;
                drop(state);
                Err(self.commit_fault(id, fault))
            }
        }
    }

    async fn commit(
        &self,
        expected_seq: u64,
        envelope: Envelope,
        task: &Task,
        decision: &Decision,
    ) -> Result<(), CommitFault> {
        let commit = Commit {
            task: task.id,
            expected_seq,
            envelope,
            receipt: decision.receipt.clone(),
            state: task.clone(),
            summary: task.summary(),
            issued: decision.issued.iter().filter(|(id, _)| !decision.retired.contains(id)).cloned().collect(),
            retired: decision.retired.clone(),
        };
        let committed = self.site.ports.store.commit(commit).await?;
        // Nobody listening is no error.
        let _ = self.news.send(News { position: committed.position, task: task.id });
        if task.wake_at().is_some() {
            self.sooner.notify_one();
        }
        Ok(())
    }

    fn commit_fault(&self, id: TaskId, fault: CommitFault) -> Fault {
        match fault {
            CommitFault::Port(fault) => {
                if fault.class == FaultClass::Fenced {
                    self.fenced.send_replace(true);
                }
                fault
            }
            CommitFault::Stale => Fault::transient(format!("{id} was changed by another writer; try again")),
            CommitFault::Duplicate { seq, .. } => Fault::conflict(format!("that is event {seq} of {id} already")),
        }
    }

    fn perform(&self, id: TaskId, decision: Decision) {
        let Decision { issued, retired, .. } = decision;
        for command in &retired {
            self.lanes.abort(id, *command);
        }
        for (command_id, command) in issued {
            if !retired.contains(&command_id) {
                self.dispatch(id, Queued { id: command_id, command, origin: Origin::Issued });
            }
        }
    }

    /// Hands a committed command to the workers.
    pub fn dispatch(&self, task: TaskId, queued: Queued) {
        // From here on it can be interrupted, performed or not.
        self.lanes.interrupt(task, queued.id);
        // The workers are gone only when the engine is: then the row waits in the outbox.
        let _ = self.orders.send((task, queued));
    }
}

impl Driver for Core {
    fn task(&self, id: TaskId) -> BoxFuture<'_, Result<Task, Fault>> {
        Box::pin(self.task(id))
    }

    fn apply(&self, id: TaskId, incoming: Incoming) -> BoxFuture<'_, Result<Receipt, Fault>> {
        Box::pin(self.apply(id, incoming))
    }

    fn interrupt(&self, task: TaskId, command: CommandId) -> Arc<Interrupt> {
        self.lanes.interrupt(task, command)
    }

    fn attempts_quiet(&self, task: TaskId) -> BoxFuture<'_, ()> {
        Box::pin(self.lanes.others_quiet(task))
    }
}
