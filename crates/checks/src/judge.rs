//! One judgement: every check on the head and on the base, the contract's paths, the verdict over all.

use bytes::Bytes;
use domain::{
    Fault,
    check::{BlobId, CheckRun, CheckSpec, Judgement, Verdict},
    ports::checks::JudgeRequest,
};
use futures::future::{try_join, try_join_all};

use crate::{
    Checks,
    contract::Contract,
    digest::{self, Told},
    parse::Tally,
    run::{Execution, Job},
    verdict::{self, Comparison},
};

/// Names in each list of a run; where there are more, all of them stand at the end of its log.
const LISTED: usize = 50;

impl Checks {
    pub(crate) async fn judge_all(&self, request: JudgeRequest) -> Result<Judgement, Fault> {
        let contract = Contract::new(&request.allowed_paths, &request.protected_paths)?;
        let (repository, base, head) = (request.repository.clone(), request.base.clone(), request.head.clone());
        let touched = contract.examine(&self.options.workspaces.changed_paths(repository, base, head).await?);
        // Where nothing protected has changed, the head's files are the base's already.
        let protect = (!touched.protected.is_empty()).then(|| (request.base.clone(), contract.protected_globs()));
        let jobs = request.checks.iter().enumerate().map(|(nth, check)| {
            let head = Job {
                repository: request.repository.clone(),
                commit: request.head.clone(),
                protect: protect.clone(),
                check: check.clone(),
                confinement: request.confinement,
                env: request.env.clone(),
                label: format!("{}-check-{nth}", request.key),
            };
            let base = Job {
                commit: request.base.clone(),
                protect: None,
                label: format!("{}-base-{nth}", request.key),
                ..head.clone()
            };
            self.judge_one(head, base)
        });
        let judged = try_join_all(jobs).await?;
        let told: Vec<Told<'_>> = judged
            .iter()
            .map(|(run, execution)| Told { run, report: &execution.outcome.report, text: &execution.text })
            .collect();
        let verdict = overall(&told, !touched.outside_allowed.is_empty());
        let digest = digest::digest(verdict, &told, &touched);
        let fingerprint = digest::fingerprint(verdict, &told, &touched);
        Ok(Judgement {
            verdict,
            runs: judged.into_iter().map(|(run, _)| run).collect(),
            outside_allowed: touched.outside_allowed,
            protected_touched: touched.protected,
            digest,
            fingerprint,
        })
    }

    async fn judge_one(&self, head: Job, base: Job) -> Result<(CheckRun, Execution), Fault> {
        let check = head.check.clone();
        let run_base = || async { Ok(self.runner.execute(base.clone()).await?.outcome) };
        let (execution, base) = try_join(self.runner.execute(head), self.bases.outcome(&base, run_base)).await?;
        let compared = verdict::compare(&execution.outcome, &base);
        let log = self.keep_log(&execution, &compared).await?;
        let run = summary(check, &execution, compared, log);
        Ok((CheckRun { base_end: base.end, ..run }, execution))
    }

    /// The whole output, and below it the lists that are too long for the judgement. An empty output is not worth a file.
    async fn keep_log(&self, execution: &Execution, compared: &Comparison) -> Result<Option<BlobId>, Fault> {
        let lists = [
            ("Failed on the base, pass now", &compared.fixed),
            ("New failures", &compared.new_failures),
            ("Failures that the base has too", &compared.known_failures),
            ("Ran on the base and not now", &compared.missing),
        ];
        let long: Vec<String> = lists
            .iter()
            .filter(|(_, names)| names.len() > LISTED)
            .map(|(title, names)| format!("\n==== {title} ({}) ====\n{}\n", names.len(), names.join("\n")))
            .collect();
        let content = match long.is_empty() {
            true => execution.output.clone(),
            false => Bytes::from([&execution.output[..], long.concat().as_bytes()].concat()),
        };
        if content.is_empty() { Ok(None) } else { self.options.blobs.put(content).await.map(Some) }
    }
}

fn summary(check: CheckSpec, execution: &Execution, compared: Comparison, log: Option<BlobId>) -> CheckRun {
    let Tally { passed, failed, skipped } = execution.outcome.report.total();
    let capped = |mut names: Vec<String>| {
        names.truncate(LISTED);
        names
    };
    CheckRun {
        check,
        verdict: compared.verdict,
        end: execution.outcome.end,
        base_end: execution.outcome.end,
        duration_ms: u64::try_from(execution.duration.as_millis()).unwrap_or(u64::MAX),
        passed,
        failed,
        skipped,
        fixed: capped(compared.fixed),
        new_failures: capped(compared.new_failures),
        known_failures: capped(compared.known_failures),
        missing: capped(compared.missing),
        reason: compared.reason,
        log,
    }
}

/// Any red is red, else any doubt is doubt; nothing checked is doubt.
fn overall(runs: &[Told<'_>], is_breached: bool) -> Verdict {
    let has = |verdict: Verdict| runs.iter().any(|told| told.run.verdict == verdict);
    if is_breached || has(Verdict::Red) {
        Verdict::Red
    } else if runs.is_empty() || has(Verdict::Inconclusive) {
        Verdict::Inconclusive
    } else {
        Verdict::Green
    }
}
