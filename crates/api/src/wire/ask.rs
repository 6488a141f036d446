//! Requests: what a client sends. Every one may carry an `Idempotency-Key` header.

use std::{collections::BTreeMap, path::PathBuf};

use domain::ports::model::Credentials;
use serde::{Deserialize, Serialize};

use super::Brief;

/// `POST /tasks` → 201 [`super::Submitted`]. Exactly one of `brief` and `brief_markdown` is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Submit {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brief: Option<Brief>,
    /// A brief file: Markdown with TOML front matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brief_markdown: Option<String>,
    /// Absolute; anywhere in a work tree, or a bare repository. Absent: a report without a repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The revision to start from; absent: `HEAD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The branch to land on; absent: the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// Hand over uncommitted work.
    pub wip: bool,
    /// By the names in [`Credentials::VARIABLES`], or beginning with [`Credentials::LOGIN`]. Kept sealed with the task, forgotten at its end, never shown again.
    pub credentials: Credentials,
    /// Run the agent and the checks as plain processes.
    pub unconfined: bool,
}

/// `POST /tasks/{id}/comments` → [`super::Spoken`]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    pub text: String,
}

/// `POST /tasks/{id}/answer` → [`super::Spoken`]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The request that asks; absent: the only one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u32>,
    pub answer: String,
}

/// `POST /tasks/{id}/plan` → [`super::Spoken`]. Either `approve` is true, or `refine` and `comments` say what to change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// The request that asks; absent: the only one there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u32>,
    pub approve: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refine: Option<String>,
    /// Remarks on single steps; they refine the plan, together with `refine`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<StepComment>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepComment {
    /// Its number in the plan.
    pub step: u32,
    pub text: String,
}

/// `POST /tasks/{id}/fork` → 201 [`super::Submitted`]: a new task that goes on from what a turn left.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// Absent: the one under review, or the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The last turn that is taken over.
    pub turn: u32,
    /// What is asked for from there; empty: to go on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Absent: as the task that is forked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Absent: those of the task that is forked, while it has some.
    #[serde(default)]
    pub credentials: Credentials,
}

/// `POST /tasks/{id}/rewind` → [`super::Spoken`]: the same attempt goes back to what a turn left.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewind {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    pub turn: u32,
    /// What to do from there; absent: only the checks run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `POST /tasks/{id}/replay` → events: at last `replayed` with a [`engine::Replay`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// `POST /tasks/{id}/approve` → [`super::Spoken`]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The commit this person last saw, in full or its first digits (7 at least).
    pub head: String,
    /// The risks this person accepts, by their words: `not-green`, `protected-paths`, `missing-tests`.
    #[serde(default)]
    pub accept: Vec<String>,
}

/// `POST /tasks/{id}/reject` → [`super::Spoken`]
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reject {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// `POST /tasks/{id}/cancel` → [`super::Spoken`]
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cancel {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// `POST /tasks/{id}/retry` → [`super::Spoken`]; of an ended task: a new task with the same brief, named in `task`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Replace the task's keys when not empty. A new task needs them again: those of an ended one are forgotten.
    pub credentials: Credentials,
}

/// `POST /tasks/{id}/pull` → [`super::Pulled`]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// Absolute; a work tree of the task's repository.
    pub directory: PathBuf,
}

/// `PUT /keys/{provider}` → [`super::Key`]. What is absent stays as it is.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
}

impl std::fmt::Debug for SetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetKey").finish_non_exhaustive()
    }
}

/// Query of `GET`, `PUT` and `DELETE /keys/{provider}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyQuery {
    /// One of several accounts with this provider; absent: the first or only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// Query of `GET /tasks`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListQuery {
    /// Phases, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 1,000; absent: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Labels of a submitter: carried along, never interpreted.
pub type Labels = BTreeMap<String, String>;

/// `POST /tasks/{id}/restore` → [`super::Spoken`], `POST /shutdown` → [`super::Stopping`]: nothing to say.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}
