//! The agents against a scripted model, real processes and real files.
#![expect(clippy::unwrap_used, reason = "a stage that cannot be set up fails its test")]

mod acp;
mod cli;
mod commands;
mod ends;
mod real;
mod resume;
mod room;
mod rounds;
mod scene;
mod servers;
mod talk;
mod tools;
mod yard;
