//! `PrepareWorkspace`: makes (or finds) the attempt's workspace, and the checks that nobody named.

use std::time::Duration;

use domain::{
    Fault,
    event::Event,
    ids::{AttemptNo, CommitId},
};

use super::{Job, Origin};

/// How long processes of an earlier life may take to die.
pub(super) const DIE_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn perform(job: &Job<'_>, attempt: AttemptNo, commit: &CommitId) -> Result<Event, Fault> {
    let ports = &job.site.ports;
    let repository = &job.task.origin.repository;
    let prepared = {
        let _place = job.site.disk_place().await?;
        ports.workspaces.prepare(repository.clone(), job.key(attempt), commit.clone()).await?
    };
    if job.origin == Origin::Recovered {
        ports.sandboxes.ensure_dead(prepared.lock, DIE_WITHIN).await?;
    }
    let detected = if job.task.checks.is_empty() {
        ports.checks.detect(repository.clone(), job.task.origin.base.clone()).await?
    } else {
        Vec::new()
    };
    Ok(Event::WorkspaceReady { command: job.id, detected })
}
