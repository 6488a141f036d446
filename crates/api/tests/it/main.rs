//! The API over a real socket, on a real engine and a real store; only the rooms that would work for minutes are stood in for.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod agents;
mod attach;
mod boxes;
mod client;
mod environment;
mod errors;
mod furnishing;
mod home;
mod house;
mod speech;
mod stands_in;
mod streams;
mod tasks;
mod turns;
