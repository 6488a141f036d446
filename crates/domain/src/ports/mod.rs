//! The ports: what the engine and the rooms ask of each other. Every room implements some and is handed others by `app`.
//!
//! Contracts shared by all ports: calls may come concurrently from many tasks; every call that changes something is
//! idempotent by its key (an effect that is already there is reported as done); a dropped future may leave its effect
//! half done, and the next call with the same key finishes or repeats it; errors are [`crate::Fault`]s whose class says
//! what the caller can do.

pub mod agent;
pub mod checks;
pub mod egress;
pub mod environments;
pub mod ledger;
pub mod model;
pub mod record;
pub mod sandbox;
pub mod store;
pub mod workspace;

use std::{future::Future, pin::Pin};

/// A boxed future, so that ports can be trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The current time. The manual clock of `testkit` is the second implementation.
pub trait Clock: Send + Sync {
    fn now(&self) -> jiff::Timestamp;
}
