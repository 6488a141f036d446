//! The embedded driver over scripted rooms: what is durable, what is in order, what survives.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail here")]

mod environments;
mod going_back;
mod harness;
mod landing;
mod people;
mod recovery;
mod stalls;
mod time;
mod turns;
