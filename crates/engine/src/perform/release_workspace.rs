//! `ReleaseWorkspace`: gives a settled attempt's disk back, once its snapshot is proven to hold what is there.

use domain::{Fault, event::Event, ids::AttemptNo};

use super::Job;

pub(super) async fn perform(job: &Job<'_>, attempt: AttemptNo) -> Result<Event, Fault> {
    if let Some(snapshot) = job.task.attempt(attempt).and_then(|attempt| attempt.snapshot.as_ref()) {
        let _place = job.site.disk_place().await?;
        let repository = job.task.origin.repository.clone();
        job.site.ports.workspaces.release(repository, job.key(attempt), Some(snapshot.commit.clone())).await?;
    }
    Ok(Event::Done { command: job.id })
}
