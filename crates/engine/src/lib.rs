//! Makes the decisions of `domain::step` durable and carries them out.
//!
//! `perform/` has one file per command, over the ports, for every driver; `embedded/` is the driver on one machine: an inbox
//! per task, one transaction per event, commands performed from committed rows only.
#![forbid(unsafe_code)]

mod acceptance;
mod by_hand;
pub mod embedded;
mod fork;
mod handle;
mod history;
mod incoming;
mod interrupt;
mod perform;
pub mod ports;
mod purses;
mod replay;
mod repositories;

pub use by_hand::{Left, Look, Open, TakeOver, TakeOverRequest};
pub use fork::{ForkRequest, RewindRequest};
pub use handle::{Handle, Said, Submit};
pub use incoming::News;
pub use perform::{Stalls, Terms};
pub use ports::Ports;
pub use purses::PurseState;
pub use replay::{Difference, Replay, ReplayedTurn};
