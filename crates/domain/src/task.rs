//! The task: all that `step` knows of one, and nothing it could look up elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    attempt::Attempt,
    brief::Brief,
    check::{BlobId, CheckSpec, Risk},
    command::{Branch, Command},
    environment::EnvironmentUse,
    event::Fork,
    ids::{Actor, AttemptNo, CommandId, CommentId, CommitId, RequestId, TaskId, TurnNo},
    ports::{sandbox::Confinement, workspace::Origin},
    profile::Profile,
};

/// The version of the decisions in `step`. A task keeps the one it was submitted under.
pub const RULES: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub rules: u32,
    /// Sequence number of the last event applied; the submission is 1.
    pub seq: u64,
    pub submitted_at: Timestamp,
    pub submitted_by: Actor,
    pub updated_at: Timestamp,
    pub brief: Brief,
    pub origin: Origin,
    /// The model as the gateway resolved it; `None` for an agent that needs none.
    pub model: Option<String>,
    pub confinement: Confinement,
    /// The checks that judge this task: the brief's, or those detected in the base. Fixed once the first workspace is ready.
    pub checks: Vec<CheckSpec>,
    pub status: Status,
    pub attempts: Vec<Attempt>,
    pub comments: Vec<Comment>,
    /// A person asked to end the task while it could not end at once.
    pub ending: Option<Ending>,
    /// What closing does with the branch `overnight/T-12`.
    pub clean_up: Branch,
    /// Commands issued and not yet reported done or failed.
    pub in_flight: BTreeMap<CommandId, Command>,
    #[serde(with = "timer_pairs")]
    pub timers: BTreeMap<Timer, Timestamp>,
    pub last_command: u64,
    pub last_request: u32,
    /// Since when the brief's deadline has passed.
    pub overdue_since: Option<Timestamp>,
    /// Model rounds of all attempts so far, as the turns reported them.
    pub rounds: u32,
    /// What the brief's profile said at the submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Where it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// What its workspaces stand on; `None` until the first is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentUse>,
}

/// Where a task is. How it ended is an [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Status {
    /// At least one attempt is on its way (or waits for an answer or a plan's approval).
    Working,
    AwaitingReview(Review),
    Landing(Landing),
    /// Its processes are being stopped and its traces removed.
    Closing {
        outcome: Outcome,
    },
    /// `residue`: what clean-up could not remove, and why.
    Ended {
        outcome: Outcome,
        at: Timestamp,
        snapshots: Kept,
        residue: Option<String>,
    },
}

/// Whether an ended task's snapshots are still in the private store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    Kept,
    Purged,
}

/// A person's decision is wanted on what an attempt produced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub request: RequestId,
    /// The candidate; others with a head can be approved by naming that head.
    pub attempt: AttemptNo,
    /// `None`: there is nothing to approve; the attempt needs help or an end.
    pub head: Option<CommitId>,
    pub risks: Vec<Risk>,
    /// Why a person is asked for more than a signature; `None` when all went well.
    pub problem: Option<String>,
    pub since: Timestamp,
    pub reminders: u32,
}

/// An approval being carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    pub attempt: AttemptNo,
    pub head: CommitId,
    pub accepted: Vec<Risk>,
    pub approved_by: Actor,
    pub approved_at: Timestamp,
    pub stage: LandingStage,
    /// How often the target moved under this landing.
    pub moves: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LandingStage {
    Merging {
        command: CommandId,
    },
    /// The target moved; the clean merge with it is being checked.
    Rechecking {
        command: CommandId,
        combined: CommitId,
    },
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Outcome {
    /// `hint` is the line that merges it, where the target itself was left alone.
    Landed {
        on: String,
        commit: CommitId,
        by: Actor,
        hint: Option<String>,
    },
    Reported {
        attempt: AttemptNo,
        report: BlobId,
    },
    Rejected {
        by: Actor,
        why: Option<String>,
    },
    Failed {
        why: String,
    },
    Canceled {
        by: Actor,
        why: Option<String>,
    },
    NothingToDo {
        summary: String,
    },
}

impl Outcome {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Landed { .. } => "landed",
            Self::Reported { .. } => "reported",
            Self::Rejected { .. } => "rejected",
            Self::Failed { .. } => "failed",
            Self::Canceled { .. } => "canceled",
            Self::NothingToDo { .. } => "nothing_to_do",
        }
    }
}

/// How a person asked a task to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub kind: EndingKind,
    pub by: Actor,
    pub why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndingKind {
    Reject,
    Cancel,
}

impl Ending {
    pub fn outcome(&self) -> Outcome {
        match self.kind {
            EndingKind::Reject => Outcome::Rejected { by: self.by.clone(), why: self.why.clone() },
            EndingKind::Cancel => Outcome::Canceled { by: self.by.clone(), why: self.why.clone() },
        }
    }
}

/// What a person said about a task, outside of answers and decisions. An attempt hears comments in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    pub id: CommentId,
    pub at: Timestamp,
    pub by: Actor,
    pub text: String,
    /// Says what a person did by hand: an agent reads it with its next turn, but it opens none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Where agents have read it. Empty: it waits, or (on an ended task) was kept as a remark.
    pub delivered: Vec<Delivery>,
}

/// An agent has read a comment: as part of the prompt that opened the turn (round 0), or before this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub attempt: AttemptNo,
    pub turn: TurnNo,
    pub round: u32,
}

/// What a task can be waiting for the clock to say. A timer that fires is removed before `step` handles it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "of")]
pub enum Timer {
    /// A command has taken too long.
    Command(CommandId),
    /// A person has not decided: remind.
    Person(RequestId),
    /// An attempt rests before it is tried again.
    Rest(AttemptNo),
    /// The brief's deadline.
    Deadline,
    /// Closing took too long.
    Closing,
    /// The snapshots of an ended task are to be forgotten.
    Purge,
}

impl Timer {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Person(_) => "person",
            Self::Rest(_) => "rest",
            Self::Deadline => "deadline",
            Self::Closing => "closing",
            Self::Purge => "purge",
        }
    }
}

impl Task {
    pub fn attempt(&self, no: AttemptNo) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.no == no)
    }

    /// When the earliest timer fires.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.values().min().copied()
    }

    /// Which agent and model work: the brief's own (0), or the fallback of this number.
    pub fn choice(&self, number: u32) -> (&str, Option<&str>) {
        let (agent, model) = (self.brief.agent.name.as_str(), self.model.as_deref());
        let fallback = number.checked_sub(1).and_then(|at| self.brief.fallbacks.get(at as usize));
        fallback.map_or((agent, model), |fallback| {
            (fallback.agent.as_deref().unwrap_or(agent), fallback.model.as_deref().or(model))
        })
    }

    /// Rounds that one turn may have of `most`: its profile may bound each.
    pub fn rounds_of_a_turn(&self, most: u32) -> u32 {
        self.profile.as_ref().and_then(|profile| profile.max_rounds).map_or(most, |bound| bound.min(most))
    }

    pub fn is_ended(&self) -> bool {
        matches!(self.status, Status::Ended { .. })
    }
}

/// Timers as a list of pairs: JSON has no structured keys.
mod timer_pairs {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Timer;

    pub fn serialize<S: Serializer>(timers: &BTreeMap<Timer, Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(timers)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Timer, Timestamp>, D::Error> {
        Ok(Vec::<(Timer, Timestamp)>::deserialize(deserializer)?.into_iter().collect())
    }
}
