//! The real program, end to end: real daemons in homes of their own, real repositories, real processes.
//!
//! Nothing here reaches beyond this machine: every process is started with a cleared environment, and models are scripts on
//! loopback.
#![expect(clippy::unwrap_used, reason = "a test that unwraps has failed")]

mod agents;
mod bad_input;
mod by_hand;
mod commands;
mod daemon;
mod demo;
mod environments;
mod harness;
mod main_job;
mod model;
mod models;
mod odd_places;
mod profiles;
mod turns;
