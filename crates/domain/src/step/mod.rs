//! The one function that decides. [`open`] makes a task of its submission; [`step`] takes every later event.
//!
//! Total: every event in every state has an answer, and nothing a person said is dropped. An event that changes nothing is either
//! *refused* (a person's: told why) or *late* (a completion that nothing waits for any more). Every state that is not final waits
//! for something with a deadline and an owner; [`Task::waits`](crate::task::Task) lists them, and the property tests hold it to that.
//!
//! The way of one event: the match below → the file of its topic → [`Stepper::settle`], which looks at the task as a whole.

mod attempts;
mod closing;
mod landing;
mod people;
mod review;
mod timers;

use jiff::{SignedDuration, Timestamp};

use crate::{
    Fault,
    attempt::{Attempt, AttemptStatus, NextTurn},
    command::{Branch, Command},
    event::{Envelope, Event, Receipt, Submission},
    ids::{Actor, AttemptNo, CommandId, RequestId, TaskId},
    ports::agent::{Mode, Prompt},
    task::{RULES, Status, Task, Timer},
};

/// What an event came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be performed, in this order.
    pub issued: Vec<(CommandId, Command)>,
    /// No longer to be performed.
    pub retired: Vec<CommandId>,
    pub receipt: Receipt,
}

/// A submission's first state. The envelope must hold `Event::Submitted`; its sequence number is 1.
pub fn open(id: TaskId, envelope: &Envelope, submission: &Submission) -> (Task, Decision) {
    let brief = submission.brief.clone();
    let attempts = (1..=brief.attempts.clamp(1, 16)).map(|no| new_attempt(AttemptNo(no))).collect();
    let mut task = Task {
        id,
        rules: RULES,
        seq: envelope.seq,
        submitted_at: envelope.at,
        submitted_by: envelope.actor.clone(),
        updated_at: envelope.at,
        checks: brief.checks.clone(),
        origin: submission.origin.clone(),
        model: submission.model.clone(),
        confinement: submission.confinement,
        status: Status::Working,
        attempts,
        comments: Vec::new(),
        ending: None,
        clean_up: Branch::Remove,
        in_flight: Default::default(),
        timers: Default::default(),
        last_command: 0,
        last_request: 0,
        overdue_since: None,
        rounds: 0,
        environment: None,
        profile: submission.profile.clone(),
        fork: submission.fork.clone(),
        brief,
    };
    if let Some(deadline) = task.brief.deadline {
        task.timers.insert(Timer::Deadline, deadline);
    }
    let mut stepper = Stepper::new(&mut task, envelope);
    let prompt = match &submission.fork {
        Some(fork) => stepper.take_up(fork),
        None => Prompt::Start { plan: None, comments: Vec::new() },
    };
    let first = NextTurn { mode: stepper.first_mode(), prompt };
    for no in stepper.attempt_numbers() {
        stepper.begin_turn(no, first.clone());
    }
    let decision = stepper.finish(accepted(format!("{id} submitted")));
    (task, decision)
}

/// Applies one event. `envelope.seq` is the task's sequence number plus one.
pub fn step(task: &mut Task, envelope: &Envelope) -> Decision {
    task.seq = envelope.seq;
    task.updated_at = envelope.at;
    let mut stepper = Stepper::new(task, envelope);
    let receipt = stepper.apply(&envelope.event);
    stepper.settle();
    stepper.finish(receipt)
}

fn new_attempt(no: AttemptNo) -> Attempt {
    Attempt {
        no,
        // Replaced before anyone sees it: `open` begins every attempt's first turn.
        status: AttemptStatus::Resting { why: String::new() },
        turns: 0,
        corrections: 0,
        restarts: 0,
        stalls: 0,
        holds: 0,
        choice: 0,
        spoiled: false,
        fresh: false,
        void: Vec::new(),
        plan: None,
        snapshot: None,
        judged: None,
        last_failure: None,
        heard: 0,
        report: None,
        summary: None,
        progress: None,
        worked_s: 0,
        refusals: Vec::new(),
    }
}

fn accepted(note: impl Into<String>) -> Receipt {
    Receipt::Accepted { note: note.into() }
}

fn refused(fault: Fault) -> Receipt {
    Receipt::Refused { fault }
}

/// A completion that nothing waits for.
fn late() -> Receipt {
    accepted("late: nothing waits for it")
}

/// One event on its way through the task.
struct Stepper<'a> {
    task: &'a mut Task,
    at: Timestamp,
    actor: &'a Actor,
    issued: Vec<(CommandId, Command)>,
    retired: Vec<CommandId>,
}

impl<'a> Stepper<'a> {
    fn new(task: &'a mut Task, envelope: &'a Envelope) -> Self {
        Self { task, at: envelope.at, actor: &envelope.actor, issued: Vec::new(), retired: Vec::new() }
    }

    fn finish(self, receipt: Receipt) -> Decision {
        Decision { issued: self.issued, retired: self.retired, receipt }
    }

