//! `TakeSnapshot`: the workspace as it is, as a commit in the private store.

use domain::{
    Fault,
    event::Event,
    ids::{AttemptNo, TurnNo},
    ports::workspace::{Snapshot, SnapshotRequest},
};
use jiff::Timestamp;

use super::{Job, message};

pub(super) async fn perform(job: &Job<'_>, attempt: AttemptNo, turn: TurnNo, at: Timestamp) -> Result<Event, Fault> {
    let snapshot = snapshot(job, attempt, turn, at).await?;
    Ok(Event::SnapshotTaken { command: job.id, snapshot })
}

pub(super) async fn snapshot(
    job: &Job<'_>,
    attempt: AttemptNo,
    turn: TurnNo,
    at: Timestamp,
) -> Result<Snapshot, Fault> {
    let _place = job.site.disk_place().await?;
    let request = SnapshotRequest {
        repository: job.task.origin.repository.clone(),
        key: job.key(attempt),
        turn,
        base: job.task.origin.base.clone(),
        message: message::snapshot(&job.task, attempt, turn),
        at,
        redactor: job.site.ports.environments.redactor(job.task.origin.repository.clone()).await?,
    };
    job.site.ports.workspaces.snapshot(request).await
}
