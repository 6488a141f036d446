//! Attacks that must fail: each test is one, named by what it tries.
//!
//! Every room is the real one, wired as the daemon wires it. An attack is a script that an agent could run in its sandbox, or
//! a workspace that it could leave behind. So that no test passes by trying nothing, most run the same script as plain processes
//! too (`World::plain`), where it must succeed; comments say what stands for that elsewhere. A wall that this machine cannot
//! build is skipped loudly, once the probe has said so.
#![expect(clippy::unwrap_used, reason = "a test that unwraps has failed")]

mod git;
mod host;
mod kernel;
mod layers;
mod network;
mod ordinary;
mod resources;
mod secrets;
mod signals;
mod uppers;
mod upstream;
mod world;
