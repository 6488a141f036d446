//! Chores of the house: what keeps it tidy, tries it and measures it. `cargo xtask --help` lists them.
#![forbid(unsafe_code)]

pub mod bench;
pub mod house;
pub mod picture;
pub mod program;
pub mod scene;
pub mod tidy;
pub mod trial;
