//! A profile (subagent type): an agent with a purpose, under a name.

use serde::{Deserialize, Serialize};

use crate::{
    brief::{Deliverable, Fallback},
    budget::Budget,
};

/// Named agent, model, prompt, tools and limits. A brief that names one takes from it whatever it does not say itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Lower case, digits and `-`.
    pub name: String,
    /// When to use it, in a sentence or two.
    pub description: String,
    /// The file of the base that it stands in, `configuration`, or `ready-made`.
    pub source: String,
    /// A driver's name; `None`: the brief's, or the installation's default.
    pub agent: Option<String>,
    pub model: Option<String>,
    /// Tried in their order when the first agent stalls.
    pub fallbacks: Vec<Fallback>,
    /// Told to the agent before the brief. At most 32 KiB.
    pub prompt: String,
    /// Names of the built-in agent's tools; `None`: all. `finish` and `ask` always.
    pub tools: Option<Vec<String>>,
    /// The agent's changes are not kept.
    pub read_only: bool,
    pub deliverable: Option<Deliverable>,
    pub budget: Budget,
    /// Replies of the model in one turn at most.
    pub max_rounds: Option<u32>,
    /// A report goes on being written; what begins a line of progress that people are told at once (`None`: nothing).
    pub report_filter: Option<String>,
}
