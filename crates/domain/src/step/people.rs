//! What people say: comments are buffered until an agent can hear them, answers name their request, and whatever comes too late is
//! refused visibly.

use super::{Stepper, accepted, late, refused};
use crate::{
    Fault,
    attempt::{AskedFor, Attempt, AttemptStatus, NextTurn, Stopping},
    command::Command,
    event::{Fork, Receipt},
    ids::{AttemptNo, CommentId, CommitId, RequestId, TurnNo},
    ports::{
        agent::{Mode, Prompt},
        workspace::Snapshot,
    },
    task::{Comment, Kept, Outcome, Status, Timer},
};

impl Stepper<'_> {
    pub(super) fn comment_added(&mut self, text: &str) -> Receipt {
        if text.trim().is_empty() {
            return refused(Fault::input("the comment is empty"));
        }
        match &self.task.status {
            Status::Closing { .. } | Status::Ended { .. } => {
                let hint = format!("start over with `overnight retry {}`", self.task.id);
                refused(self.not_now("comment on", "it has ended").hint(hint))
            }
            Status::Landing(_) => {
                self.record_comment(text);
                accepted("kept: the change is landing; the agent hears it only if the landing fails")
            }
            Status::AwaitingReview(review) => {
                let (request, no) = (review.request, review.attempt);
                self.record_comment(text);
                self.close_request(request);
                self.resume(no, Prompt::Comments { comments: Vec::new() });
                accepted(format!("delivered with the next turn of attempt {no}"))
            }
            Status::Working => {
                let comment = self.record_comment(text);
                let notes: Vec<String> =
                    self.attempt_numbers().into_iter().filter_map(|no| self.hear(no, comment, text)).collect();
                accepted(notes.first().cloned().unwrap_or_else(|| "kept for the next turn".to_owned()))
            }
        }
    }

    /// What a person did in the sandbox of a running turn: its agent hears of it, and no turn is opened for it.
    pub(super) fn noted_by_hand(&mut self, text: &str) -> Receipt {
        match &self.task.status {
            Status::Closing { .. } | Status::Ended { .. } => refused(self.not_now("note on", "it has ended")),
            Status::Landing(_) | Status::AwaitingReview(_) | Status::Working => {
                let comment = self.record(text, true);
                for no in self.attempt_numbers() {
                    if let Some(AttemptStatus::Turning { stopping: Stopping::No, .. }) =
                        self.task.attempt(no).map(|attempt| &attempt.status)
                    {
                        self.issue(Command::DeliverComment { attempt: no, comment, text: text.to_owned() });
                    }
                }
                accepted("noted for the agent")
            }
        }
    }

    /// A person's own work on a settled attempt becomes its head, and is judged as the agent's would be.
    pub(super) fn worked_by_hand(
        &mut self,
        no: AttemptNo,
        from: &CommitId,
        snapshot: &Snapshot,
        note: &str,
    ) -> Receipt {
        let refused = |fault: Fault| refused(fault.hint(format!("your work is kept as {}", snapshot.commit)));
        let Status::AwaitingReview(review) = &self.task.status else {
            return refused(self.not_now("work by hand on", "it is not waiting for a review"));
        };
        let request = review.request;
        let Some(attempt) = self.task.attempt(no).filter(|attempt| attempt.status.is_decidable()) else {
            return refused(Fault::conflict(format!(
                "attempt {no} of {} is not open to a person's work",
                self.task.id
            )));
        };
        let at = attempt.snapshot.as_ref().map_or(&self.task.origin.base, |last| &last.commit);
        if at != from {
            return refused(Fault::conflict(format!(
                "attempt {no} of {} has moved on from {}",
                self.task.id,
                from.short()
            )));
        }
        self.close_request(request);
        self.record(note, true);
        let Some(attempt) = self.attempt_mut(no) else { return late() };
        attempt.snapshot = Some(snapshot.clone());
        attempt.judged = None;
        attempt.start_over();
        self.task.status = Status::Working;
        self.run_checks(no, snapshot, None);
        accepted(format!("your work is attempt {no}'s head now; its checks run"))
    }

    /// What a fork's attempts begin with.
    pub(super) fn take_up(&mut self, fork: &Fork) -> Prompt {
        for attempt in &mut self.task.attempts {
            attempt.snapshot = Some(fork.snapshot.clone());
            attempt.turns = fork.turn.0;
        }
        if !fork.text.trim().is_empty() {
            self.record_comment(&fork.text);
            return Prompt::Comments { comments: Vec::new() };
        }
        Prompt::Continue {
            why: format!("it was forked from {} after turn {}", fork.from, fork.turn),
            comments: Vec::new(),
        }
    }

    /// Takes an attempt back to what one of its turns left.
    pub(super) fn rewound(&mut self, no: AttemptNo, turn: TurnNo, snapshot: &Snapshot, text: Option<&str>) -> Receipt {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        let review = match &self.task.status {
            Status::AwaitingReview(review) => Some(review.request),
            Status::Working => None,
            Status::Landing(_) | Status::Closing { .. } | Status::Ended { .. } => {
                return refused(self.not_now("rewind", "it is landing or has ended"));
            }
        };
        let Some(attempt) = self.task.attempt(no).filter(|attempt| attempt.status.command().is_none()) else {
            let hint = format!("wait for attempt {no} to pause, or `overnight fork {}` from that turn", self.task.id);
            return refused(self.not_now("rewind", "that attempt is being worked on").hint(hint));
        };
        if turn.0 >= attempt.turns || attempt.is_void(turn) {
            return refused(Fault::input(format!("attempt {no} of {} cannot go back to turn {turn}", self.task.id)));
        }
        if snapshot.empty && text.is_none() {
            return refused(
                Fault::input(format!("nothing was changed yet after turn {turn}: there is nothing to check"))
                    .hint("say with `-m` what to do from there"),
            );
        }
        let asked = attempt.status.asked().map(|asked| asked.request);
        for request in asked.into_iter().chain(review) {
            self.close_request(request);
        }
        self.task.timers.remove(&Timer::Rest(no));
        self.task.status = Status::Working;
        let Some(attempt) = self.attempt_mut(no) else { return late() };
        attempt.take_back(turn, snapshot);
        match text {
            Some(text) => {
                self.record_comment(text);
                self.resume(no, Prompt::Comments { comments: Vec::new() });
            }
            None => self.run_checks(no, snapshot, None),
        }
        accepted(format!("attempt {no} is back where turn {turn} left it"))
    }

    /// Nobody answered in time, and the agent said what to take then. `None`: it did not.
    pub(super) fn answer_by_default(&mut self, request: RequestId) -> Option<Receipt> {
        let default = match self.asked(request)? {
            (_, AskedFor::Answer { default, .. }) => default?.to_owned(),
            (_, AskedFor::PlanApproval { .. }) => return None,
        };
        let answer = format!("{default}\n(Nobody answered in time: this is the default you gave.)");
        Some(self.question_answered(request, &answer))
    }

    fn record_comment(&mut self, text: &str) -> CommentId {
        self.record(text, false)
    }

    fn record(&mut self, text: &str, by_hand: bool) -> CommentId {
        let id = CommentId(u32::try_from(self.task.comments.len()).unwrap_or(u32::MAX - 1) + 1);
        let (at, by) = (self.at, self.actor.clone());
        self.task.comments.push(Comment { id, at, by, text: text.to_owned(), by_hand, delivered: Vec::new() });
        id
    }

    /// Brings a comment to one attempt of a working task. Returns what that means for its author.
    fn hear(&mut self, no: AttemptNo, comment: CommentId, text: &str) -> Option<String> {
        match &self.task.attempt(no)?.status {
            AttemptStatus::Turning { turn, stopping: Stopping::No, .. } => {
                let turn = *turn;
                self.issue(Command::DeliverComment { attempt: no, comment, text: text.to_owned() });
                Some(format!("delivered at the next safe point of turn {turn}"))
            }
            AttemptStatus::AwaitingPlan { request, .. } => {
                let request = *request;
                self.close_request(request);
                self.begin_turn(no, NextTurn { mode: Mode::Plan, prompt: Prompt::Comments { comments: Vec::new() } });
                Some("the plan is being refined".to_owned())
            }
            AttemptStatus::AwaitingAnswer { .. } => Some("kept: goes with the answer to the open question".to_owned()),
            AttemptStatus::Preparing { .. }
            | AttemptStatus::Turning { stopping: Stopping::Asked { .. }, .. }
            | AttemptStatus::Snapshotting { .. }
            | AttemptStatus::Checking { .. }
            | AttemptStatus::Resting { .. } => Some("kept for the next turn".to_owned()),
            // Settled beside others that still work: it hears the comment if a person chooses it.
            AttemptStatus::Ready | AttemptStatus::HandedBack { .. } | AttemptStatus::Concluded { .. } => None,
        }
    }

    /// Sends a settled attempt on, after a person spoke.
    pub(super) fn resume(&mut self, no: AttemptNo, prompt: Prompt) {
        if let Some(attempt) = self.attempt_mut(no) {
            attempt.start_over();
        }
        self.task.status = Status::Working;
        let mode = self.mode_of(no);
        self.begin_turn(no, NextTurn { mode, prompt });
    }

    pub(super) fn question_answered(&mut self, request: RequestId, answer: &str) -> Receipt {
        let asked = self.asked(request).and_then(|(no, what)| match what {
            AskedFor::Answer { question, .. } => Some((no, question.to_owned())),
            AskedFor::PlanApproval { .. } => None,
        });
        let Some((no, question)) = asked else { return refused(self.no_such_request(request)) };
        self.close_request(request);
        let mode = self.mode_of(no);
        let prompt = Prompt::Answer { question, answer: answer.to_owned(), comments: Vec::new() };
        self.begin_turn(no, NextTurn { mode, prompt });
        accepted(format!("answered; attempt {no} goes on"))
    }

    /// The attempt in which this request is open, and what it asks for.
    fn asked(&self, request: RequestId) -> Option<(AttemptNo, AskedFor<'_>)> {
        let attempts = self.task.attempts.iter();
        let mut open = attempts.filter_map(|attempt| attempt.status.asked().map(|asked| (attempt.no, asked)));
        open.find(|(_, asked)| asked.request == request).map(|(no, asked)| (no, asked.what))
    }

    fn planned(&self, request: RequestId) -> Option<(AttemptNo, String)> {
        match self.asked(request)? {
            (no, AskedFor::PlanApproval { plan }) => Some((no, plan.to_owned())),
            (_, AskedFor::Answer { .. }) => None,
        }
    }

    pub(super) fn plan_approved(&mut self, request: RequestId) -> Receipt {
        let Some((no, plan)) = self.planned(request) else { return refused(self.no_such_request(request)) };
        self.close_request(request);
        if let Some(attempt) = self.attempt_mut(no) {
            attempt.plan = Some(plan.clone());
        }
        let prompt = Prompt::Start { plan: Some(plan), comments: Vec::new() };
        self.begin_turn(no, NextTurn { mode: Mode::Work, prompt });
        accepted("the plan is approved; the work starts")
    }

    pub(super) fn plan_refined(&mut self, request: RequestId, text: &str) -> Receipt {
        match self.planned(request) {
            Some(_) => self.comment_added(text),
            None => refused(self.no_such_request(request)),
        }
    }

    pub(super) fn retry_requested(&mut self) -> Receipt {
        let review = match &self.task.status {
            Status::AwaitingReview(review) => review.clone(),
            Status::Working => return self.rouse(),
            Status::Landing(_) => return refused(self.not_now("retry", "it is landing")),
            Status::Closing { .. } | Status::Ended { .. } => return refused(self.not_now("retry", "it has ended")),
        };
        let Some(problem) = review.problem else {
            let hint = format!("`overnight comment {} …` asks for more", self.task.id);
            return refused(self.not_now("retry", "nothing went wrong with it").hint(hint));
        };
        self.close_request(review.request);
        self.resume(review.attempt, Prompt::Continue { why: problem, comments: Vec::new() });
        accepted(format!("attempt {} goes on", review.attempt))
    }

    /// Ends the rest of attempts that wait to be tried again: a person knows that it is worth a try now.
    fn rouse(&mut self) -> Receipt {
        let resting = |attempt: &&Attempt| matches!(attempt.status, AttemptStatus::Resting { .. });
        let roused: Vec<AttemptNo> = self.task.attempts.iter().filter(resting).map(|attempt| attempt.no).collect();
        if roused.is_empty() {
            return refused(self.not_now("retry", "it is being worked on"));
        }
        for no in roused {
            self.task.timers.remove(&Timer::Rest(no));
            self.rested(no);
        }
        accepted("it rests no longer")
    }

    pub(super) fn restore_requested(&mut self) -> Receipt {
        let Status::Ended { outcome, snapshots, .. } = &self.task.status else {
            return refused(self.not_now("restore", "it has not ended"));
        };
        let ended = match (outcome, snapshots) {
            (_, Kept::Purged) => {
                return refused(self.not_now("restore", "its snapshots were kept for 30 days and are gone"));
            }
            (Outcome::Rejected { .. }, Kept::Kept) => "rejected",
            (Outcome::Canceled { .. }, Kept::Kept) => "canceled",
            (
                Outcome::Landed { .. }
                | Outcome::Reported { .. }
                | Outcome::Failed { .. }
                | Outcome::NothingToDo { .. },
                Kept::Kept,
            ) => return refused(self.not_now("restore", "it was neither rejected nor canceled")),
        };
        let why = format!("restored after it was {ended}");
        for attempt in &mut self.task.attempts {
            if let AttemptStatus::Concluded { .. } = attempt.status {
                attempt.status = AttemptStatus::HandedBack { why: why.clone() };
            }
        }
        self.task.timers.remove(&Timer::Purge);
        match self.best() {
            Some(no) => {
                self.await_review(no, Some(why));
                accepted("restored: it waits for your review")
            }
            None => refused(self.not_now("restore", "it has no attempt")),
        }
    }

    fn no_such_request(&self, request: RequestId) -> Fault {
        let id = self.task.id;
        Fault::conflict(format!("request {request} of {id} is not open (answered before, or replaced)"))
            .hint(format!("`overnight show {id}` lists what is open"))
    }
}
