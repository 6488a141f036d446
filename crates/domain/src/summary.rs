//! The projection of a task that lists, the inbox and `--wait` read. Made from the state alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    check::{Risk, Verdict},
    ids::{AttemptNo, CommitId, RequestId, TaskId},
    task::Outcome,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub id: TaskId,
    pub title: String,
    pub repository: String,
    pub agent: String,
    pub model: Option<String>,
    /// `working`, `needs_you`, `landing`, `closing` or `ended`.
    pub phase: Phase,
    /// The first unsettled attempt's state in one word, else the outcome's word.
    pub detail: String,
    pub progress: Option<String>,
    pub percent: Option<u8>,
    /// What is wanted of a person; empty when nothing is.
    pub needs: Vec<Need>,
    pub overdue_since: Option<Timestamp>,
    pub outcome: Option<Outcome>,
    pub head: Option<CommitId>,
    pub verdict: Option<Verdict>,
    pub submitted_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Working,
    NeedsYou,
    Landing,
    Closing,
    Ended,
}

impl Phase {
    pub fn word(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::NeedsYou => "needs_you",
            Self::Landing => "landing",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}

/// One decision wanted of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub request: RequestId,
    pub attempt: AttemptNo,
    pub since: Timestamp,
    pub reminders: u32,
    #[serde(flatten)]
    pub wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "wanted")]
pub enum Wanted {
    Answer {
        question: String,
        choices: Vec<String>,
    },
    Plan {
        plan: String,
    },
    Review {
        head: CommitId,
        verdict: Option<Verdict>,
        risks: Vec<Risk>,
        problem: Option<String>,
    },
    /// Nothing to approve: the attempt needs help (comment, retry) or an end (reject).
    Help {
        problem: String,
    },
}
