//! The embedded driver over scripted rooms: what is durable, what is in order, what survives.

mod harness;
mod landing;
mod people;
mod recovery;
mod time;
mod turns;
