//! The daemon as a process: one per home, started by whoever needs it, stopped gracefully.

pub mod lock;
pub mod serve;
pub mod start;
pub mod unit;
