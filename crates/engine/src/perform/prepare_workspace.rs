//! `PrepareWorkspace`: makes (or finds) the attempt's environment and workspace, and the checks that nobody named.

use std::time::Duration;

use domain::{
    Fault,
    event::Event,
    ids::{AttemptNo, CommitId},
    ports::workspace::{PrepareRequest, Surroundings},
};

use super::{Job, Origin, environment};

/// How long processes of an earlier life may take to die.
pub(super) const DIE_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn perform(job: &Job<'_>, attempt: AttemptNo, commit: &CommitId) -> Result<Event, Fault> {
    let ports = &job.site.ports;
    let (origin, confinement) = (&job.task.origin, job.task.confinement);
    let judging = environment::checks_of_base(job.site, origin).await?;
    let detected = if job.task.checks.is_empty() { judging.clone() } else { Vec::new() };
    let used = environment::provide(job, attempt, judging).await?;
    // A person may be at work in it: the agent goes on in what they leave.
    job.site.hands.off(job.key(attempt)).await;
    let request = PrepareRequest {
        repository: origin.repository.clone(),
        key: job.key(attempt),
        commit: commit.clone(),
        surroundings: Surroundings { environment: used.layer.clone(), confinement },
    };
    let prepared = {
        let _place = job.site.disk_place().await?;
        ports.workspaces.prepare(request).await?
    };
    if job.origin == Origin::Recovered {
        ports.sandboxes.ensure_dead(prepared.lock, DIE_WITHIN).await?;
    }
    Ok(Event::WorkspaceReady { command: job.id, detected, environment: Some(used) })
}
