//! Time: how long each wait may last, and what follows when it has lasted too long.

use jiff::{SignedDuration, Timestamp};

use super::{Stepper, accepted, late};
use crate::{
    Fault,
    attempt::{AttemptStatus, Stopping},
    command::Command,
    event::Receipt,
    ids::{AttemptNo, CommandId, RequestId},
    ports::agent::Prompt,
    task::{Kept, Status, Task, Timer},
};

/// When a person is reminded of a request for the first time; later reminders come at growing distances, at most weekly.
pub(super) const REMIND_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// How long a turn may last at most.
const TURN_AT_MOST: SignedDuration = SignedDuration::from_hours(4);
/// How long an interrupted command may take to end.
const STOP_AT_MOST: SignedDuration = SignedDuration::from_mins(10);
/// How long a closing task waits for its commands.
pub(super) const CLOSE_AT_MOST: SignedDuration = SignedDuration::from_mins(30);
/// How long the snapshots of an ended task are kept.
pub(super) const KEEP_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A check without a limit of its own.
const CHECK_AT_MOST_S: u64 = 30 * 60;

/// How long a command may be in flight.
pub(super) fn patience(task: &Task, command: &Command) -> SignedDuration {
    match command {
        Command::StartTurn { .. } => match wall_left(task) {
            Some(left) => TURN_AT_MOST.min(left),
            None => TURN_AT_MOST,
        },
        Command::RunChecks { .. } => {
            let each = task.checks.iter().map(|check| check.timeout_s.unwrap_or(CHECK_AT_MOST_S));
            let total = each.fold(0u64, u64::saturating_add).min(7 * 24 * 3600);
            // On the base and on the head, and time to wait for a free place.
            SignedDuration::from_secs(2 * total as i64) + SignedDuration::from_hours(12)
        }
        Command::Interrupt { .. } | Command::DeliverComment { .. } => SignedDuration::from_mins(10),
        // It waits for the turn's place, behind all tasks that came before.
        Command::PrepareWorkspace { .. } => SignedDuration::from_hours(7 * 24),
        Command::TakeSnapshot { .. }
        | Command::Land { .. }
        | Command::ReleaseWorkspace { .. }
        | Command::CleanUp { .. }
        | Command::Purge => SignedDuration::from_hours(12),
    }
}

/// What is left of the wall-time budget; `None` without one.
pub(super) fn wall_left(task: &Task) -> Option<SignedDuration> {
    let limit = task.brief.budget.wall_s?;
    let worked = task.attempts.iter().fold(0u64, |sum, attempt| sum.saturating_add(attempt.worked_s));
    Some(SignedDuration::from_secs(limit.saturating_sub(worked).min(i64::MAX as u64) as i64))
}

impl Task {
    /// When a timer that measures a machine's work was set; `None` for those of people and of the calendar, and for timers
    /// that are not set. A machine that slept since then has not worked for so long.
    pub fn work_since(&self, timer: &Timer) -> Option<Timestamp> {
        let due = *self.timers.get(timer)?;
        let after = match timer {
            Timer::Command(id) => {
                let turning = self.attempts.iter().find_map(|attempt| attempt.status.turning(*id));
                match turning {
                    Some((_, Stopping::Asked { .. })) => STOP_AT_MOST,
                    // Its patience depends on what was left of the budget then.
                    Some((since, Stopping::No)) => return Some(since),
                    None => patience(self, self.in_flight.get(id)?),
                }
            }
            Timer::Closing => CLOSE_AT_MOST,
            Timer::Person(_) | Timer::Rest(_) | Timer::Deadline | Timer::Purge => return None,
        };
        Some(due.checked_sub(after).unwrap_or(Timestamp::MIN))
    }
}

impl Stepper<'_> {
    pub(super) fn timer_fired(&mut self, timer: &Timer) -> Receipt {
        // A timer that was reset after it was found due is not due.
        if self.task.timers.get(timer).is_none_or(|due| *due > self.at) {
            return late();
        }
        self.task.timers.remove(timer);
        match timer {
            Timer::Command(id) => self.command_took_too_long(*id),
            Timer::Person(request) => self.remind(*request),
            Timer::Rest(no) => self.rested(*no),
            Timer::Deadline => {
                self.task.overdue_since = Some(self.at);
                accepted("the brief's deadline has passed")
            }
            Timer::Closing => self.closing_took_too_long(),
            Timer::Purge => {
                if let Status::Ended { snapshots: Kept::Kept, .. } = self.task.status {
                    self.issue(Command::Purge);
                }
                accepted("30 days have passed since the task ended")
            }
        }
    }

    fn command_took_too_long(&mut self, id: CommandId) -> Receipt {
        if let Some((no, AttemptStatus::Turning { command, turn, mode, since, stopping: Stopping::No })) =
            self.waiting_for(id)
        {
            let why = match wall_left(self.task) {
                Some(left) if left < TURN_AT_MOST => "the wall-time budget is used up".to_owned(),
                Some(_) | None => format!("the turn was still running after {} hours", TURN_AT_MOST.as_hours()),
            };
            self.issue(Command::Interrupt { attempt: no });
            self.set_timer(Timer::Command(id), STOP_AT_MOST);
            let stopping = Stopping::Asked { why };
            self.set_status(no, AttemptStatus::Turning { command, turn, mode, since, stopping });
            return accepted("the turn has run out of time and is interrupted");
        }
        let name = self.task.in_flight.get(&id).map_or("the command", Command::name);
        let fault = Fault::transient(format!("{name} did not come to an end in its time"));
        self.command_failed(id, &fault)
    }

    fn remind(&mut self, request: RequestId) -> Receipt {
        if let Some(receipt) = self.answer_by_default(request) {
            return receipt;
        }
        let reminders = match &mut self.task.status {
            Status::AwaitingReview(review) if review.request == request => {
                review.reminders = review.reminders.saturating_add(1);
                Some(review.reminders)
            }
            Status::AwaitingReview(_)
            | Status::Working
            | Status::Landing(_)
            | Status::Closing { .. }
            | Status::Ended { .. } => self.task.attempts.iter_mut().find_map(|attempt| attempt.status.remind(request)),
        };
        let Some(reminders) = reminders else { return late() };
        let distance = REMIND_AFTER * reminders.clamp(1, 7) as i32;
        self.set_timer(Timer::Person(request), distance);
        accepted("a person was reminded")
    }

    pub(super) fn rested(&mut self, no: AttemptNo) -> Receipt {
        let Some(AttemptStatus::Resting { why }) = self.task.attempt(no).map(|attempt| attempt.status.clone()) else {
            return late();
        };
        let mode = self.mode_of(no);
        self.begin_turn(no, crate::attempt::NextTurn { mode, prompt: Prompt::Continue { why, comments: Vec::new() } });
        accepted("the attempt is tried again")
    }
}
