//! Answers about agents and profiles.

use std::path::PathBuf;

use domain::{
    ports::{agent::ModelNeed, model::Protocol},
    profile::Profile,
};
use serde::{Deserialize, Serialize};

/// Answer of `GET /agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agents {
    pub agents: Vec<Agent>,
}

/// See [`domain::ports::agent::AgentInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub name: String,
    /// `built in`, `program`, `acp` or `command line`.
    pub driven: String,
    /// Of the program found; `None`: unknown or not found.
    pub version: Option<String>,
    /// The version its driver was tried with.
    pub tried: Option<String>,
    pub program: Option<PathBuf>,
    pub model: ModelNeed,
    /// What its client speaks, best first.
    pub protocols: Vec<Protocol>,
    /// What is missing, and how to install it.
    pub missing: Option<String>,
    /// What is different from others, a sentence each.
    pub remarks: Vec<String>,
    /// Below HOME: the credential files that `login = "own"` lends it. Empty: it has none.
    pub login_files: Vec<String>,
}

/// Query of `GET /profiles`. Without a directory: those of no repository.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfilesQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Absent: `HEAD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Answer of `GET /profiles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profiles {
    pub profiles: Vec<Profile>,
}
