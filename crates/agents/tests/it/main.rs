//! The agents against a scripted model, real processes and real files.
#![expect(clippy::unwrap_used, reason = "a stage that cannot be set up fails its test")]

mod acp;
mod commands;
mod ends;
mod resume;
mod rounds;
mod scene;
mod talk;
mod tools;
mod yard;
