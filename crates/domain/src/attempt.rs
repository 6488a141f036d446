//! One try at a task: one workspace, one session, one conclusion.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    check::{BlobId, Judged},
    ids::{AttemptNo, CommandId, RequestId, TurnNo},
    ports::{
        agent::{Mode, Prompt, TurnEnd},
        workspace::Snapshot,
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub no: AttemptNo,
    pub status: AttemptStatus,
    /// Turns started so far.
    pub turns: u32,
    /// Times red checks went back to the agent since a person last spoke.
    pub corrections: u32,
    /// Times a failed turn was tried again since one last ended well.
    pub restarts: u32,
    pub plan: Option<String>,
    /// The last snapshot, checked or not.
    pub snapshot: Option<Snapshot>,
    /// What the checks said of `snapshot`; `None` when it was not checked.
    pub judged: Option<Judged>,
    /// Fingerprint of the last red verdict.
    pub last_failure: Option<String>,
    /// The id of the last comment this attempt's agent has read.
    pub heard: u32,
    /// The whole text of a report turn.
    pub report: Option<BlobId>,
    /// The agent's own last words.
    pub summary: Option<String>,
    pub progress: Option<Progress>,
    /// Seconds of turns and checks so far; waiting for people does not count.
    pub worked_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub percent: Option<u8>,
    pub text: String,
    pub at: Timestamp,
}

/// Where an attempt is. Every state but the settled ones has a command in flight or a timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AttemptStatus {
    /// Its workspace is made or rebuilt; then the turn in `next` starts.
    Preparing {
        command: CommandId,
        next: NextTurn,
    },
    Turning {
        command: CommandId,
        turn: TurnNo,
        mode: Mode,
        since: Timestamp,
        stopping: Stopping,
    },
    /// `cut`: why no further turn may follow (budget, rounds, time).
    Snapshotting {
        command: CommandId,
        turn: TurnNo,
        mode: Mode,
        end: TurnEnd,
        cut: Option<String>,
    },
    Checking {
        command: CommandId,
        since: Timestamp,
        cut: Option<String>,
    },
    AwaitingAnswer {
        request: RequestId,
        question: String,
        choices: Vec<String>,
        since: Timestamp,
        reminders: u32,
    },
    AwaitingPlan {
        request: RequestId,
        plan: String,
        since: Timestamp,
        reminders: u32,
    },
    /// A failed turn is tried again when the rest is over.
    Resting {
        why: String,
    },
    /// Done and checked: a candidate for review.
    Ready,
    /// Needs a person: `why` says what for.
    HandedBack {
        why: String,
    },
    /// Ended without anything to decide about.
    Concluded {
        conclusion: Conclusion,
    },
}

/// The turn that waits for a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextTurn {
    pub mode: Mode,
    pub prompt: Prompt,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Stopping {
    No,
    /// An interrupt is under way, and why.
    Asked {
        why: String,
    },
}

/// How an attempt ended that leaves nothing to decide about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Conclusion {
    NothingToDo {
        summary: String,
    },
    Reported {
        report: BlobId,
    },
    Failed {
        why: String,
    },
    /// Stopped because the task ends.
    Stopped,
}

impl AttemptStatus {
    /// Whether nothing more happens by itself.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Ready | Self::HandedBack { .. } | Self::Concluded { .. } => true,
            Self::Preparing { .. }
            | Self::Turning { .. }
            | Self::Snapshotting { .. }
            | Self::Checking { .. }
            | Self::AwaitingAnswer { .. }
            | Self::AwaitingPlan { .. }
            | Self::Resting { .. } => false,
        }
    }

    /// The command this state waits for.
    pub fn command(&self) -> Option<CommandId> {
        match self {
            Self::Preparing { command, .. }
            | Self::Turning { command, .. }
            | Self::Snapshotting { command, .. }
            | Self::Checking { command, .. } => Some(*command),
            Self::AwaitingAnswer { .. }
            | Self::AwaitingPlan { .. }
            | Self::Resting { .. }
            | Self::Ready
            | Self::HandedBack { .. }
            | Self::Concluded { .. } => None,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Preparing { .. } => "preparing",
            Self::Turning { .. } => "turning",
            Self::Snapshotting { .. } => "snapshotting",
            Self::Checking { .. } => "checking",
            Self::AwaitingAnswer { .. } => "awaiting_answer",
            Self::AwaitingPlan { .. } => "awaiting_plan",
            Self::Resting { .. } => "resting",
            Self::Ready => "ready",
            Self::HandedBack { .. } => "handed_back",
            Self::Concluded { .. } => "concluded",
        }
    }
}
