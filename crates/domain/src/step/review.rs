//! From attempts to a decision: when all have settled, the best one is put before a person, or the task ends by itself.

use super::{Stepper, closing::CleanUp};
use crate::{
    attempt::{Attempt, Conclusion},
    check::{Risk, Verdict},
    ids::{AttemptNo, CommitId},
    task::{Outcome, Review, Status},
};

impl Attempt {
    /// What can be approved of this attempt: its last snapshot, unless that changes nothing.
    pub fn head(&self) -> Option<&CommitId> {
        let decidable = self.status.is_decidable();
        self.snapshot.as_ref().filter(|snapshot| decidable && !snapshot.empty).map(|snapshot| &snapshot.commit)
    }

    /// What a person must accept by name before this attempt's head can land.
    pub fn risks(&self) -> Vec<Risk> {
        match &self.judged {
            Some(judged) => judged.risks.clone(),
            None => vec![Risk::NotGreen],
        }
    }

    /// Smaller is better: ready before handed back, by verdict, then by size.
    fn rank(&self) -> (bool, bool, u8, u32, AttemptNo) {
        let verdict = match self.judged.as_ref().map(|judged| judged.verdict) {
            Some(Verdict::Green) => 0,
            Some(Verdict::Inconclusive) => 1,
            Some(Verdict::Red) => 2,
            None => 3,
        };
        let stat = self.snapshot.as_ref().map(|snapshot| snapshot.stat).unwrap_or_default();
        let lines = stat.added.saturating_add(stat.deleted);
        (self.status.problem().is_some(), self.head().is_none(), verdict, lines, self.no)
    }
}

impl Stepper<'_> {
    /// Looks at the task as a whole after every event.
    pub(super) fn settle(&mut self) {
        match &self.task.status {
            Status::Working => {
                if self.task.attempts.iter().all(|attempt| attempt.status.is_settled()) {
                    self.all_settled();
                }
            }
            Status::Closing { .. } => self.advance_closing(),
            Status::AwaitingReview(_) | Status::Landing(_) | Status::Ended { .. } => {}
        }
    }

    fn all_settled(&mut self) {
        let best = self.best();
        let ready = best.and_then(|no| self.task.attempt(no)).is_some_and(|attempt| attempt.status.problem().is_none());
        let report = self.task.attempts.iter().find_map(|attempt| match attempt.status.conclusion() {
            Some(Conclusion::Reported { report }) => Some((attempt.no, report.clone())),
            Some(Conclusion::NothingToDo { .. } | Conclusion::Failed { .. } | Conclusion::Stopped) | None => None,
        });
        match (best, report) {
            (Some(no), _) if ready => self.await_review(no, None),
            (_, Some((attempt, report))) => self.close(Outcome::Reported { attempt, report }, CleanUp::KeepBranch),
            (Some(no), None) => self.await_review(no, None),
            (None, None) => {
                let outcome = self.undecidable_outcome();
                self.close(outcome, CleanUp::RemoveBranch);
            }
        }
    }

    /// The attempt to put before a person, if any has something to decide about or needs help.
    pub(super) fn best(&self) -> Option<AttemptNo> {
        let decidable = self.task.attempts.iter().filter(|attempt| attempt.status.is_decidable());
        decidable.min_by_key(|attempt| attempt.rank()).map(|attempt| attempt.no)
    }

    fn undecidable_outcome(&self) -> Outcome {
        let mut failure = None;
        for attempt in &self.task.attempts {
            match attempt.status.conclusion() {
                Some(Conclusion::NothingToDo { summary }) => return Outcome::NothingToDo { summary: summary.clone() },
                Some(Conclusion::Failed { why }) => failure = Some(why.clone()),
                Some(Conclusion::Reported { .. } | Conclusion::Stopped) | None => {}
            }
        }
        Outcome::Failed { why: failure.unwrap_or_else(|| "every attempt was stopped".to_owned()) }
    }

    /// Asks a person to decide about an attempt. `problem` overrides the attempt's own.
    pub(super) fn await_review(&mut self, no: AttemptNo, problem: Option<String>) {
        let Some(attempt) = self.task.attempt(no) else { return };
        let (head, risks) = (attempt.head().cloned(), attempt.risks());
        let problem = problem.or_else(|| attempt.status.problem().map(str::to_owned));
        let request = self.ask_person();
        let review = Review { request, attempt: no, head, risks, problem, since: self.at, reminders: 0 };
        self.task.status = Status::AwaitingReview(review);
    }
}
