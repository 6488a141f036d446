//! One attempt's way: workspace → turn → snapshot → checks → (another turn | ready | a person).

use jiff::{SignedDuration, Timestamp};

use super::{Stepper, accepted, late, timers};
use crate::{
    Fault, FaultClass,
    attempt::{AttemptStatus, Conclusion, NextTurn, Progress, Stopping},
    check::{BlobId, CheckSpec, Judged, Verdict},
    command::Command,
    environment::EnvironmentUse,
    event::Receipt,
    ids::{AttemptNo, CommandId, CommentId, TurnNo},
    ports::{
        agent::{Mode, Prompt, TurnConclusion, TurnEnd},
        egress::Refusal,
        workspace::Snapshot,
    },
    task::{Delivery, Status, Timer},
};

/// Rounds of one turn at most.
const ROUNDS_PER_TURN: u32 = 200;
/// How often a failed turn is tried again by itself. Together with the rests between them, this outlasts a provider that is down
/// for an hour: nobody is there to try again at night.
const RESTARTS: u32 = 4;
/// The first rest; each later one is six times as long, up to the longest.
const REST: SignedDuration = SignedDuration::from_secs(15);
/// Refused hosts kept with an attempt.
const REFUSALS: usize = 50;
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(1);
/// How often an attempt waits for a model before a person hears of it; quota windows are hours long.
const HOLDS: u32 = 50;
const SHORTEST_HOLD: SignedDuration = SignedDuration::from_secs(5);
/// Longer than any provider's window but a week's, which is looked at every day.
const LONGEST_HOLD: SignedDuration = SignedDuration::from_hours(24);

