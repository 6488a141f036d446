//! Answers about tasks.

use domain::{
    attempt::Progress,
    budget::{Amount, Spend},
    check::{CheckSpec, Judgement, Risk, Verdict},
    environment::EnvironmentUse,
    event::Receipt,
    ids::{Actor, AttemptNo, CommentId, CommitId, TaskId, TurnNo, Via},
    ports::{agent::PlanStep, egress::Refusal, sandbox::Confinement, workspace::Snapshot},
    summary::{Need, Phase},
    task::{Delivery, Outcome},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Brief;

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    #[serde(with = "super::task_id")]
    pub id: TaskId,
    pub title: String,
    pub repository: String,
    /// Who works now: the brief's own, or a fallback.
    pub agent: String,
    pub model: Option<String>,
    /// Its agent was lent a person's own login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_key: bool,
    pub phase: Phase,
    /// What it is doing, in one word: `turning`, `checking`, `ready`, …; the outcome's word once it has one.
    pub detail: String,
    /// The agent's own words, never evidence.
    pub progress: Option<String>,
    /// 0 to 100.
    pub percent: Option<u8>,
    /// The decisions wanted of a person; empty when none is.
    pub needs: Vec<Need>,
    pub overdue_since: Option<Timestamp>,
    pub outcome: Option<Outcome>,
    pub head: Option<CommitId>,
    pub verdict: Option<Verdict>,
    /// Why its base does not pass in the environment it stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
    pub submitted_at: Timestamp,
    pub updated_at: Timestamp,
}

impl From<domain::summary::Summary> for Summary {
    fn from(summary: domain::summary::Summary) -> Self {
        Self {
            id: summary.id,
            title: summary.title,
            repository: summary.repository,
            agent: summary.agent,
            model: summary.model,
            holds_key: summary.holds_key,
            phase: summary.phase,
            detail: summary.detail,
            progress: summary.progress,
            percent: summary.percent,
            needs: summary.needs,
            overdue_since: summary.overdue_since,
            outcome: summary.outcome,
            head: summary.head,
            verdict: summary.verdict,
            unhealthy: summary.unhealthy,
            submitted_at: summary.submitted_at,
            updated_at: summary.updated_at,
        }
    }
}

/// Answer of `POST /tasks`: the new task, and what a person should know about where it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    #[serde(flatten)]
    pub task: Summary,
    pub base: CommitId,
    /// The branch to land on; `None`: the result will be the branch `overnight/T-12`.
    pub target: Option<String>,
    /// Detached head, shallow clone, empty submodules, LFS pointers …: one sentence each.
    pub notes: Vec<String>,
}

/// Answer of `GET /tasks`: newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tasks {
    pub tasks: Vec<Summary>,
    /// Give it as `cursor` to get the next page; `None` on the last one.
    pub next: Option<String>,
}

/// Answer of `GET /inbox`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    pub needs_you: Vec<Summary>,
    /// Ended within the last 24 hours.
    pub ended: Vec<Summary>,
}

/// Answer of every request that says something to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// What it came to, in one line.
    pub note: String,
    /// The task as it is now.
    pub task: Summary,
}

/// Answer of `GET /tasks/{id}/blame`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    pub base: CommitId,
    /// The commit whose file it is.
    pub head: CommitId,
    /// In the order of the file.
    pub lines: Vec<BlamedLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlamedLine {
    /// The one that the line came with.
    pub commit: CommitId,
    /// From 1.
    pub line: u32,
    /// Without its end of line; cut at 2,000 characters.
    pub text: String,
    /// Whether the change made it: it came with the head, not with the base's history.
    pub ours: bool,
}

/// Answer of `POST /tasks/{id}/pull`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    pub head: CommitId,
    /// For the person: where it is, how to go back.
    pub lines: Vec<String>,
}

/// Answer of `GET /tasks/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    #[serde(flatten)]
    pub summary: Summary,
    /// Rises with every event of the task.
    pub seq: u64,
    /// The turn of another task that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
    pub submitted_by: Actor,
    pub brief: Brief,
    pub repository_path: String,
    pub base: CommitId,
    pub target: Option<String>,
    pub notes: Vec<String>,
    /// What the end of the task could not remove, and why.
    pub residue: Option<String>,
    pub confinement: Confinement,
    /// What its workspaces stand on; `None` until the first is ready.
    pub environment: Option<EnvironmentUse>,
    /// The checks that judge it: the brief's, or those detected in the base.
    pub checks: Vec<CheckSpec>,
    pub attempts: Vec<Attempt>,
    pub comments: Vec<Comment>,
    /// Everything people said, with the answer it got.
    pub said: Vec<Said>,
    pub spend: Spend,
    /// What open calls hold of the budget on top of `spend`.
    pub reserved: Amount,
    /// Model replies so far.
    pub rounds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedFrom {
    #[serde(with = "super::task_id")]
    pub task: TaskId,
    pub attempt: AttemptNo,
    /// The last turn that was taken over.
    pub turn: TurnNo,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub no: AttemptNo,
    /// One word: `preparing`, `turning`, `checking`, `awaiting_answer`, `ready`, `handed_back`, `concluded`, …
    pub status: String,
    /// Why it rests, was handed back or failed.
    pub why: Option<String>,
    /// Until when it rests, or waits for its model.
    pub until: Option<Timestamp>,
    /// Who works on it now: the brief's own, or a fallback.
    pub agent: String,
    pub model: Option<String>,
    /// Turns that got nowhere since one last ended well.
    pub stalls: u32,
    /// Times it waited for its model since a turn last ended well.
    pub holds: u32,
    /// Turns that a person took back: first and last.
    pub void: Vec<(TurnNo, TurnNo)>,
    /// The agent's own plan as it stands, while it works.
    pub steps: Vec<PlanStep>,
    pub turns: u32,
    /// Times red checks went back to the agent.
    pub corrections: u32,
    pub plan: Option<String>,
    /// The last snapshot.
    pub snapshot: Option<Snapshot>,
    pub verdict: Option<Verdict>,
    /// What a person must accept by name before this can land.
    pub risks: Vec<Risk>,
    /// The checks' full word on `snapshot`.
    pub judgement: Option<Judgement>,
    /// The agent's own last words, never evidence.
    pub summary: Option<String>,
    pub progress: Option<Progress>,
    /// The delivered text of a report task.
    pub report: Option<String>,
    /// Why `judgement` or `report` is missing although there was one.
    pub unreadable: Option<String>,
    /// Hosts that its sandbox wanted to reach and was not let.
    pub refusals: Vec<Refusal>,
    /// Seconds of turns and checks so far.
    pub worked_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    pub id: CommentId,
    pub at: Timestamp,
    pub by: Actor,
    pub text: String,
    /// It says what a person did by hand in the sandbox.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Where agents have read it; empty while it waits.
    pub delivered: Vec<Delivery>,
}

/// Something a person said, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub seq: u64,
    pub at: Timestamp,
    pub by: Actor,
    pub via: Via,
    /// The event's name: `submitted`, `approved`, …
    pub event: String,
    pub receipt: Receipt,
}
