//! What goes in and what is told: an event on its way to a task, and the news that it was committed.

use domain::{
    event::Event,
    ids::{Actor, TaskId, Via},
};

/// Who says what to a task, and under which key.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    pub event: Event,
}

impl Incoming {
    /// An event of the engine's own.
    pub fn system(dedup: String, event: Event) -> Self {
        Self { dedup, actor: Actor::System, via: Via::Engine, event }
    }
}

/// A committed event: where it stands, and of which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    pub position: u64,
    pub task: TaskId,
}
