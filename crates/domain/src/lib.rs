//! The nouns of Overnight, the contract of every room, and the one pure function that decides: [`step::step`].
//!
//! No clock, no IO, no randomness, no panic. Everything else carries out what is decided here.
#![forbid(unsafe_code)]

pub mod alphabet;
pub mod attempt;
pub mod brief;
pub mod budget;
pub mod check;
pub mod command;
pub mod environment;
pub mod event;
pub mod fault;
pub mod ids;
pub mod picture;
pub mod ports;
pub mod profile;
pub mod redact;
pub mod step;
pub mod summary;
pub mod task;
pub mod waits;

pub use fault::{Fault, FaultClass};
