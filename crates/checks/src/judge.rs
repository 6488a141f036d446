//! One judgement: every check on the head and on the base, the contract's paths, the verdict over all.

use bytes::Bytes;
use domain::{
    Fault,
    check::{BlobId, CheckEnd, CheckRun, CheckSpec, Judgement, Tier, Verdict},
    ids::CommitId,
    ports::checks::JudgeRequest,
};
use futures::future::{try_join, try_join_all};

use crate::{
    Checks, blocked,
    contract::Contract,
    digest::{self, Told},
    parse::{Report, Tally},
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
        let judge = |tier: Tier| {
            let of_tier = request.checks.iter().enumerate().filter(move |(_, check)| check.tier == tier);
            try_join_all(of_tier.map(|(nth, check)| self.judge_one(nth, jobs(&request, protect.clone(), nth, check))))
        };
        let mut judged = judge(Tier::Fast).await?;
        if judged.iter().all(|one| one.run.verdict == Verdict::Green) {
            judged.extend(judge(Tier::Slow).await?);
        } else {
            let slow = request.checks.iter().enumerate().filter(|(_, check)| check.tier == Tier::Slow);
            judged.extend(slow.map(|(nth, check)| Judged::not_run(nth, check.clone())));
        }
        judged.sort_by_key(|one| one.nth);
        let told: Vec<Told<'_>> =
            judged.iter().map(|one| Told { run: &one.run, report: &one.report, text: &one.text }).collect();
        let verdict = overall(&told, !touched.outside_allowed.is_empty());
        let digest = digest::digest(verdict, &told, &touched);
        let fingerprint = digest::fingerprint(verdict, &told, &touched);
        Ok(Judgement {
            verdict,
            runs: judged.into_iter().map(|one| one.run).collect(),
            outside_allowed: touched.outside_allowed,
            protected_touched: touched.protected,
            digest,
            fingerprint,
        })
    }

    async fn judge_one(&self, nth: usize, (head, base): (Job, Job)) -> Result<Judged, Fault> {
        let check = head.check.clone();
        let run_base = || async { Ok(self.runner.execute(base.clone()).await?.outcome) };
        let (execution, base) = try_join(self.runner.execute(head), self.bases.outcome(&base, run_base)).await?;
        let compared = verdict::compare(&execution.outcome, &base);
        let log = self.keep_log(&execution, &compared).await?;
        let run = CheckRun { base_end: base.end, log, ..summary(check, &execution, compared) };
        Ok(Judged { nth, run, report: execution.outcome.report, text: execution.text })
    }

    /// The whole output, and below it the last words of services that were not ready and the lists that are too long for the
    /// judgement. An empty output is not worth a file.
    async fn keep_log(&self, execution: &Execution, compared: &Comparison) -> Result<Option<BlobId>, Fault> {
        let lists = [
            ("Failed on the base, pass now", &compared.fixed),
            ("New failures", &compared.new_failures),
            ("Failures that the base has too", &compared.known_failures),
            ("Ran on the base and not now", &compared.missing),
        ];
        let long = lists
            .iter()
            .filter(|(_, names)| names.len() > LISTED)
            .map(|(title, names)| format!("\n==== {title} ({}) ====\n{}\n", names.len(), names.join("\n")));
        let unready =
            execution.outcome.unready.iter().map(|note| format!("\n==== Service ====\n{}\n", note.trim_end()));
        let appended: String = unready.chain(long).collect();
        let content = match appended.is_empty() {
            true => execution.output.clone(),
            false => Bytes::from([&execution.output[..], appended.as_bytes()].concat()),
        };
        if content.is_empty() { Ok(None) } else { self.options.blobs.put(content).await.map(Some) }
    }
}

/// One check's part of a judgement.
struct Judged {
    /// Its place in the request.
    nth: usize,
    run: CheckRun,
    report: Report,
    text: String,
}

impl Judged {
    fn not_run(nth: usize, check: CheckSpec) -> Self {
        let reason = "not run, as a fast check is not green".to_owned();
        let run = CheckRun {
            check,
            verdict: Verdict::Inconclusive,
            end: CheckEnd::NotRun,
            base_end: CheckEnd::NotRun,
            duration_ms: 0,
            passed: 0,
            failed: 0,
            skipped: 0,
            fixed: Vec::new(),
            new_failures: Vec::new(),
            known_failures: Vec::new(),
            missing: Vec::new(),
            reason,
            blocked: Vec::new(),
            log: None,
        };
        Self { nth, run, report: Report::default(), text: String::new() }
    }
}

/// One check on the head and on the base.
fn jobs(request: &JudgeRequest, protect: Option<(CommitId, Vec<String>)>, nth: usize, check: &CheckSpec) -> (Job, Job) {
    let head = Job {
        repository: request.repository.clone(),
        base: request.base.clone(),
        commit: request.head.clone(),
        protect,
        check: check.clone(),
        surroundings: request.surroundings.clone(),
        env: request.env.clone(),
        label: format!("{}-check-{nth}", request.key),
    };
    let base = Job {
        commit: request.base.clone(),
        protect: None,
        label: format!("{}-base-{nth}", request.key),
        ..head.clone()
    };
    (head, base)
}

/// The run without what only the base and the log tell.
fn summary(check: CheckSpec, execution: &Execution, compared: Comparison) -> CheckRun {
    let Tally { passed, failed, skipped } = execution.outcome.report.total();
    let capped = |mut names: Vec<String>| {
        names.truncate(LISTED);
        names
    };
    let reason = match blocked::clause(&execution.refused) {
        Some(clause) if compared.verdict != Verdict::Green => format!("{}; {clause}", compared.reason),
        Some(_) | None => compared.reason,
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
        reason,
        blocked: blocked::places(&execution.refused),
        log: None,
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
