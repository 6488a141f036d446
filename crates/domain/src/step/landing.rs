//! Approval and what follows: landed exactly once, checked again when the target moved, or given back to its person.

use super::{Stepper, accepted, closing::CleanUp, late, refused};
use crate::{
    Fault,
    check::{Judged, Risk},
    command::Command,
    event::Receipt,
    ids::{Actor, AttemptNo, CommandId, CommitId},
    ports::{agent::Prompt, workspace},
    task::{Landing, LandingStage, Outcome, Status},
};

/// How often a target may move under one landing before a person is asked again.
const MOVES: u32 = 5;

impl Stepper<'_> {
    pub(super) fn approved(&mut self, head: &CommitId, accept: &[Risk]) -> Receipt {
        let no = match self.may_approve(head, accept) {
            Ok(no) => no,
            Err(fault) => return refused(fault),
        };
        if let Status::AwaitingReview(review) = &self.task.status {
            let request = review.request;
            self.close_request(request);
        }
        let by = self.actor.clone();
        let command = self.issue(Command::Land {
            attempt: no,
            head: head.clone(),
            accepted: accept.to_vec(),
            by: by.clone(),
            at: self.at,
            rechecked: None,
        });
        self.task.status = Status::Landing(Landing {
            attempt: no,
            head: head.clone(),
            accepted: accept.to_vec(),
            approved_by: by,
            approved_at: self.at,
            stage: LandingStage::Merging { command },
            moves: 0,
        });
        accepted(format!("approved {}; landing", head.short()))
    }

    /// The attempt whose head may land on this person's word.
    fn may_approve(&self, head: &CommitId, accept: &[Risk]) -> Result<AttemptNo, Fault> {
        let id = self.task.id;
        let Actor::Person(name) = self.actor else {
            return Err(Fault::conflict("only a person can approve"));
        };
        let review = match &self.task.status {
            Status::AwaitingReview(review) => review,
            Status::Working => return Err(self.not_now("approve", "it is still being worked on")),
            Status::Landing(_) => return Err(self.not_now("approve", "it is landing already")),
            Status::Closing { .. } | Status::Ended { .. } => return Err(self.not_now("approve", "it has ended")),
        };
        if let Some(reviewer) = self.task.brief.reviewer.as_ref().filter(|reviewer| *reviewer != name) {
            return Err(Fault::conflict(format!("{id} is to be approved by {reviewer}, and you are {name}")));
        }
        let Some(attempt) = self.task.attempts.iter().find(|attempt| attempt.head() == Some(head)) else {
            return Err(match &review.head {
                Some(now) => {
                    Fault::conflict(format!("the head of {id} is {} now, and you saw {}", now.short(), head.short()))
                        .hint(format!("look at it (`overnight diff {id}`), then approve again"))
                }
                None => Fault::conflict(format!("{id} has no change to approve"))
                    .hint(format!("`overnight retry {id}`, `overnight comment {id} …` or `overnight reject {id}`")),
            });
        };
        // The candidate's as they were shown; another attempt's are its own.
        let risks = if review.attempt == attempt.no { review.risks.clone() } else { attempt.risks() };
        let missing: Vec<&str> = risks.iter().filter(|risk| !accept.contains(risk)).map(Risk::word).collect();
        if !missing.is_empty() {
            let flags: Vec<String> = missing.iter().map(|word| format!("--accept {word}")).collect();
            return Err(Fault::conflict(format!(
                "approving {} needs you to accept by name: {}",
                head.short(),
                missing.join(", ")
            ))
            .hint(format!("`overnight approve {id} {}`", flags.join(" "))));
        }
        Ok(attempt.no)
    }

    pub(super) fn landing_done(&mut self, id: CommandId, landing: &workspace::Landing) -> Receipt {
        let Some(_) = self.retire(id) else { return late() };
        let Some(under_way) = self.landing() else { return late() };
        match landing {
            workspace::Landing::Landed { target, commit } => {
                let (on, commit, by) = (target.clone(), commit.clone(), under_way.approved_by);
                self.close(Outcome::Landed { on, commit, by, hint: None }, CleanUp::RemoveBranch);
                accepted(format!("landed on {target}"))
            }
            workspace::Landing::LeftOnBranch { branch, commit, hint, why } => {
                let (on, commit, by) = (branch.clone(), commit.clone(), under_way.approved_by);
                let hint = Some(format!("{hint}   # {why}"));
                self.close(Outcome::Landed { on, commit, by, hint }, CleanUp::KeepBranch);
                accepted(format!("left on {branch}: {why}"))
            }
            workspace::Landing::Moved { combined, target_head } => {
                self.check_combined(under_way, combined, target_head);
                accepted("the target moved: the combined tree is checked")
            }
            workspace::Landing::Conflict { paths, target_head } => {
                let some = paths.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
                let at = target_head.short();
                let problem = format!(
                    "the change conflicts with the target (at {at}) in {some}: your approval is void\n\
                     `overnight pull {}`, to merge it by hand; or approve again once the target fits",
                    self.task.id
                );
                self.give_back(under_way.attempt, problem);
                accepted("the target conflicts")
            }
        }
    }

    fn check_combined(&mut self, under_way: Landing, combined: &CommitId, target_head: &CommitId) {
        if under_way.moves >= MOVES {
            let problem =
                format!("the target moved {MOVES} times while this was landing: approve again when it is quiet");
            return self.give_back(under_way.attempt, problem);
        }
        let command = self.issue(Command::RunChecks {
            attempt: under_way.attempt,
            base: target_head.clone(),
            head: combined.clone(),
        });
        let stage = LandingStage::Rechecking { command, combined: combined.clone() };
        let moves = under_way.moves + 1;
        self.task.status = Status::Landing(Landing { stage, moves, ..under_way });
    }

    /// Whether `id` was the check of a combined tree; if so, goes on from its verdict.
    pub(super) fn rechecked(&mut self, id: CommandId, judged: &Judged) -> bool {
        let Some(under_way) = self.landing() else { return false };
        let LandingStage::Rechecking { command, combined } = &under_way.stage else { return false };
        if *command != id {
            return false;
        }
        if judged.risks.iter().all(|risk| under_way.accepted.contains(risk)) {
            let command = self.issue(Command::Land {
                attempt: under_way.attempt,
                head: under_way.head.clone(),
                accepted: under_way.accepted.clone(),
                by: under_way.approved_by.clone(),
                at: under_way.approved_at,
                rechecked: Some(combined.clone()),
            });
            self.task.status = Status::Landing(Landing { stage: LandingStage::Merging { command }, ..under_way });
        } else {
            let verdict = judged.verdict.word();
            let problem = format!(
                "merged with the target as it is now, the checks are {verdict}: your approval is void\n{}",
                judged.digest
            );
            self.give_back(under_way.attempt, problem);
            // The next approval has to name what this merge would bring.
            if let Status::AwaitingReview(review) = &mut self.task.status {
                review.risks.extend(judged.risks.iter().cloned());
                review.risks.sort();
                review.risks.dedup();
            }
        }
        true
    }

    /// The landing could not be carried out.
    pub(super) fn landing_failed(&mut self, fault: &Fault) {
        if let Some(under_way) = self.landing() {
            self.give_back(under_way.attempt, format!("landing failed: {fault}"));
        }
    }

    /// Back to the person; or to what was said meanwhile: the end, or a comment for the agent to hear.
    fn give_back(&mut self, no: AttemptNo, problem: String) {
        match self.task.ending.take() {
            Some(ending) => self.close(ending.outcome(), CleanUp::RemoveBranch),
            None if self.hears_something(no) => {
                self.resume(no, Prompt::Comments { comments: Vec::new() });
            }
            None => self.await_review(no, Some(problem)),
        }
    }

    fn landing(&self) -> Option<Landing> {
        match &self.task.status {
            Status::Landing(landing) => Some(landing.clone()),
            Status::Working | Status::AwaitingReview(_) | Status::Closing { .. } | Status::Ended { .. } => None,
        }
    }

    pub(super) fn not_now(&self, verb: &str, why: &str) -> Fault {
        let id = self.task.id;
        Fault::conflict(format!("cannot {verb} {id}: {why}")).hint(format!("`overnight show {id}`"))
    }
}
