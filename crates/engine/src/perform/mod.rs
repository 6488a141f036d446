//! Carrying commands out: one file per command, over the ports. Each is idempotent: performed twice, it finds its effect and reports it.

mod clean_up;
mod deliver_comment;
mod instructions;
mod interrupt;
mod land;
mod line;
mod message;
mod prepare_workspace;
mod release_workspace;
mod run_checks;
mod start_turn;
mod take_snapshot;

use std::{future::Future, sync::Arc, time::Duration};

use domain::{
    Fault, FaultClass,
    command::Command,
    event::Event,
    ids::{AttemptKey, AttemptNo, CommandId, TaskId},
    task::{Status, Task},
};

pub(crate) use self::{clean_up::secrets_scope, instructions::Instructions, line::Lines};
use crate::embedded::{Core, Origin};

/// What performing came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is looked at once and thrown away")]
pub(crate) enum Performed {
    Event(Event),
    /// The engine stops; the command's row stays, and the next start takes it up.
    LeftForTheNextStart,
}

/// One command on its way, with what all performers look at.
pub(crate) struct Job<'a> {
    pub core: &'a Arc<Core>,
    pub task: Task,
    pub id: CommandId,
    pub origin: Origin,
}

impl Job<'_> {
    fn key(&self, attempt: AttemptNo) -> AttemptKey {
        AttemptKey { task: self.task.id, attempt }
    }
}

pub(crate) async fn perform(
    core: &Arc<Core>,
    task: TaskId,
    id: CommandId,
    command: &Command,
    origin: Origin,
) -> Result<Performed, Fault> {
    let task = core.task(task).await?;
    let job = Job { core, task, id, origin };
    match command {
        Command::StartTurn { .. } => start_turn::perform(&job, command).await,
        Command::PrepareWorkspace { attempt, commit } => {
            let work = || prepare_workspace::perform(&job, *attempt, commit);
            unless_interrupted(&job, retrying(&job, work)).await
        }
        Command::RunChecks { attempt, base, head } => {
            let work = || run_checks::perform(&job, *attempt, base, head);
            unless_interrupted(&job, retrying(&job, work)).await
        }
        Command::TakeSnapshot { attempt, turn, at } => {
            retrying(&job, || take_snapshot::perform(&job, *attempt, *turn, *at)).await
        }
        Command::Land { .. } => retrying(&job, || land::perform(&job, command)).await,
        Command::ReleaseWorkspace { attempt } => retrying(&job, || release_workspace::perform(&job, *attempt)).await,
        Command::CleanUp { branch } => retrying(&job, || clean_up::perform(&job, *branch)).await,
        Command::Purge => retrying(&job, || clean_up::purge(&job)).await,
        Command::Interrupt { attempt } => Ok(interrupt::perform(&job, *attempt)),
        Command::DeliverComment { attempt, comment, text } => {
            Ok(deliver_comment::perform(&job, *attempt, *comment, text))
        }
    }
}

/// Tries again where that can help, a bounded number of times.
async fn retrying<F, W>(job: &Job<'_>, work: W) -> Result<Performed, Fault>
where
    W: Fn() -> F,
    F: Future<Output = Result<Event, Fault>>,
{
    let mut pause = Duration::from_millis(500);
    for _ in 0..5 {
        if job.core.is_stopping() {
            return Ok(Performed::LeftForTheNextStart);
        }
        match work().await {
            Ok(event) => return Ok(Performed::Event(event)),
            Err(fault) if fault.class == FaultClass::Transient => {
                tracing::info!(task = %job.task.id, command = %job.id, %fault, "trying again");
            }
            Err(fault) => return Err(fault),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = job.core.stopped() => return Ok(Performed::LeftForTheNextStart),
        }
        pause *= 2;
    }
    work().await.map(Performed::Event)
}

/// Gives a command up when it is interrupted, and leaves it for the next start when the engine stops.
async fn unless_interrupted(
    job: &Job<'_>,
    work: impl Future<Output = Result<Performed, Fault>>,
) -> Result<Performed, Fault> {
    let interrupt = job.core.interrupt(job.task.id, job.id);
    if matches!(job.task.status, Status::Closing { .. }) {
        interrupt.ask();
    }
    tokio::select! {
        biased;
        () = interrupt.asked() => Err(Fault::conflict("interrupted")),
        () = job.core.stopped() => Ok(Performed::LeftForTheNextStart),
        result = work => result,
    }
}

/// A place among a bounded number of workers.
async fn place(semaphore: &tokio::sync::Semaphore) -> Result<tokio::sync::SemaphorePermit<'_>, Fault> {
    semaphore.acquire().await.map_err(|_| Fault::bug("a semaphore of the engine was closed"))
}
