//! The boring second implementation of every port: in memory, scripted, instant. For tests only.
#![forbid(unsafe_code)]

mod agents;
mod clock;
mod rooms;
mod store;

pub use agents::{Say, ScriptedAgents, TurnScript};
pub use clock::ManualClock;
pub use rooms::{PlainSandboxes, ScriptedChecks, ScriptedWorkspaces, Unmetered};
pub use store::MemoryStore;
