//! Real processes in real sandboxes.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod commands;
mod files;
mod host;
mod lifetime;
mod limits;
mod syscalls;
mod tools;
mod walls;
