//! Judgements over real directories and real processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod detects;
mod fakes;
mod judges;
mod keeps;
mod surroundings;
mod world;
