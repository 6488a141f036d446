//! `PrepareWorkspace`: makes (or finds) the attempt's environment and workspace, and the checks that nobody named.

use std::time::Duration;

use domain::{
    Fault,
    event::Event,
    ids::{AttemptNo, CommitId},
    ports::{
        agent::EntryBody,
        workspace::{PrepareRequest, Surroundings},
    },
};

use super::{Job, Origin, environment};

/// How long processes of an earlier life may take to die.
pub(super) const DIE_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn perform(job: &Job<'_>, attempt: AttemptNo, commit: &CommitId, anew: bool) -> Result<Event, Fault> {
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
        if anew {
            ports.workspaces.release(origin.repository.clone(), job.key(attempt), None).await?;
        }
        take_up_transcript(job, attempt).await?;
        ports.workspaces.prepare(request).await?
    };
    if job.origin == Origin::Recovered {
        ports.sandboxes.ensure_dead(prepared.lock, DIE_WITHIN).await?;
    }
    Ok(Event::WorkspaceReady { command: job.id, detected, environment: Some(used) })
}

/// A fork's attempts begin with the conversation that they go on from, but for sessions, which lived in the other's HOME.
async fn take_up_transcript(job: &Job<'_>, attempt: AttemptNo) -> Result<(), Fault> {
    let Some(fork) = &job.task.fork else { return Ok(()) };
    let ports = &job.site.ports;
    let source = ports.store.task(fork.from.task).await?;
    let past = source.as_ref().and_then(|task| task.attempt(fork.from.attempt));
    let own = ports.transcripts.open(job.key(attempt));
    let theirs = ports.transcripts.open(fork.from).load().await?.into_iter().filter(|entry| {
        let is_void = past.is_some_and(|past| past.is_void(entry.turn));
        entry.turn <= fork.turn && !is_void && !matches!(entry.body, EntryBody::Session { .. })
    });
    // What is there already, an earlier try has copied, or it is the attempt's own.
    let there = own.load().await?.len();
    for entry in theirs.skip(there) {
        own.append(entry).await?;
    }
    Ok(())
}
