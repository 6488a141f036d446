//! Answers about the daemon and the installation.

use domain::ids::Epoch;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Answer of `GET /status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub home: String,
    /// This daemon's number in the life of the home.
    pub epoch: Epoch,
    pub started_at: Timestamp,
    pub uptime_s: u64,
    pub tasks: TaskCounts,
}

/// Tasks that have not ended, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    pub working: u64,
    pub needs_you: u64,
    pub landing: u64,
    pub closing: u64,
}

/// Answer of `POST /shutdown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    pub pid: u32,
}

/// Answer of `GET /doctor`: what the daemon can see. A client adds what it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doctor {
    /// No finding is broken.
    pub healthy: bool,
    pub findings: Vec<Finding>,
    pub walls: Walls,
    /// What layers and workspaces hold on disk; `None` where that cannot be told.
    pub layers: Option<Layers>,
    /// Names of sets of hosts that a network allow-list may hold.
    pub presets: Vec<Preset>,
    /// Names of the variables that are kept for this installation.
    pub keys: Vec<String>,
    /// Names of the agents that can work here, and of those that lack something.
    pub agents: Vec<String>,
    #[serde(default)]
    pub agents_missing: Vec<String>,
}

/// See [`domain::ports::workspace::DiskUse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    pub layers: u32,
    pub bytes: u64,
    /// What collection aims at.
    pub budget_bytes: u64,
    pub workspaces: u32,
    /// How workspaces get their files: `overlay`, `reflink` or `copy`.
    pub rung: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    pub name: String,
    pub hosts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `store`, `home`, `disk`, `sandbox`, …
    pub name: String,
    pub ok: bool,
    pub note: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What the machine can enforce around a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    pub confined: bool,
    pub walls: Vec<Wall>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    pub name: String,
    pub stands: bool,
    pub note: String,
}

/// Answer of `GET /keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    pub keys: Vec<Key>,
}

/// Answer of `GET`, `PUT` and `DELETE /keys/{provider}`: whether values are kept, never the values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `anthropic`, `openai`, …, or one of the configuration.
    pub provider: String,
    /// `None`: the provider's first or only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    pub api_key: Kept,
    pub base_url: Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    Set,
    Absent,
}
