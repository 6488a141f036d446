//! Port of `agents`: something that takes a prompt and works in a sandbox until it stops.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    BoxFuture,
    model::{Endpoint, Message, Model, Protocol},
    sandbox::Sandbox,
};
use crate::{
    Fault,
    brief::Brief,
    ids::{AttemptKey, CommentId, TurnNo},
    profile::Profile,
};

/// The agents of this installation, by name.
pub trait Agents: Send + Sync {
    /// `NotFound` with the names there are as hint.
    fn find(&self, name: &str) -> Result<Arc<dyn Agent>, Fault>;

    fn names(&self) -> Vec<String>;

    /// Every agent, installed or not. Reads files, runs nothing.
    fn list(&self) -> Vec<AgentInfo>;

    /// Profiles: those of a base's files (see [`PROFILE_FILES`]), of the configuration, and the ready-made; each name once, in this order
    /// of precedence. `Input` names the file that cannot be read as a profile, or the two of one precedence that share a name.
    fn profiles(&self, files: &[(String, Bytes)]) -> Result<Vec<Profile>, Fault>;
}

/// Where a base may keep profiles: a file, or a directory and how the paths below it end.
pub const PROFILE_FILES: [(&str, &str); 4] =
    [("overnight.toml", ""), (".claude/agents", ".md"), (".github/agents", ".md"), (".opencode/agent", ".md")];

/// Where a base may keep what else guides an agent (servers of tools, skills, commands), in the same way.
pub const GUIDANCE_FILES: [(&str, &str); 7] = [
    (".mcp.json", ""),
    (".claude/skills", "/SKILL.md"),
    (".github/skills", "/SKILL.md"),
    (".agents/skills", "/SKILL.md"),
    (".claude/commands", ".md"),
    (".opencode/command", ".md"),
    (".cursor/commands", ".md"),
];

/// An agent as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    pub name: String,
    /// How it is driven: `built in`, `program`, `acp`, `command line`.
    pub driven: String,
    /// Of the program found; `None`: unknown or not found.
    pub version: Option<String>,
    /// The version this driver was tried with.
    pub tried: Option<String>,
    /// Where it was found.
    pub program: Option<PathBuf>,
    pub model: ModelNeed,
    pub protocols: Vec<Protocol>,
    /// What is missing, and how to install it.
    pub missing: Option<String>,
    /// What is different from others, a sentence each.
    pub remarks: Vec<String>,
}

/// What an agent needs from outside before a task with it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelNeed {
    None,
    /// Works without; where its task names a model, its own client gets a way to it: metered, with the key outside.
    Offered,
    /// By the neutral port.
    Required,
    /// By a client of the agent's own, at an endpoint.
    Client,
}

/// What an agent needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    pub model: ModelNeed,
    /// What its client speaks, best first. Empty: any.
    pub protocols: Vec<Protocol>,
    /// Host directories that its sandbox must see; PATH does not lead to them.
    pub programs: Vec<PathBuf>,
    /// For [`crate::brief::Login::Own`]: the credential files below the person's HOME, and the hosts they are good for. `None`: it cannot
    /// be lent a login.
    pub login: Option<OwnLogin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnLogin {
    /// Below HOME, there and in the sandbox.
    pub files: Vec<String>,
    /// As an allow-list has them.
    pub hosts: Vec<String>,
}

pub trait Agent: Send + Sync {
    /// `NotFound` when its program is not installed, `Environment` when it is there in a version that cannot be driven; either says how
    /// to install it.
    fn needs(&self) -> Result<Needs, Fault>;

    /// Runs one turn to its end. Called again for the same turn after a crash: it goes on from the transcript (a recorded reply
    /// is never paid again; a recorded tool call without a result is never run again, the model is told that its effects are
    /// unknown). A turn whose end is in the transcript returns that end at once.
    ///
    /// Errors: `Fenced` when the transcript refuses to be written; anything else is the turn's own conclusion, not an error.
    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>>;
}

/// What the turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Read only; the end's `summary` is the plan.
    Plan,
    Work,
    /// The end's `summary` is the report.
    Report,
}

#[derive(Clone, Debug)]
pub struct TurnRequest {
    pub key: AttemptKey,
    pub turn: TurnNo,
    pub mode: Mode,
    pub brief: Arc<Brief>,
    /// The checks that will be run on the result.
    pub checks: Vec<String>,
    pub prompt: Prompt,
    /// Content of the repository's AGENTS.md files (path, text) from the base, root first.
    pub instructions: Vec<(String, String)>,
    /// The base's files of [`GUIDANCE_FILES`], by path.
    pub guidance: Arc<Vec<(String, Bytes)>>,
    /// What the one who works should know of the sandbox, a sentence each: what it reaches, which services run, and which do not.
    pub surroundings: Vec<String>,
    /// Rounds left for this turn.
    pub max_rounds: u32,
    /// What the agent is to be.
    pub profile: Option<Arc<Profile>>,
    /// Turns of the transcript that are void, as the attempt was taken back to before them: (first, last).
    pub void: Vec<(TurnNo, TurnNo)>,
    /// In a new session, whatever session the agent had in this attempt: it is told the brief again, and how far the work came.
    pub fresh: bool,
}

