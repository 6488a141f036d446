//! Carrying commands out: one file per command, over the ports. Each is idempotent: performed twice, it finds its effect and reports it.

mod clean_up;
mod critic;
mod deliver_comment;
mod environment;
mod guidance;
mod hands;
mod interrupt;
mod land;
mod line;
mod message;
mod prepare_workspace;
mod previews;
pub(crate) mod reach;
mod release_workspace;
mod run_checks;
mod site;
mod start_turn;
mod take_snapshot;
mod vigil;

use std::{future::Future, time::Duration};

use domain::{
    Fault, FaultClass,
    command::Command,
    event::Event,
    ids::{AttemptKey, AttemptNo, CommandId, TaskId},
    task::{Status, Task},
};

pub(crate) use self::{
    clean_up::secrets_scope,
    environment::{checks_of, told},
    hands::{HandsOn, Taken},
    message::snapshot as snapshot_message,
    previews::{Subject, Sweep, opening},
    site::{Driver, Places, Site},
};
pub use self::{site::Terms, vigil::Stalls};

/// How long making a workspace may take, once it has its place.
const READY_WITHIN: Duration = Duration::from_hours(1);

/// What performing came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is looked at once and thrown away")]
pub(crate) enum Performed {
    Event(Event),
    /// The engine stops; the command's row stays, and the next start takes it up.
    LeftForTheNextStart,
}

/// Where a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Issued,
    /// An earlier life of the daemon may have performed it in part.
    Recovered,
}

/// A committed command that is to be performed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ordered<'a> {
    pub id: CommandId,
    pub command: &'a Command,
    pub origin: Origin,
}

/// One command on its way, with what all performers look at.
struct Job<'a> {
    driver: &'a dyn Driver,
    site: &'a Site,
    task: Task,
    id: CommandId,
    origin: Origin,
}

impl Job<'_> {
    fn key(&self, attempt: AttemptNo) -> AttemptKey {
        AttemptKey { task: self.task.id, attempt }
    }
}

pub(crate) async fn perform(
    driver: &dyn Driver,
    site: &Site,
    task: TaskId,
    ordered: Ordered<'_>,
) -> Result<Performed, Fault> {
    let Ordered { id, command, origin } = ordered;
    let job = Job { driver, site, task: driver.task(task).await?, id, origin };
    match command {
        Command::StartTurn { .. } => start_turn::perform(&job, command).await,
        Command::PrepareWorkspace { attempt, commit, anew } => {
            let work = || prepare_workspace::perform(&job, *attempt, commit, *anew);
            unless_interrupted(&job, in_turn_place(&job, *attempt, retrying(&job, work))).await
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
        if job.site.is_stopping() {
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
            () = job.site.stopped() => return Ok(Performed::LeftForTheNextStart),
        }
        pause *= 2;
    }
    work().await.map(Performed::Event)
}

/// Waits for the place of the turn that follows, and keeps it: a turn's time begins when it can run, and a task that waits
/// holds no workspace yet.
async fn in_turn_place(
    job: &Job<'_>,
    attempt: AttemptNo,
    work: impl Future<Output = Result<Performed, Fault>>,
) -> Result<Performed, Fault> {
    let place = job.site.turn_place(job.key(attempt)).await?;
    let late =
        |_| Fault::transient(format!("the workspace was not ready within {} minutes", READY_WITHIN.as_secs() / 60));
    let performed = tokio::time::timeout(READY_WITHIN, work).await.map_err(late)??;
    job.site.keep_turn_place(job.key(attempt), place);
    Ok(performed)
}

/// Gives a command up when it is interrupted, and leaves it for the next start when the engine stops.
async fn unless_interrupted(
    job: &Job<'_>,
    work: impl Future<Output = Result<Performed, Fault>>,
) -> Result<Performed, Fault> {
    let interrupt = job.driver.interrupt(job.task.id, job.id);
    if matches!(job.task.status, Status::Closing { .. }) {
        interrupt.ask();
    }
    tokio::select! {
        biased;
        () = interrupt.asked() => Err(Fault::conflict("interrupted")),
        () = job.site.stopped() => Ok(Performed::LeftForTheNextStart),
        result = work => result,
    }
}
