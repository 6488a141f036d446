//! The boring second implementation of every port: in memory, scripted, instant. For tests only.
#![forbid(unsafe_code)]

mod agents;
mod clock;
mod egress;
mod environments;
mod rooms;
mod store;
mod workspaces;

use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::ports::BoxFuture;

pub use agents::{Asked, Say, ScriptedAgents, TurnScript};
pub use clock::ManualClock;
pub use egress::ShutEgress;
pub use environments::PlainEnvironments;
pub use rooms::{PlainSandboxes, ScriptedChecks, Unmetered};
pub use store::MemoryStore;
pub use workspaces::ScriptedWorkspaces;

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
