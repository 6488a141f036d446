//! The HTTP API: what people and programs say to Overnight, and what they are told.
//!
//! [`wire`] has the bodies, [`brief_file`] and [`amount`] the forms that people write; a client needs nothing else of this room.
#![forbid(unsafe_code)]

pub mod amount;
pub mod brief_file;
pub mod wire;
