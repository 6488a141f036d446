//! What a task waits for: the proof that no state is without an owner and a deadline.

use jiff::Timestamp;

use crate::{
    attempt::AttemptStatus,
    ids::{CommandId, RequestId},
    task::{Kept, Landing, LandingStage, Status, Task, Timer},
};

/// Who has to move next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The performer of this command.
    Command(CommandId),
    /// A person, who is reminded at the deadline.
    Person(RequestId),
    /// The clock alone.
    Clock,
}

/// One thing a task waits for. `deadline: None` is a hole in the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub owner: Owner,
    pub deadline: Option<Timestamp>,
}

impl Task {
    /// Everything this task waits for; empty only for an ended task whose snapshots are gone.
    pub fn waits(&self) -> Vec<Wait> {
        match &self.status {
            Status::Working => {
                self.attempts.iter().filter_map(|attempt| self.attempt_wait(attempt.no, &attempt.status)).collect()
            }
            Status::AwaitingReview(review) => vec![self.person(review.request)],
            Status::Landing(Landing { stage, .. }) => match stage {
                LandingStage::Merging { command } | LandingStage::Rechecking { command, .. } => {
                    vec![self.command(*command)]
                }
            },
            Status::Closing { .. } => vec![self.clock(Timer::Closing)],
            Status::Ended { snapshots: Kept::Purged, .. } => Vec::new(),
            Status::Ended { snapshots: Kept::Kept, .. } => match self.in_flight.keys().next() {
                Some(purge) => vec![self.command(*purge)],
                None => vec![self.clock(Timer::Purge)],
            },
        }
    }

    fn attempt_wait(&self, no: crate::ids::AttemptNo, status: &AttemptStatus) -> Option<Wait> {
        match status {
            AttemptStatus::Preparing { command, .. }
            | AttemptStatus::Turning { command, .. }
            | AttemptStatus::Snapshotting { command, .. }
            | AttemptStatus::Checking { command, .. } => Some(self.command(*command)),
            AttemptStatus::AwaitingAnswer { request, .. } | AttemptStatus::AwaitingPlan { request, .. } => {
                Some(self.person(*request))
            }
            AttemptStatus::Resting { .. } => Some(self.clock(Timer::Rest(no))),
            AttemptStatus::Ready | AttemptStatus::HandedBack { .. } | AttemptStatus::Concluded { .. } => None,
        }
    }

    fn command(&self, id: CommandId) -> Wait {
        let in_flight = self.in_flight.contains_key(&id);
        let deadline = self.timers.get(&Timer::Command(id)).copied().filter(|_| in_flight);
        Wait { owner: Owner::Command(id), deadline }
    }

    fn person(&self, request: RequestId) -> Wait {
        Wait { owner: Owner::Person(request), deadline: self.timers.get(&Timer::Person(request)).copied() }
    }

    fn clock(&self, timer: Timer) -> Wait {
        Wait { owner: Owner::Clock, deadline: self.timers.get(&timer).copied() }
    }
}
