//! The proxy before real servers, real clients and real sockets on this machine's loopback.
#![expect(clippy::unwrap_used, reason = "in a test, an unexpected error is a failure")]

mod clients;
mod fetching;
mod life;
mod measure;
mod names;
mod plain;
mod smuggling;
mod stage;
mod stamps;
mod tunnels;
