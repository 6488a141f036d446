//! What happened: the input of `step`, in the past tense.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Fault,
    brief::Brief,
    check::{BlobId, CheckSpec, Judged, Risk},
    environment::EnvironmentUse,
    ids::{Actor, AttemptKey, AttemptNo, CommandId, CommentId, CommitId, RequestId, TurnNo, Via},
    ports::{
        agent::TurnEnd,
        egress::Refusal,
        sandbox::Confinement,
        workspace::{Landing, Origin, Snapshot},
    },
    profile::Profile,
    task::Timer,
};

/// The version of the stored form of [`Envelope`]; each older one has a golden file.
pub const EVENT_VERSION: u32 = 1;

/// An event with its place in the task's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    /// Unique within the task: the same key is the same event.
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[expect(
    clippy::large_enum_variant,
    reason = "an event is moved a few times in its life; a box would be in every pattern"
)]
pub enum Event {
    Submitted(Submission),

    // What commands came to.
    WorkspaceReady {
        command: CommandId,
        detected: Vec<CheckSpec>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentUse>,
    },
    /// `report`: for a report turn, the whole text.
    TurnEnded {
        command: CommandId,
        end: TurnEnd,
        report: Option<BlobId>,
    },
    SnapshotTaken {
        command: CommandId,
        snapshot: Snapshot,
    },
    ChecksRan {
        command: CommandId,
        judged: Judged,
    },
    LandingDone {
        command: CommandId,
        landing: Landing,
    },
    /// Of commands that nothing waits for: interrupt, deliver, release, clean up, purge.
    Done {
        command: CommandId,
    },
    /// The command was given up after bounded retries.
    CommandFailed {
        command: CommandId,
        fault: Fault,
    },

    // What running turns tell.
    CommentsDelivered {
        attempt: AttemptNo,
        turn: TurnNo,
        round: u32,
        comments: Vec<CommentId>,
    },
    Progressed {
        attempt: AttemptNo,
        turn: TurnNo,
        percent: Option<u8>,
        text: String,
    },

    /// Something in the sandbox of this attempt wanted to reach a host and was not let.
    EgressRefused {
        attempt: AttemptNo,
        refusal: Refusal,
    },

    TimerFired {
        timer: Timer,
    },

    // What people say.
    CommentAdded {
        text: String,
        /// See [`crate::task::Comment::by_hand`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_hand: bool,
    },
    QuestionAnswered {
        request: RequestId,
        answer: String,
    },
    PlanApproved {
        request: RequestId,
    },
    PlanRefined {
        request: RequestId,
        text: String,
    },
    /// `head`: the one this person last saw. `accept`: the risks named by this person.
    Approved {
        head: CommitId,
        accept: Vec<Risk>,
    },
    Rejected {
        why: Option<String>,
    },
    CancelRequested {
        why: Option<String>,
    },
    /// A person took over a settled attempt at `from` and left `snapshot`; `note` says in one line what changed.
    WorkedByHand {
        attempt: AttemptNo,
        from: CommitId,
        snapshot: Snapshot,
        note: String,
    },
    /// An attempt that does not run goes back to what `turn` left; what came after stays in its transcript, unread. `text` opens a turn
    /// there; without one, the checks run.
    Rewound {
        attempt: AttemptNo,
        turn: TurnNo,
        snapshot: Snapshot,
        text: Option<String>,
    },
    /// Try a handed-back attempt again as it is.
    RetryRequested,
    /// Bring a rejected or canceled task back for review.
    RestoreRequested,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    pub brief: Brief,
    pub origin: Origin,
    pub model: Option<String>,
    pub confinement: Confinement,
    /// What the brief's profile said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Where it goes on from; `None`: from the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
}

/// A turn of another task's attempt, whose work and conversation a new task takes up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    pub from: AttemptKey,
    /// The last turn that is taken over.
    pub turn: TurnNo,
    /// As that turn left it.
    pub snapshot: Snapshot,
    /// What is asked for now.
    pub text: String,
}

impl Event {
    /// Whether a person (or something speaking for one) said it: such an event always gets a receipt.
    pub fn is_said(&self) -> bool {
        match self {
            Self::Submitted(_)
            | Self::CommentAdded { .. }
            | Self::QuestionAnswered { .. }
            | Self::PlanApproved { .. }
            | Self::PlanRefined { .. }
            | Self::Approved { .. }
            | Self::Rejected { .. }
            | Self::CancelRequested { .. }
            | Self::WorkedByHand { .. }
            | Self::Rewound { .. }
            | Self::RetryRequested
            | Self::RestoreRequested => true,
            Self::WorkspaceReady { .. }
            | Self::TurnEnded { .. }
            | Self::SnapshotTaken { .. }
            | Self::ChecksRan { .. }
            | Self::LandingDone { .. }
            | Self::Done { .. }
            | Self::CommandFailed { .. }
            | Self::CommentsDelivered { .. }
            | Self::Progressed { .. }
            | Self::EgressRefused { .. }
            | Self::TimerFired { .. } => false,
        }
    }

    /// The name as it stands in the journal and in the picture.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Submitted(_) => "submitted",
            Self::WorkspaceReady { .. } => "workspace_ready",
            Self::TurnEnded { .. } => "turn_ended",
            Self::SnapshotTaken { .. } => "snapshot_taken",
            Self::ChecksRan { .. } => "checks_ran",
            Self::LandingDone { .. } => "landing_done",
            Self::Done { .. } => "done",
            Self::CommandFailed { .. } => "command_failed",
            Self::CommentsDelivered { .. } => "comments_delivered",
            Self::Progressed { .. } => "progressed",
            Self::EgressRefused { .. } => "egress_refused",
            Self::TimerFired { .. } => "timer_fired",
            Self::CommentAdded { .. } => "comment_added",
            Self::QuestionAnswered { .. } => "question_answered",
            Self::PlanApproved { .. } => "plan_approved",
            Self::PlanRefined { .. } => "plan_refined",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::WorkedByHand { .. } => "worked_by_hand",
            Self::Rewound { .. } => "rewound",
            Self::RetryRequested => "retry_requested",
            Self::RestoreRequested => "restore_requested",
        }
    }
}

/// What `step` answers to an event. Kept beside the event in the journal, so that the same request gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Receipt {
    /// `note` says what it came to, in one line for a person.
    Accepted { note: String },
    /// Nothing changed, and why.
    Refused { fault: Fault },
}
