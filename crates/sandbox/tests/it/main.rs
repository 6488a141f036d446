//! Real processes in real sandboxes.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod commands;
mod files;
mod host;
mod lifetime;
mod tools;
mod walls;
