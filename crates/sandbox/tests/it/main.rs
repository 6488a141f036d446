//! Real processes in real sandboxes.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod agents;
mod commands;
mod containers;
mod conversations;
mod engine;
mod files;
mod host;
mod layers;
mod lifetime;
mod limits;
mod network;
mod quotas;
mod redaction;
mod syscalls;
mod terminals;
mod tools;
mod walls;
