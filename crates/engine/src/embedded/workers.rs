//! Workers: take committed commands off the core's hands, perform them lane by lane, and feed what they came to.

use std::{sync::Arc, time::Duration};

use domain::{
    Fault, FaultClass,
    attempt::AttemptStatus,
    command::Command,
    event::Event,
    ids::{AttemptKey, AttemptNo, CommandId, TaskId},
    task::Task,
};
use tokio::sync::mpsc;

use super::{
    core::Core,
    lanes::{LaneKey, Pushed, Queued},
};
use crate::{
    incoming::Incoming,
    perform::{self, Ordered},
};

/// Runs until the engine stops: whatever is ordered then stays in the outbox for the next start.
pub(super) async fn run(core: Arc<Core>, mut orders: mpsc::UnboundedReceiver<(TaskId, Queued)>) {
    loop {
        let (task, queued) = tokio::select! {
            biased;
            () = core.site.stopped() => return,
            Some(order) = orders.recv() => order,
            else => return,
        };
        match core.lanes.push(task, queued) {
            Pushed::Queued => {}
            Pushed::Opened(key) => {
                tokio::spawn(work(Arc::clone(&core), key));
            }
            Pushed::Overtakes(queued) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    perform_one(&core, task, queued).await;
                    core.lanes.overtaken();
                });
            }
        }
    }
}

async fn work(core: Arc<Core>, key: LaneKey) {
    while let Some(queued) = core.lanes.next(key) {
        if core.site.is_stopping() {
            continue;
        }
        perform_one(&core, key.0, queued).await;
    }
}

/// Performs a command in a place of its own: one that panics has failed, and its lane goes on.
async fn perform_one(core: &Arc<Core>, task: TaskId, queued: Queued) {
    let (id, name, before_turn) = (queued.id, queued.command.name(), before_turn(&queued.command));
    let performing = Arc::clone(core);
    let performed = tokio::spawn(async move { perform_and_feed(&performing, task, queued).await }).await;
    if performed.is_err_and(|broken| broken.is_panic()) {
        let fault = Fault::bug(format!("{name} panicked; the daemon's log says where"));
        feed(core, task, id, Event::CommandFailed { command: id, fault }).await;
    }
    core.lanes.forget_interrupt(task, id);
    if let Some(attempt) = before_turn {
        let key = AttemptKey { task, attempt };
        let turning = |task: &Task| {
            task.attempt(attempt).is_some_and(|attempt| matches!(attempt.status, AttemptStatus::Turning { .. }))
        };
        if !core.task(task).await.is_ok_and(|task| turning(&task)) {
            core.site.let_turn_place_go(key);
        }
    }
}

/// The attempt for which this command may have kept a turn's place, or left one that was kept.
fn before_turn(command: &Command) -> Option<AttemptNo> {
    match command {
        Command::PrepareWorkspace { attempt, .. } | Command::StartTurn { attempt, .. } => Some(*attempt),
        _ => None,
    }
}

/// Performs a command and feeds what it came to, unless the engine stops: then the row stays in the outbox for the next start.
async fn perform_and_feed(core: &Arc<Core>, task: TaskId, queued: Queued) {
    let Queued { id, command, origin } = queued;
    let interrupt = core.lanes.interrupt(task, id);
    let performing = perform::perform(core.as_ref(), &core.site, task, Ordered { id, command: &command, origin });
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
        if fault.class == FaultClass::Fenced || core.site.is_stopping() {
            return;
        }
        report(&fault, task);
        tokio::select! {
            () = tokio::time::sleep(patience) => {}
            () = core.site.stopped() => return,
        }
        patience = (patience * 2).min(Duration::from_secs(30));
    }
}

fn report(fault: &Fault, task: TaskId) {
    tracing::error!(%task, %fault, "a completion could not be recorded; trying again");
}
