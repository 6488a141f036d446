//! The end of a task: everything is stopped, kept in a last snapshot, cleaned up, and only then is the outcome final.

use super::{Stepper, accepted, late, refused, timers};
use crate::{
    Fault,
    attempt::{AttemptStatus, Stopping},
    command::{Branch, Command},
    event::Receipt,
    ids::{AttemptNo, CommandId},
    task::{Ending, EndingKind, Kept, Outcome, Status, Timer},
};

/// What the end does with the branch `overnight/T-12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CleanUp {
    KeepBranch,
    RemoveBranch,
}

impl Stepper<'_> {
    pub(super) fn asked_to_end(&mut self, kind: EndingKind, why: Option<&str>) -> Receipt {
        let ending = Ending { kind, by: self.actor.clone(), why: why.map(str::to_owned) };
        let (verb, done) = match kind {
            EndingKind::Reject => ("reject", "rejected"),
            EndingKind::Cancel => ("cancel", "canceled"),
        };
        match &self.task.status {
            Status::Ended { .. } => refused(self.not_now(verb, "it has ended")),
            Status::Closing { .. } => refused(self.not_now(verb, "it is ending already")),
            Status::Landing(_) if self.task.ending.as_ref().is_some_and(|earlier| earlier.kind == kind) => {
                refused(self.not_now(verb, "that was asked for already, and waits for the landing"))
            }
            Status::Landing(_) => {
                self.task.ending = Some(ending);
                accepted(format!("kept: if the landing fails, the task is {done}"))
            }
            Status::AwaitingReview(_) | Status::Working => {
                self.close(ending.outcome(), CleanUp::RemoveBranch);
                accepted(format!("the task is being {done}"))
            }
        }
    }

    /// Starts closing. The outcome is final once everything has stopped and is cleaned up.
    pub(super) fn close(&mut self, outcome: Outcome, clean_up: CleanUp) {
        self.task.timers.retain(|timer, _| match timer {
            Timer::Command(_) => true,
            Timer::Person(_) | Timer::Rest(_) | Timer::Deadline | Timer::Closing | Timer::Purge => false,
        });
        self.set_timer(Timer::Closing, timers::CLOSE_AT_MOST);
        self.task.ending = None;
        self.task.status = Status::Closing { outcome };
        for no in self.attempt_numbers() {
            self.ask_to_stop(no);
        }
        let branch = match clean_up {
            CleanUp::KeepBranch => Branch::Keep,
            CleanUp::RemoveBranch => Branch::Remove,
        };
        self.task.clean_up = branch;
        self.advance_closing();
    }

    fn ask_to_stop(&mut self, no: AttemptNo) {
        let Some(status) = self.task.attempt(no).map(|attempt| attempt.status.clone()) else { return };
        match status {
            AttemptStatus::Turning { command, turn, mode, since, .. } => {
                self.issue(Command::Interrupt { attempt: no });
                let stopping = Stopping::Asked { why: "the task is ending".to_owned() };
                self.set_status(no, AttemptStatus::Turning { command, turn, mode, since, stopping });
            }
            AttemptStatus::Preparing { .. } | AttemptStatus::Checking { .. } => {
                self.issue(Command::Interrupt { attempt: no });
            }
            AttemptStatus::AwaitingAnswer { .. }
            | AttemptStatus::AwaitingPlan { .. }
            | AttemptStatus::Resting { .. } => {
                self.stop_attempt(no);
            }
            AttemptStatus::Snapshotting { .. }
            | AttemptStatus::Ready
            | AttemptStatus::HandedBack { .. }
            | AttemptStatus::Concluded { .. } => {}
        }
    }

    /// Cleans up once every attempt has stopped.
    pub(super) fn advance_closing(&mut self) {
        let stopped = self.task.attempts.iter().all(|attempt| attempt.status.is_settled());
        if stopped && self.cleaning().is_none() {
            let branch = self.task.clean_up;
            self.issue(Command::CleanUp { branch });
        }
    }

    fn cleaning(&self) -> Option<CommandId> {
        self.task.in_flight.iter().find_map(|(id, command)| match command {
            Command::CleanUp { .. } => Some(*id),
            Command::PrepareWorkspace { .. }
            | Command::StartTurn { .. }
            | Command::Interrupt { .. }
            | Command::DeliverComment { .. }
            | Command::TakeSnapshot { .. }
            | Command::RunChecks { .. }
            | Command::Land { .. }
            | Command::ReleaseWorkspace { .. }
            | Command::Purge => None,
        })
    }

    pub(super) fn closing_took_too_long(&mut self) -> Receipt {
        if !self.is_closing() {
            return late();
        }
        for no in self.attempt_numbers() {
            if self.task.attempt(no).is_some_and(|attempt| !attempt.status.is_settled()) {
                self.stop_attempt(no);
            }
        }
        match self.cleaning() {
            Some(_) => self.end(Some("clean-up did not come to an end".to_owned())),
            None => self.set_timer(Timer::Closing, timers::CLOSE_AT_MOST),
        }
        accepted("closing took too long: what still runs is given up")
    }

    fn end(&mut self, residue: Option<String>) {
        let Status::Closing { outcome } = &self.task.status else { return };
        let outcome = outcome.clone();
        for id in self.task.in_flight.keys().copied().collect::<Vec<_>>() {
            self.retire(id);
        }
        self.task.timers.clear();
        self.set_timer(Timer::Purge, timers::KEEP_FOR);
        self.task.status = Status::Ended { outcome, at: self.at, snapshots: Kept::Kept, residue };
    }

    /// A command that nothing waits for by name has been carried out.
    pub(super) fn done(&mut self, id: CommandId) -> Receipt {
        match self.retire(id) {
            None => late(),
            Some(Command::CleanUp { .. }) => {
                self.end(None);
                accepted("cleaned up")
            }
            Some(Command::Purge) => {
                if let Status::Ended { snapshots, .. } = &mut self.task.status {
                    *snapshots = Kept::Purged;
                }
                accepted("the snapshots are forgotten")
            }
            Some(
                Command::Interrupt { .. }
                | Command::DeliverComment { .. }
                | Command::ReleaseWorkspace { .. }
                | Command::PrepareWorkspace { .. }
                | Command::StartTurn { .. }
                | Command::TakeSnapshot { .. }
                | Command::RunChecks { .. }
                | Command::Land { .. },
            ) => accepted("done"),
        }
    }

    /// A command that no attempt waits for has failed.
    pub(super) fn background_command_failed(&mut self, id: CommandId, command: &Command, fault: &Fault) -> Receipt {
        match command {
            Command::Land { .. } | Command::RunChecks { .. } => self.landing_failed(fault),
            Command::CleanUp { .. } => self.end(Some(fault.to_string())),
            // Tried again in a day, for as long as it takes.
            Command::Purge => self.set_timer(Timer::Purge, timers::REMIND_AFTER),
            Command::PrepareWorkspace { .. }
            | Command::StartTurn { .. }
            | Command::Interrupt { .. }
            | Command::DeliverComment { .. }
            | Command::TakeSnapshot { .. }
            | Command::ReleaseWorkspace { .. } => {}
        }
        accepted(format!("{} {id} failed: {fault}", command.name()))
    }
}