    fn apply(&mut self, event: &Event) -> Receipt {
        match event {
            Event::Submitted(_) => refused(Fault::conflict(format!("{} was submitted before", self.task.id))),
            Event::WorkspaceReady { command, detected, environment } => {
                self.workspace_ready(*command, detected, environment.as_ref())
            }
            Event::TurnEnded { command, end, report } => self.turn_ended(*command, end, report.as_ref()),
            Event::SnapshotTaken { command, snapshot } => self.snapshot_taken(*command, snapshot),
            Event::ChecksRan { command, judged } => self.checks_ran(*command, judged),
            Event::LandingDone { command, landing } => self.landing_done(*command, landing),
            Event::Done { command } => self.done(*command),
            Event::CommandFailed { command, fault } => self.command_failed(*command, fault),
            Event::CommentsDelivered { attempt, turn, round, comments } => {
                self.comments_delivered(*attempt, *turn, *round, comments)
            }
            Event::Progressed { attempt, percent, text, .. } => self.progressed(*attempt, *percent, text),
            Event::EgressRefused { attempt, refusal } => self.egress_refused(*attempt, refusal),
            Event::TimerFired { timer } => self.timer_fired(timer),
            Event::CommentAdded { text, by_hand: false } => self.comment_added(text),
            Event::CommentAdded { text, by_hand: true } => self.noted_by_hand(text),
            Event::QuestionAnswered { request, answer } => self.question_answered(*request, answer),
            Event::PlanApproved { request } => self.plan_approved(*request),
            Event::PlanRefined { request, text } => self.plan_refined(*request, text),
            Event::Approved { head, accept } => self.approved(head, accept),
            Event::Rejected { why } => self.asked_to_end(crate::task::EndingKind::Reject, why.as_deref()),
            Event::CancelRequested { why } => self.asked_to_end(crate::task::EndingKind::Cancel, why.as_deref()),
            Event::WorkedByHand { attempt, from, snapshot, note } => {
                self.worked_by_hand(*attempt, from, snapshot, note)
            }
            Event::Rewound { attempt, turn, snapshot, text } => {
                self.rewound(*attempt, *turn, snapshot, text.as_deref())
            }
            Event::RetryRequested => self.retry_requested(),
            Event::RestoreRequested => self.restore_requested(),
        }
    }

    /// Puts a command in flight, with its deadline as a timer.
    fn issue(&mut self, command: Command) -> CommandId {
        self.task.last_command += 1;
        let id = CommandId(self.task.last_command);
        let patience = timers::patience(self.task, &command);
        self.set_timer(Timer::Command(id), patience);
        self.task.in_flight.insert(id, command.clone());
        self.issued.push((id, command));
        id
    }

    /// Takes a command out of flight. `None`: it was not in flight, so its completion is late.
    fn retire(&mut self, id: CommandId) -> Option<Command> {
        let command = self.task.in_flight.remove(&id)?;
        self.task.timers.remove(&Timer::Command(id));
        self.retired.push(id);
        Some(command)
    }

    fn set_timer(&mut self, timer: Timer, after: SignedDuration) {
        let at = self.at.checked_add(after).unwrap_or(Timestamp::MAX);
        self.task.timers.insert(timer, at);
    }

    /// A new request to a person, with its reminder.
    fn ask_person(&mut self) -> RequestId {
        self.task.last_request += 1;
        let request = RequestId(self.task.last_request);
        self.set_timer(Timer::Person(request), timers::REMIND_AFTER);
        request
    }

    fn close_request(&mut self, request: RequestId) {
        self.task.timers.remove(&Timer::Person(request));
    }

    fn attempt_numbers(&self) -> Vec<AttemptNo> {
        self.task.attempts.iter().map(|attempt| attempt.no).collect()
    }

    fn attempt_mut(&mut self, no: AttemptNo) -> Option<&mut Attempt> {
        self.task.attempts.iter_mut().find(|attempt| attempt.no == no)
    }

    fn set_status(&mut self, no: AttemptNo, status: AttemptStatus) {
        if let Some(attempt) = self.attempt_mut(no) {
            attempt.status = status;
        }
    }

    /// The attempt that waits for this command, with its status.
    fn waiting_for(&self, command: CommandId) -> Option<(AttemptNo, AttemptStatus)> {
        self.task
            .attempts
            .iter()
            .find(|attempt| attempt.status.command() == Some(command))
            .map(|attempt| (attempt.no, attempt.status.clone()))
    }

    fn first_mode(&self) -> Mode {
        use crate::brief::{Deliverable, Planning};
        match (self.task.brief.deliverable, self.task.brief.planning) {
            (Deliverable::Report, _) => Mode::Report,
            (Deliverable::Change, Planning::ApproveFirst) => Mode::Plan,
            (Deliverable::Change, Planning::Direct) => Mode::Work,
        }
    }

    /// What the attempt's next turn is for, when it goes on after a pause.
    fn mode_of(&self, no: AttemptNo) -> Mode {
        let planned = self.task.attempt(no).is_some_and(|attempt| attempt.plan.is_some());
        match self.first_mode() {
            Mode::Plan if planned => Mode::Work,
            mode => mode,
        }
    }
}
