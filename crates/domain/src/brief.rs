//! The brief: the immutable contract that a task starts from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{budget::Budget, check::CheckSpec};

/// What is to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deliverable {
    /// Commits that a person signs off and that land on a target.
    #[default]
    Change,
    /// A text; nothing in the repository changes.
    Report,
}

/// Whether the agent works at once or proposes a plan first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Planning {
    #[default]
    Direct,
    /// The agent may only read; its plan waits for a person before the work starts.
    ApproveFirst,
}

/// How an approved change reaches its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LandingMethod {
    /// One commit on top of the target: the approved commit itself when the target has not moved.
    #[default]
    Squash,
    /// A merge commit, even where the target has not moved.
    Merge,
    /// Only the branch `overnight/T-12`; the target is left alone.
    Branch,
}

/// Which agent does the work, and what it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentChoice {
    /// A driver's name: `builtin`, `command`, `codex`, …
    pub name: String,
    /// For `command`: the program and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// By whose login it calls its model.
    #[serde(default, skip_serializing_if = "Login::is_gateway")]
    pub login: Login,
}

/// By whose login an agent with a client of its own calls its model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// The gateway's: metered, with the key outside.
    #[default]
    Gateway,
    /// The person's own, of a subscription: the agent's credential file is lent to the sandbox. The task holds a key, and its spend
    /// is bounded by rounds and time only.
    Own,
}

impl Login {
    fn is_gateway(&self) -> bool {
        *self == Self::Gateway
    }
}

/// Another agent or model, for when the first stalls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// `None`: the same agent.
    pub agent: Option<String>,
    /// `None`: the same model.
    pub model: Option<String>,
}

impl Default for AgentChoice {
    fn default() -> Self {
        Self { name: "builtin".to_owned(), argv: Vec::new(), login: Login::Gateway }
    }
}

/// The contract of a task. Fixed at submission; everything a person adds later is a comment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Brief {
    /// One sentence or more: what is wanted. Its first line is the title.
    pub goal: String,
    pub non_goals: Vec<String>,
    pub requirements: Vec<String>,
    pub acceptance: Vec<String>,
    /// Globs (gitignore syntax, from the root) of what may change. Empty: everything that is not protected.
    pub allowed_paths: Vec<String>,
    /// Globs of what checks take from the base whatever the agent wrote; a change to them needs an explicit sign-off.
    pub protected_paths: Vec<String>,
    /// Empty: detected in the base.
    pub checks: Vec<CheckSpec>,
    /// Actions that need a named person besides landing, in words. Shown to the agent and to the reviewer.
    pub approval_boundary: Vec<String>,
    pub reviewer: Option<String>,
    pub budget: Budget,
    /// When a result is wanted; a reminder goes out then.
    pub deadline: Option<jiff::Timestamp>,
    pub category: Option<String>,
    /// What evidence the reviewer wants to see, in words.
    pub evidence: Vec<String>,
    pub agent: AgentChoice,
    pub model: Option<String>,
    /// Tried in their order when the agent stalls and a fresh start did not help.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Fallback>,
    /// The name of a profile. What it says is fixed with the submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Who criticises a plan before a person sees it: a model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic: Option<String>,
    /// How many attempts run side by side, 1 to 16.
    pub attempts: u32,
    /// How many times red checks go back to the agent before a person is asked.
    pub max_corrections: u32,
    pub deliverable: Deliverable,
    pub planning: Planning,
    pub landing: LandingMethod,
    /// Free text under the front matter that belongs to no known heading.
    pub notes: String,
    /// Labels of the submitter, carried along and never interpreted.
    pub labels: BTreeMap<String, String>,
}

impl Default for Brief {
    fn default() -> Self {
        Self {
            goal: String::new(),
            non_goals: Vec::new(),
            requirements: Vec::new(),
            acceptance: Vec::new(),
            allowed_paths: Vec::new(),
            protected_paths: Vec::new(),
            checks: Vec::new(),
            approval_boundary: Vec::new(),
            reviewer: None,
            budget: Budget::default(),
            deadline: None,
            category: None,
            evidence: Vec::new(),
            agent: AgentChoice::default(),
            model: None,
            fallbacks: Vec::new(),
            profile: None,
            critic: None,
            attempts: 1,
            max_corrections: 3,
            deliverable: Deliverable::default(),
            planning: Planning::default(),
            landing: LandingMethod::default(),
            notes: String::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl Brief {
    /// The first line of the goal, at most 72 characters: subject of commits, label in lists.
    pub fn title(&self) -> String {
        let line = self.goal.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("(no goal)");
        if line.chars().count() <= 72 {
            return line.to_owned();
        }
        let cut: String = line.chars().take(71).collect();
        format!("{}…", cut.trim_end())
    }
}
