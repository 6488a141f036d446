//! One try at a task: one workspace, one session, one conclusion.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    check::{BlobId, Judged},
    ids::{AttemptNo, CommandId, RequestId, TurnNo},
    ports::{
        agent::{Mode, Prompt, TurnEnd},
        egress::Refusal,
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
    /// Times its turns stalled since one last ended well.
    #[serde(default)]
    pub stalls: u32,
    /// Times it had to wait for a model since a turn last ended well.
    #[serde(default)]
    pub holds: u32,
    /// Which of the brief's fallbacks works, from 1; 0 is the brief's own agent and model.
    #[serde(default)]
    pub choice: u32,
    /// What the workspace holds is not to be kept: the next turn gets a new one, made of `snapshot`.
    #[serde(default)]
    pub spoiled: bool,
    /// The agent's session is not to be gone on with.
    #[serde(default)]
    pub fresh: bool,
    /// Turns that a person took back: (first, last).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub void: Vec<(TurnNo, TurnNo)>,
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
    /// Hosts that its sandbox wanted to reach and was not let, each once, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
}

impl Attempt {
    /// Whether a person took this turn back.
    pub fn is_void(&self, turn: TurnNo) -> bool {
        self.void.iter().any(|(first, last)| (*first..=*last).contains(&turn))
    }

    /// Goes back to what `turn` left: later turns are void, and so is what they led to.
    pub(crate) fn take_back(&mut self, turn: TurnNo, snapshot: &Snapshot) {
        self.void.push((TurnNo(turn.0 + 1), TurnNo(self.turns)));
        self.snapshot = Some(snapshot.clone());
        self.judged = None;
        self.last_failure = None;
        self.summary = None;
        self.start_over();
        self.spoiled = true;
        self.fresh = true;
    }

    /// Forgets how often it was tried: a person spoke, or a turn ended well.
    pub(crate) fn start_over(&mut self) {
        self.corrections = 0;
        self.end_well();
    }

    pub(crate) fn end_well(&mut self) {
        self.restarts = 0;
        self.stalls = 0;
        self.holds = 0;
    }
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
        /// Taken as the answer when nobody answers in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
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

/// An open request to a person within an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub request: RequestId,
    pub what: AskedFor<'a>,
    pub since: Timestamp,
    pub reminders: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedFor<'a> {
    /// `default`: taken when nobody answers in time.
    Answer {
        question: &'a str,
        choices: &'a [String],
        default: Option<&'a str>,
    },
    PlanApproval {
        plan: &'a str,
    },
}

/// What has to come for an attempt to go on.
enum Awaited<'a> {
    Performer(CommandId),
    Time,
    Reply(Asked<'a>),
    /// With what went wrong, if anything did.
    Decision(Option<&'a str>),
    Nothing(&'a Conclusion),
}

impl AttemptStatus {
    fn awaited(&self) -> Awaited<'_> {
        match self {
            Self::Preparing { command, .. }
            | Self::Turning { command, .. }
            | Self::Snapshotting { command, .. }
            | Self::Checking { command, .. } => Awaited::Performer(*command),
            Self::Resting { .. } => Awaited::Time,
            Self::AwaitingAnswer { request, question, choices, default, since, reminders } => {
                let what = AskedFor::Answer { question, choices, default: default.as_deref() };
                Awaited::Reply(Asked { request: *request, what, since: *since, reminders: *reminders })
            }
            Self::AwaitingPlan { request, plan, since, reminders } => {
                let what = AskedFor::PlanApproval { plan };
                Awaited::Reply(Asked { request: *request, what, since: *since, reminders: *reminders })
            }
            Self::Ready => Awaited::Decision(None),
            Self::HandedBack { why } => Awaited::Decision(Some(why)),
            Self::Concluded { conclusion } => Awaited::Nothing(conclusion),
        }
    }

    /// Whether nothing more happens by itself.
    pub fn is_settled(&self) -> bool {
        matches!(self.awaited(), Awaited::Decision(_) | Awaited::Nothing(_))
    }

    /// Whether there is something for a person to decide about: a candidate, or an attempt that needs help.
    pub fn is_decidable(&self) -> bool {
        matches!(self.awaited(), Awaited::Decision(_))
    }

    /// Why a person is needed; `None` when nothing is wrong.
    pub fn problem(&self) -> Option<&str> {
        if let Awaited::Decision(problem) = self.awaited() { problem } else { None }
    }

    pub fn conclusion(&self) -> Option<&Conclusion> {
        if let Awaited::Nothing(conclusion) = self.awaited() { Some(conclusion) } else { None }
    }

    /// What a person is asked within the attempt.
    pub fn asked(&self) -> Option<Asked<'_>> {
        if let Awaited::Reply(asked) = self.awaited() { Some(asked) } else { None }
    }

    /// The command this state waits for.
    pub fn command(&self) -> Option<CommandId> {
        if let Awaited::Performer(command) = self.awaited() { Some(command) } else { None }
    }

    /// Counts a reminder of this request. `None`: it is not open here.
    pub fn remind(&mut self, asked: RequestId) -> Option<u32> {
        match self {
            Self::AwaitingAnswer { request, reminders, .. } | Self::AwaitingPlan { request, reminders, .. }
                if *request == asked =>
            {
                *reminders = reminders.saturating_add(1);
                Some(*reminders)
            }
            Self::AwaitingAnswer { .. }
            | Self::AwaitingPlan { .. }
            | Self::Preparing { .. }
            | Self::Turning { .. }
            | Self::Snapshotting { .. }
            | Self::Checking { .. }
            | Self::Resting { .. }
            | Self::Ready
            | Self::HandedBack { .. }
            | Self::Concluded { .. } => None,
        }
    }

    /// Of a turn that runs as this command: since when, and whether it is to stop.
    pub(crate) fn turning(&self, id: CommandId) -> Option<(Timestamp, &Stopping)> {
        let Self::Turning { command, since, stopping, .. } = self else { return None };
        (*command == id).then_some((*since, stopping))
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
