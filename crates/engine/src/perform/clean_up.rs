//! `CleanUp` and `Purge`: the end of a task leaves nothing outside the private store, and after 30 days nothing there.

use domain::{
    Fault, FaultClass,
    command::Branch,
    event::Event,
    ids::{AttemptNo, TurnNo},
};

use super::{Job, previews::Sweep, take_snapshot};

/// The scope of a task's keys.
pub(crate) fn secrets_scope(task: domain::ids::TaskId) -> String {
    format!("task/{}", task.0)
}

pub(super) async fn perform(job: &Job<'_>, branch: Branch) -> Result<Event, Fault> {
    job.driver.attempts_quiet(job.task.id).await;
    let removed = remove(job, branch).await;
    // Whatever cannot be removed: the keys go.
    job.site.ports.secrets.forget(secrets_scope(job.task.id)).await?;
    removed.map(|()| Event::Done { command: job.id })
}

async fn remove(job: &Job<'_>, branch: Branch) -> Result<(), Fault> {
    for attempt in &job.task.attempts {
        let _hands = job.site.hands.seize(job.key(attempt.no)).await;
        job.site.previews.sweep(job.site, Sweep::Of(job.key(attempt.no))).await;
        keep_and_release(job, attempt.no).await?;
        // No session is gone on with.
        let repository = job.task.origin.repository.clone();
        job.site.ports.workspaces.release(repository, job.key(attempt.no), None).await?;
    }
    match branch {
        Branch::Remove => job.site.ports.workspaces.discard(job.task.origin.repository.clone(), job.task.id).await,
        Branch::Keep => Ok(()),
    }
}

/// Removes a workspace only after a snapshot holds all of it, whatever state the attempt was in.
async fn keep_and_release(job: &Job<'_>, no: AttemptNo) -> Result<(), Fault> {
    let Some(attempt) = job.task.attempt(no) else { return Ok(()) };
    let workspaces = &job.site.ports.workspaces;
    let (repository, key) = (job.task.origin.repository.clone(), job.key(no));
    if let Some(snapshot) = &attempt.snapshot {
        match workspaces.release(repository.clone(), key, Some(snapshot.commit.clone())).await {
            Ok(()) => return Ok(()),
            // Something was written after that snapshot: keep it in one more.
            Err(fault) if fault.class == FaultClass::Conflict => {}
            Err(fault) => return Err(fault),
        }
    }
    let turn = TurnNo(attempt.turns + 1);
    match take_snapshot::snapshot(job, no, turn, job.task.updated_at).await {
        Ok(last) => workspaces.release(repository, key, Some(last.commit)).await,
        Err(fault) if fault.class == FaultClass::NotFound => Ok(()),
        Err(fault) => Err(fault),
    }
}

pub(super) async fn purge(job: &Job<'_>) -> Result<Event, Fault> {
    for attempt in &job.task.attempts {
        // One that could not be cleaned up then. Nothing of it is wanted any more.
        job.site.ports.workspaces.release(job.task.origin.repository.clone(), job.key(attempt.no), None).await?;
    }
    job.site.ports.workspaces.purge(job.task.origin.repository.clone(), job.task.id).await?;
    Ok(Event::Done { command: job.id })
}