/// What starts a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Prompt {
    /// The first turn of an attempt: the brief (and the approved plan), with comments that came before it.
    Start { plan: Option<String>, comments: Vec<(CommentId, String)> },
    /// The checks were red. `again`: they failed the same way before, so another approach is asked for.
    Fix { digest: String, again: bool, comments: Vec<(CommentId, String)> },
    /// A person asks for something.
    Comments { comments: Vec<(CommentId, String)> },
    /// The answer to the question that ended the last turn.
    Answer { question: String, answer: String, comments: Vec<(CommentId, String)> },
    /// The turn was cut off by something outside the conversation and goes on in the same or a rebuilt workspace.
    Continue { why: String, comments: Vec<(CommentId, String)> },
}

impl Prompt {
    pub fn comments(&self) -> &[(CommentId, String)] {
        match self {
            Self::Start { comments, .. }
            | Self::Fix { comments, .. }
            | Self::Comments { comments }
            | Self::Answer { comments, .. }
            | Self::Continue { comments, .. } => comments,
        }
    }
}

/// What an agent works with. All of it is bound to one attempt.
pub struct Hands {
    pub sandbox: Arc<dyn Sandbox>,
    /// Present when [`Agent::model_need`] is `Required`.
    pub model: Option<Arc<dyn Model>>,
    /// Present when it is `Client`, and when it is `Offered` and the task names a model. Void when it is dropped.
    pub endpoint: Option<Endpoint>,
    /// For a cheap model that does side work; `None`: the same as `model`.
    pub side_model: Option<Arc<dyn Model>>,
    /// Lent credential files (path below HOME, content), for [`crate::brief::Login::Own`]. Then there is no endpoint.
    pub login: Vec<(String, Bytes)>,
    pub transcript: Arc<dyn Transcript>,
    pub line: Arc<dyn Line>,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").finish_non_exhaustive()
    }
}

/// The line between a running turn and the task: what people say comes in, what the agent says goes out.
pub trait Line: Send + Sync {
    /// Comments that wait for the next safe point, in order. Taken ones are not given again by this line; the agent writes them to the
    /// transcript and then calls `delivered`.
    fn take_comments(&self) -> Vec<(CommentId, String)>;

    /// The comments are in the conversation, before this round's model call.
    fn delivered(&self, comments: Vec<CommentId>, round: u32);

    /// Overnight's own words for the agent (its budget nears its end; a nudge): told at the next safe point, and not acknowledged. Taken
    /// ones are not given again.
    fn take_notices(&self) -> Vec<String>;

    /// Resolves when a comment or a notice waits. An agent that can be told nothing while it works is interrupted for a notice, and told.
    fn noticed(&self) -> BoxFuture<'_, ()>;

    /// 0–100 where the agent knows it, and a few words.
    fn progress(&self, percent: Option<u8>, text: String);

    /// Whether the turn must end now. Checked before every model call and tool call; `interrupted` resolves when it becomes so.
    fn is_interrupted(&self) -> bool;

    fn interrupted(&self) -> BoxFuture<'_, ()>;
}

/// The append-only record of one attempt, fenced by the daemon's epoch.
pub trait Transcript: Send + Sync {
    /// All entries of the attempt, in order.
    fn load(&self) -> BoxFuture<'_, Result<Vec<Entry>, Fault>>;

    /// Durable when it resolves. Appends of one attempt keep their order even when they are not awaited one by one.
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<(), Fault>>;
}

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub turn: TurnNo,
    /// From 1 within the turn; 0 for what comes before the first model call.
    pub round: u32,
    pub body: EntryBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum EntryBody {
    /// What opened the turn, as the model sees it.
    Prompt {
        message: Message,
    },
    /// A model's reply. For a driven agent: one of its messages or tool calls, normalised.
    Reply {
        message: Message,
        usage: crate::budget::Usage,
    },
    /// The results of one reply's tool calls, as the model sees them (also when some are unknown after a crash).
    Results {
        message: Message,
    },
    /// One tool call's result, written as soon as it is there; folded into `Results` when all are.
    Result {
        id: String,
        text: String,
        is_error: bool,
    },
    /// Comments that were put into the conversation here, as the model sees them.
    Comments {
        ids: Vec<CommentId>,
        message: Message,
    },
    /// The agent's own plan, whole, each time it changes. People see it; the model knows it.
    Plan {
        steps: Vec<PlanStep>,
    },
    /// The driven agent's session, by its own id: from here on this turn and later ones go on in it.
    Session {
        agent: String,
        id: String,
    },
    /// Output of an agent that has no conversation (`command`).
    Output {
        text: String,
    },
    /// Something for the reader that the model does not see.
    Note {
        text: String,
    },
    End {
        end: TurnEnd,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    pub text: String,
    pub state: StepState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Pending,
    Doing,
    Done,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnEnd {
    pub conclusion: TurnConclusion,
    /// The agent's own words (plan, report, summary). Never evidence. At most 8 KB here; a longer text is cut with a mark.
    pub summary: String,
    pub rounds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TurnConclusion {
    /// The agent says it is done.
    Finished,
    /// The agent asks a person; the answer opens the next turn.
    /// `default` is taken when nobody answers within a day.
    Asked {
        question: String,
        choices: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
    },
    /// Stopped from outside.
    Interrupted,
    /// No further model call is allowed.
    OutOfBudget { why: String },
    /// `max_rounds` were used up.
    OutOfRounds,
    /// No model can be called until then; nothing is wrong with the work.
    Held { why: String, until: Timestamp },
    /// It went on without getting anywhere, and a nudge did not help. Said by the engine, never by an agent.
    Stalled { why: String },
    /// Trying again by itself is useless or unsafe (dead key, unknown model, the agent's program failed).
    DeadEnd { why: String },
    /// Something failed that may work another time (provider unavailable, garbage three times in a row).
    Failed { why: String },
}
