//! `RunChecks`: has a head judged, and keeps the whole judgement as a blob.

use bytes::Bytes;
use domain::{
    Fault,
    check::Judged,
    event::Event,
    ids::{AttemptNo, CommitId},
    ports::checks::JudgeRequest,
};

use super::{Job, environment};

pub(super) async fn perform(
    job: &Job<'_>,
    attempt: AttemptNo,
    base: &CommitId,
    head: &CommitId,
) -> Result<Event, Fault> {
    let _place = job.site.judgement_place().await?;
    let task = &job.task;
    let request = JudgeRequest {
        key: job.key(attempt),
        repository: task.origin.repository.clone(),
        base: base.clone(),
        head: head.clone(),
        checks: task.checks.clone(),
        allowed_paths: task.brief.allowed_paths.clone(),
        protected_paths: task.brief.protected_paths.clone(),
        surroundings: environment::surroundings(job).await?,
        env: Vec::new(),
    };
    let judgement = job.site.ports.checks.judge(request).await?;
    let json =
        serde_json::to_vec(&judgement).map_err(|error| Fault::bug(format!("a judgement has no JSON: {error}")))?;
    let detail = job.site.ports.blobs.put(Bytes::from(json)).await?;
    let judged = Judged {
        verdict: judgement.verdict,
        risks: judgement.risks(),
        fingerprint: judgement.fingerprint,
        digest: judgement.digest,
        detail,
    };
    Ok(Event::ChecksRan { command: job.id, judged })
}