impl Stepper<'_> {
    /// Sends an attempt on its way: workspace first, then the turn.
    pub(super) fn begin_turn(&mut self, no: AttemptNo, next: NextTurn) {
        let snapshot = self.task.attempt(no).and_then(|attempt| attempt.snapshot.as_ref());
        let commit = snapshot.map_or_else(|| self.task.origin.base.clone(), |snapshot| snapshot.commit.clone());
        let anew = self.attempt_mut(no).is_some_and(|attempt| std::mem::take(&mut attempt.spoiled));
        let command = self.issue(Command::PrepareWorkspace { attempt: no, commit, anew });
        self.set_status(no, AttemptStatus::Preparing { command, next });
    }

    pub(super) fn workspace_ready(
        &mut self,
        id: CommandId,
        detected: &[CheckSpec],
        environment: Option<&EnvironmentUse>,
    ) -> Receipt {
        let Some(_) = self.retire(id) else { return late() };
        if let Some(environment) = environment {
            self.task.environment = Some(environment.clone());
        }
        if self.task.checks.is_empty() {
            self.task.checks = detected.to_vec();
        }
        let Some((no, AttemptStatus::Preparing { next, .. })) = self.waiting_for(id) else { return late() };
        if self.is_closing() {
            self.stop_attempt(no);
            return accepted("the task is ending");
        }
        if let Some(attempt) = self.attempt_mut(no) {
            // It was of the preparation.
            attempt.progress = None;
        }
        let rounds_left = self.task.brief.budget.rounds.map(|limit| limit.saturating_sub(self.task.rounds));
        let max_rounds = rounds_left.unwrap_or(ROUNDS_PER_TURN).min(ROUNDS_PER_TURN);
        if max_rounds == 0 {
            self.hand_back(no, "the budget of rounds is used up");
        } else if timers::wall_left(self.task).is_some_and(|left| left <= SignedDuration::ZERO) {
            self.hand_back(no, "the wall-time budget is used up");
        } else {
            self.start_turn(no, next, max_rounds);
        }
        accepted("the workspace is ready")
    }

    fn start_turn(&mut self, no: AttemptNo, next: NextTurn, max_rounds: u32) {
        let heard = self.unheard(no);
        let Some(attempt) = self.attempt_mut(no) else { return };
        attempt.turns += 1;
        let (turn, choice) = (TurnNo(attempt.turns), attempt.choice);
        let fresh = std::mem::take(&mut attempt.fresh);
        let ids: Vec<CommentId> = heard.iter().map(|(id, _)| *id).collect();
        let prompt = with_comments(next.prompt, heard);
        let mode = next.mode;
        let command = self.issue(Command::StartTurn { attempt: no, turn, mode, prompt, max_rounds, choice, fresh });
        let since = self.at;
        self.set_status(no, AttemptStatus::Turning { command, turn, mode, since, stopping: Stopping::No });
        self.mark_delivered(Delivery { attempt: no, turn, round: 0 }, &ids);
    }

    pub(super) fn turn_ended(&mut self, id: CommandId, end: &TurnEnd, report: Option<&BlobId>) -> Receipt {
        let Some(_) = self.retire(id) else { return late() };
        let Some((no, AttemptStatus::Turning { turn, mode, since, stopping, .. })) = self.waiting_for(id) else {
            return late();
        };
        self.task.rounds = self.task.rounds.saturating_add(end.rounds);
        let worked = seconds_between(since, self.at);
        let cut = match (&end.conclusion, stopping) {
            (TurnConclusion::OutOfBudget { why }, _) => Some(why.clone()),
            (TurnConclusion::OutOfRounds, _) => Some(format!("the turn used up its {} rounds", end.rounds)),
            (TurnConclusion::Interrupted, Stopping::Asked { why }) => Some(why),
            (TurnConclusion::Interrupted, Stopping::No) => Some("the turn was interrupted".to_owned()),
            (
                TurnConclusion::Finished
                | TurnConclusion::Asked { .. }
                | TurnConclusion::DeadEnd { .. }
                | TurnConclusion::Failed { .. }
                | TurnConclusion::Held { .. }
                | TurnConclusion::Stalled { .. },
                _,
            ) => None,
        };
        if let Some(attempt) = self.attempt_mut(no) {
            attempt.worked_s = attempt.worked_s.saturating_add(worked);
            attempt.report = report.cloned();
            if !end.summary.is_empty() {
                attempt.summary = Some(end.summary.clone());
            }
        }
        let command = self.issue(Command::TakeSnapshot { attempt: no, turn, at: self.at });
        self.set_status(no, AttemptStatus::Snapshotting { command, turn, mode, end: end.clone(), cut });
        accepted("the turn ended")
    }

    pub(super) fn snapshot_taken(&mut self, id: CommandId, snapshot: &Snapshot) -> Receipt {
        let Some(_) = self.retire(id) else { return late() };
        let Some((no, AttemptStatus::Snapshotting { mode, end, cut, .. })) = self.waiting_for(id) else {
            return late();
        };
        let keeps = mode != Mode::Plan || self.task.rules < 2;
        if let Some(attempt) = self.attempt_mut(no) {
            if !keeps && attempt.snapshot.as_ref().map_or(!snapshot.empty, |last| last.commit != snapshot.commit) {
                // Who plans may only read: what was changed all the same is in the store, and goes no further.
                attempt.spoiled = true;
            } else {
                if attempt.snapshot.as_ref().is_none_or(|last| last.commit != snapshot.commit) {
                    attempt.judged = None;
                }
                attempt.snapshot = Some(snapshot.clone());
            }
        }
        if self.is_closing() {
            self.stop_attempt(no);
            return accepted("the work is kept; the task is ending");
        }
        match (end.conclusion, cut) {
            (TurnConclusion::Finished, _) => self.turn_finished(no, mode, snapshot, end.summary),
            (TurnConclusion::Asked { question, choices, default }, _) => {
                let (request, since) = (self.ask_person(), self.at);
                let status = AttemptStatus::AwaitingAnswer { request, question, choices, default, since, reminders: 0 };
                self.set_status(no, status);
            }
            (TurnConclusion::DeadEnd { why }, _) => self.hand_back(no, &why),
            (TurnConclusion::Failed { why }, _) => self.rest_or_hand_back(no, why),
            (TurnConclusion::Held { why, until }, _) => self.hold(no, why, until),
            (TurnConclusion::Stalled { why }, _) => self.climb(no, why),
            // Whatever was cut short may be complete all the same: the checks say so, and cost no token.
            (TurnConclusion::Interrupted | TurnConclusion::OutOfBudget { .. } | TurnConclusion::OutOfRounds, cut) => {
                let why = cut.unwrap_or_else(|| "the turn was cut short".to_owned());
                if mode == Mode::Work && !snapshot.empty {
                    self.run_checks(no, snapshot, Some(why));
                } else {
                    self.hand_back(no, &why);
                }
            }
        }
        accepted("the work is kept")
    }

    fn turn_finished(&mut self, no: AttemptNo, mode: Mode, snapshot: &Snapshot, summary: String) {
        if let Some(attempt) = self.attempt_mut(no) {
            attempt.end_well();
        }
        if self.hears_something(no) {
            return self.begin_turn(no, NextTurn { mode, prompt: Prompt::Comments { comments: Vec::new() } });
        }
        let report = self.task.attempt(no).and_then(|attempt| attempt.report.clone());
        match (mode, report) {
            (Mode::Plan, _) => {
                let (request, since) = (self.ask_person(), self.at);
                self.set_status(no, AttemptStatus::AwaitingPlan { request, plan: summary, since, reminders: 0 });
            }
            (Mode::Report, Some(report)) => self.conclude(no, Conclusion::Reported { report }),
            (Mode::Report, None) => self.hand_back(no, "the turn ended without a report"),
            (Mode::Work, _) if snapshot.empty => self.conclude(no, Conclusion::NothingToDo { summary }),
            (Mode::Work, _) => self.run_checks(no, snapshot, None),
        }
    }

    pub(super) fn run_checks(&mut self, no: AttemptNo, snapshot: &Snapshot, cut: Option<String>) {
        let base = self.task.origin.base.clone();
        let command = self.issue(Command::RunChecks { attempt: no, base, head: snapshot.commit.clone() });
        let since = self.at;
        self.set_status(no, AttemptStatus::Checking { command, since, cut });
    }

    pub(super) fn checks_ran(&mut self, id: CommandId, judged: &Judged) -> Receipt {
        let Some(_) = self.retire(id) else { return late() };
        if self.rechecked(id, judged) {
            return accepted("the combined tree was checked");
        }
        let Some((no, AttemptStatus::Checking { since, cut, .. })) = self.waiting_for(id) else { return late() };
        let worked = seconds_between(since, self.at);
        let Some(attempt) = self.attempt_mut(no) else { return late() };
        attempt.worked_s = attempt.worked_s.saturating_add(worked);
        attempt.judged = Some(judged.clone());
        if self.is_closing() {
            self.stop_attempt(no);
            return accepted("the task is ending");
        }
        match (judged.verdict, cut) {
            (Verdict::Green, _) if !self.hears_something(no) => {
                self.set_status(no, AttemptStatus::Ready);
                self.release(no);
            }
            (Verdict::Green | Verdict::Red | Verdict::Inconclusive, Some(why)) => self.hand_back(no, &why),
            (Verdict::Red, None) => self.correct(no, judged),
            (Verdict::Green | Verdict::Inconclusive, None) if self.hears_something(no) => {
                let mode = self.mode_of(no);
                self.begin_turn(no, NextTurn { mode, prompt: Prompt::Comments { comments: Vec::new() } });
            }
            (Verdict::Green | Verdict::Inconclusive, None) => {
                self.set_status(no, AttemptStatus::Ready);
                self.release(no);
            }
        }
        accepted(format!("the checks are {}", judged.verdict.word()))
    }

    /// Red goes back to the agent, a bounded number of times.
    fn correct(&mut self, no: AttemptNo, judged: &Judged) {
        let most = self.task.brief.max_corrections;
        let spoken = self.hears_something(no);
        let Some(attempt) = self.attempt_mut(no) else { return };
        if spoken {
            attempt.corrections = 0;
        }
        let again = attempt.last_failure.as_deref() == Some(judged.fingerprint.as_str());
        attempt.last_failure = Some(judged.fingerprint.clone());
        if attempt.corrections >= most && !spoken {
            let why = match most {
                0 => "the checks are red".to_owned(),
                1 => "the checks are still red after 1 correction".to_owned(),
                most => format!("the checks are still red after {most} corrections"),
            };
            return self.hand_back(no, &why);
        }
        attempt.corrections += 1;
        let prompt = Prompt::Fix { digest: judged.digest.clone(), again, comments: Vec::new() };
        let mode = self.mode_of(no);
        self.begin_turn(no, NextTurn { mode, prompt });
    }

    fn rest_or_hand_back(&mut self, no: AttemptNo, why: String) {
        let Some(attempt) = self.attempt_mut(no) else { return };
        if attempt.restarts >= RESTARTS {
            return self.hand_back(no, &why);
        }
        let rest = (REST * 6i32.saturating_pow(attempt.restarts)).min(LONGEST_REST);
        attempt.restarts += 1;
        attempt.status = AttemptStatus::Resting { why };
        self.set_timer(Timer::Rest(no), rest);
    }

    /// No model can be called until then.
    fn hold(&mut self, no: AttemptNo, why: String, until: Timestamp) {
        let (at, task) = (self.at, self.task.id.0);
        let Some(attempt) = self.attempt_mut(no) else { return };
        attempt.holds += 1;
        if attempt.holds > HOLDS {
            return self.hand_back(no, &why);
        }
        // Whoever waits for the same account comes back at a second of its own.
        let spread = SignedDuration::from_secs((task % 30) as i64);
        let rest = until.duration_since(at).clamp(SHORTEST_HOLD, LONGEST_HOLD) + spread;
        attempt.status = AttemptStatus::Resting { why };
        self.set_timer(Timer::Rest(no), rest);
    }

    /// The next rung for a turn that got nowhere: the session goes on, then a new one from the snapshot, then another agent or
    /// model, then a person.
    fn climb(&mut self, no: AttemptNo, why: String) {
        let fallbacks = u32::try_from(self.task.brief.fallbacks.len()).unwrap_or(u32::MAX);
        let Some(attempt) = self.attempt_mut(no) else { return };
        attempt.stalls += 1;
        if attempt.stalls > 1 {
            if attempt.stalls > 2 {
                if attempt.choice >= fallbacks {
                    return self.hand_back(no, &why);
                }
                attempt.choice += 1;
            }
            attempt.spoiled = true;
            attempt.fresh = true;
        }
        let mode = self.mode_of(no);
        self.begin_turn(no, NextTurn { mode, prompt: Prompt::Continue { why, comments: Vec::new() } });
    }

    /// Gives an attempt to a person. Its workspace goes only when a snapshot holds it.
    pub(super) fn hand_back(&mut self, no: AttemptNo, why: &str) {
        let was_kept = self.task.attempt(no).is_some_and(|attempt| match &attempt.status {
            AttemptStatus::Snapshotting { .. } | AttemptStatus::Checking { .. } => true,
            AttemptStatus::Preparing { .. }
            | AttemptStatus::Turning { .. }
            | AttemptStatus::AwaitingAnswer { .. }
            | AttemptStatus::AwaitingPlan { .. }
            | AttemptStatus::Resting { .. }
            | AttemptStatus::Ready
            | AttemptStatus::HandedBack { .. }
            | AttemptStatus::Concluded { .. } => false,
        });
        self.set_status(no, AttemptStatus::HandedBack { why: why.to_owned() });
        if was_kept {
            self.release(no);
        }
    }

    fn conclude(&mut self, no: AttemptNo, conclusion: Conclusion) {
        self.set_status(no, AttemptStatus::Concluded { conclusion });
        self.release(no);
    }

    pub(super) fn stop_attempt(&mut self, no: AttemptNo) {
        self.set_status(no, AttemptStatus::Concluded { conclusion: Conclusion::Stopped });
    }

    fn release(&mut self, no: AttemptNo) {
        if self.task.attempt(no).is_some_and(|attempt| attempt.snapshot.is_some()) {
            self.issue(Command::ReleaseWorkspace { attempt: no });
        }
    }

    pub(super) fn command_failed(&mut self, id: CommandId, fault: &Fault) -> Receipt {
        let Some(command) = self.retire(id) else { return late() };
        let Some((no, status)) = self.waiting_for(id) else {
            return self.background_command_failed(id, &command, fault);
        };
        if self.is_closing() {
            self.stop_attempt(no);
            return accepted("the task is ending");
        }
        let hopeless = matches!(fault.class, FaultClass::Input | FaultClass::NotFound);
        let untouched = self.task.attempt(no).is_some_and(|attempt| attempt.turns == 0);
        if matches!(status, AttemptStatus::Preparing { .. }) && untouched && hopeless {
            let conclusion = Conclusion::Failed { why: fault.to_string() };
            self.set_status(no, AttemptStatus::Concluded { conclusion });
        } else {
            // Not `hand_back`: nothing proves that the last snapshot holds the workspace.
            self.set_status(no, AttemptStatus::HandedBack { why: fault.to_string() });
        }
        accepted(format!("{} failed: {fault}", command.name()))
    }

    pub(super) fn progressed(&mut self, no: AttemptNo, percent: Option<u8>, text: &str) -> Receipt {
        let at = self.at;
        let Some(attempt) = self.attempt_mut(no) else { return late() };
        attempt.progress =
            Some(Progress { percent: percent.map(|percent| percent.min(100)), text: text.to_owned(), at });
        accepted("progress noted")
    }

    pub(super) fn egress_refused(&mut self, no: AttemptNo, refusal: &Refusal) -> Receipt {
        let Some(attempt) = self.attempt_mut(no) else { return late() };
        let known = |earlier: &Refusal| earlier.host == refusal.host && earlier.port == refusal.port;
        if attempt.refusals.len() < REFUSALS && !attempt.refusals.iter().any(known) {
            attempt.refusals.push(refusal.clone());
        }
        accepted(format!("blocked: {}", refusal.host))
    }

    pub(super) fn comments_delivered(&mut self, no: AttemptNo, turn: TurnNo, round: u32, ids: &[CommentId]) -> Receipt {
        if self.task.attempt(no).is_none() {
            return late();
        }
        self.mark_delivered(Delivery { attempt: no, turn, round }, ids);
        accepted(format!("delivered at turn {turn}, round {round}"))
    }

    pub(super) fn mark_delivered(&mut self, delivery: Delivery, ids: &[CommentId]) {
        for comment in self.task.comments.iter_mut().filter(|comment| ids.contains(&comment.id)) {
            if !comment.delivered.iter().any(|earlier| earlier.attempt == delivery.attempt) {
                comment.delivered.push(delivery);
            }
        }
        let last = ids.iter().map(|id| id.0).max().unwrap_or(0);
        if let Some(attempt) = self.attempt_mut(delivery.attempt) {
            attempt.heard = attempt.heard.max(last);
        }
    }

    /// Comments the attempt's agent has not read, in order.
    fn unheard(&self, no: AttemptNo) -> Vec<(CommentId, String)> {
        let heard = self.task.attempt(no).map_or(0, |attempt| attempt.heard);
        let later = self.task.comments.iter().filter(|comment| comment.id.0 > heard);
        later.map(|comment| (comment.id, comment.text.clone())).collect()
    }

    pub(super) fn hears_something(&self, no: AttemptNo) -> bool {
        let heard = self.task.attempt(no).map_or(0, |attempt| attempt.heard);
        self.task.comments.iter().any(|comment| comment.id.0 > heard && !comment.by_hand)
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.task.status, Status::Closing { .. })
    }
}

fn with_comments(prompt: Prompt, heard: Vec<(CommentId, String)>) -> Prompt {
    match prompt {
        Prompt::Start { plan, .. } => Prompt::Start { plan, comments: heard },
        Prompt::Fix { digest, again, .. } => Prompt::Fix { digest, again, comments: heard },
        Prompt::Comments { .. } => Prompt::Comments { comments: heard },
        Prompt::Answer { question, answer, .. } => Prompt::Answer { question, answer, comments: heard },
        Prompt::Continue { why, .. } => Prompt::Continue { why, comments: heard },
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}
