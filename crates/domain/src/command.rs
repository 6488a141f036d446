//! What to do: the output of `step`, in the imperative.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    check::Risk,
    ids::{Actor, AttemptNo, CommentId, CommitId, TurnNo},
    ports::agent::{Mode, Prompt},
};

/// A command is idempotent by (task, command id). Commands that name the same attempt are performed in the order issued,
/// except `InterruptTurn` and `DeliverComment`, which overtake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Command {
    /// → `WorkspaceReady`. `anew`: whatever workspace there is, is removed first; its last snapshot holds it.
    PrepareWorkspace {
        attempt: AttemptNo,
        commit: CommitId,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anew: bool,
    },
    /// → `TurnEnded`; `Progressed` and `CommentsDelivered` on the way.
    StartTurn {
        attempt: AttemptNo,
        turn: TurnNo,
        mode: Mode,
        prompt: Prompt,
        max_rounds: u32,
        /// Which of the brief's fallbacks works, from 1; 0 is the brief's own agent and model.
        #[serde(default, skip_serializing_if = "is_first")]
        choice: u32,
        /// In a new session, whatever session the agent had.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fresh: bool,
    },
    /// End the attempt's running command early. → `Done`; the running command reports its own end.
    Interrupt { attempt: AttemptNo },
    /// Hand a comment to the running turn. → `Done`; `CommentsDelivered` when the agent has it.
    DeliverComment { attempt: AttemptNo, comment: CommentId, text: String },
    /// → `SnapshotTaken`
    TakeSnapshot { attempt: AttemptNo, turn: TurnNo, at: Timestamp },
    /// Judge `head`, a change on `base`. → `ChecksRan`
    RunChecks { attempt: AttemptNo, base: CommitId, head: CommitId },
    /// → `LandingDone`
    /// `at` is when it was approved: the same approval makes the same commit.
    Land {
        attempt: AttemptNo,
        head: CommitId,
        accepted: Vec<Risk>,
        by: Actor,
        at: Timestamp,
        rechecked: Option<CommitId>,
    },
    /// Remove the attempt's workspace once its snapshot is proven to hold it. → `Done`
    ReleaseWorkspace { attempt: AttemptNo },
    /// Forget the task's keys and remove its workspaces; `branch` says what happens to `overnight/T-12`. → `Done`
    CleanUp { branch: Branch },
    /// Forget the snapshots too. → `Done`
    Purge,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_first(choice: &u32) -> bool {
    *choice == 0
}

/// What clean-up does with the branch `overnight/T-12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    Keep,
    Remove,
}

impl Command {
    pub fn attempt(&self) -> Option<AttemptNo> {
        match self {
            Self::PrepareWorkspace { attempt, .. }
            | Self::StartTurn { attempt, .. }
            | Self::Interrupt { attempt }
            | Self::DeliverComment { attempt, .. }
            | Self::TakeSnapshot { attempt, .. }
            | Self::RunChecks { attempt, .. }
            | Self::Land { attempt, .. }
            | Self::ReleaseWorkspace { attempt } => Some(*attempt),
            Self::CleanUp { .. } | Self::Purge => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::PrepareWorkspace { .. } => "prepare_workspace",
            Self::StartTurn { .. } => "start_turn",
            Self::Interrupt { .. } => "interrupt",
            Self::DeliverComment { .. } => "deliver_comment",
            Self::TakeSnapshot { .. } => "take_snapshot",
            Self::RunChecks { .. } => "run_checks",
            Self::Land { .. } => "land",
            Self::ReleaseWorkspace { .. } => "release_workspace",
            Self::CleanUp { .. } => "clean_up",
            Self::Purge => "purge",
        }
    }
}
