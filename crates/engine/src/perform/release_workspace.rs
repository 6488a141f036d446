//! `ReleaseWorkspace`: gives a settled attempt's disk back, once its snapshot is proven to hold what is there. A person who is at
//! work in it does so on leaving.

use domain::{Fault, event::Event, ids::AttemptNo};

use super::{Job, Taken};

pub(super) async fn perform(job: &Job<'_>, attempt: AttemptNo) -> Result<Event, Fault> {
    if let Some(snapshot) = job.task.attempt(attempt).and_then(|attempt| attempt.snapshot.as_ref()) {
        let _hands = match job.site.hands.own(job.key(attempt)) {
            Ok(hands) => hands,
            Err(Taken) => return Ok(Event::Done { command: job.id }),
        };
        let _place = job.site.disk_place().await?;
        let repository = job.task.origin.repository.clone();
        job.site.ports.workspaces.release(repository, job.key(attempt), Some(snapshot.commit.clone())).await?;
    }
    Ok(Event::Done { command: job.id })
}
