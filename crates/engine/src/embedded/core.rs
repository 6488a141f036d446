//! One place puts events in order: a lock per task around step and commit.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use domain::{
    Fault, FaultClass,
    event::{Envelope, Event, Receipt, Submission},
    ids::{Actor, CommandId, TaskId, Via},
    ports::store::{Commit, CommitFault},
    step::{Decision, open, step},
    task::Task,
};
use tokio::sync::{Notify, Semaphore, broadcast, watch};

use super::{
    Options,
    lanes::{Interrupt, Lanes, Origin, Queued},
};
use crate::{
    Ports,
    handle::News,
    perform::{Instructions, Lines},
};

/// Who says what to a task, and under which key.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    pub event: Event,
}

impl Incoming {
    /// An event of the engine's own.
    pub fn system(dedup: String, event: Event) -> Self {
        Self { dedup, actor: Actor::System, via: Via::Engine, event }
    }
}

/// The shared heart of the driver.
#[derive(Debug)]
pub(crate) struct Core {
    pub options: Options,
    pub ports: Ports,
    pub news: broadcast::Sender<News>,
    /// Rings when a timer earlier than those known was set.
    pub sooner: Notify,
    pub turns: Semaphore,
    pub judgements: Semaphore,
    pub disk: Semaphore,
    pub stopping: watch::Receiver<bool>,
    pub lines: Lines,
    pub instructions: Instructions,
    pub(super) lanes: Lanes,
    number: AtomicU64,
    fenced: watch::Sender<bool>,
    /// Live tasks by id. A cell leaves when its task has ended and nothing is in flight.
    cells: Mutex<HashMap<TaskId, Arc<Cell>>>,
}

/// A task's state between events; `None` until it is first needed.
#[derive(Debug, Default)]
struct Cell {
    state: tokio::sync::Mutex<Option<Task>>,
}

impl Core {
    pub fn new(options: Options, ports: Ports, stopping: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self {
            turns: Semaphore::new(options.turns.min(Semaphore::MAX_PERMITS)),
            judgements: Semaphore::new(options.judgements.min(Semaphore::MAX_PERMITS)),
            disk: Semaphore::new(options.disk.min(Semaphore::MAX_PERMITS)),
            options,
            ports,
            news: broadcast::channel(4096).0,
            sooner: Notify::new(),
            stopping,
            lines: Lines::default(),
            instructions: Instructions::default(),
            lanes: Lanes::default(),
            number: AtomicU64::new(0),
            fenced: watch::channel(false).0,
            cells: Mutex::default(),
        })
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

    pub async fn fenced(&self) {
        let mut fenced = self.fenced.subscribe();
        let _ = fenced.wait_for(|fenced| *fenced).await;
    }

    pub async fn drained(&self) {
        self.lanes.drained().await;
    }

    /// Resolves when no attempt of this task has a command at work.
    pub async fn attempts_quiet(&self, task: TaskId) {
        self.lanes.others_quiet(task).await;
    }

    /// A number that no event of this life has had.
    pub fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    fn cell(&self, task: TaskId) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(task).or_default())
    }

    /// The task as it is now.
    pub async fn task(&self, id: TaskId) -> Result<Task, Fault> {
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        let task = self.loaded(id, &mut state).await?.clone();
        drop(state);
        self.forget_if_ended(&task);
        Ok(task)
    }

    async fn loaded<'a>(&self, id: TaskId, state: &'a mut Option<Task>) -> Result<&'a mut Task, Fault> {
        if state.is_none() {
            *state = self.ports.store.task(id).await?;
        }
        state.as_mut().ok_or_else(|| {
            self.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            Fault::not_found(format!("there is no task {id}")).hint("`overnight list` shows those there are")
        })
    }

    fn forget_if_ended(&self, task: &Task) {
        if task.is_ended() && task.in_flight.is_empty() {
            self.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(&task.id);
        }
    }

    /// Makes a task of a submission. Durable when it resolves.
    pub async fn open(
        self: &Arc<Self>,
        id: TaskId,
        incoming: Incoming,
        submission: &Submission,
    ) -> Result<TaskId, Fault> {
        let at = self.ports.clock.now();
        let Incoming { dedup, actor, via, event } = incoming;
        let envelope = Envelope { seq: 1, at, dedup, actor, via, event };
        let (task, decision) = open(id, &envelope, submission);
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        match self.commit(0, envelope, &task, &decision).await {
            Ok(()) => {
                *state = Some(task);
                drop(state);
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
    pub async fn apply(self: &Arc<Self>, id: TaskId, incoming: Incoming) -> Result<Receipt, Fault> {
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        let before = self.loaded(id, &mut state).await?;
        let mut task = before.clone();
        let Incoming { dedup, actor, via, event } = incoming;
        let envelope = Envelope {
            seq: before.seq + 1,
            at: self.ports.clock.now().max(before.updated_at),
            dedup,
            actor,
            via,
            event,
        };
        let decision = step(&mut task, &envelope);
        match self.commit(before.seq, envelope, &task, &decision).await {
            Ok(()) => {
                let receipt = decision.receipt.clone();
                self.forget_if_ended(&task);
                *state = Some(task);
                drop(state);
                self.perform(id, decision);
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
        let committed = self.ports.store.commit(commit).await?;
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

    fn perform(self: &Arc<Self>, id: TaskId, decision: Decision) {
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

    /// Puts a committed command into its lane.
    pub fn dispatch(self: &Arc<Self>, task: TaskId, queued: Queued) {
        self.lanes.push(self, task, queued);
    }

    pub fn interrupt(&self, task: TaskId, id: CommandId) -> Arc<Interrupt> {
        self.lanes.interrupt(task, id)
    }
}
