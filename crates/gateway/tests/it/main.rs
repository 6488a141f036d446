//! The gateway against real sockets: a scripted provider upstream, the neutral port and real HTTP clients downstream.

#![expect(clippy::unwrap_used, reason = "in a test, an unexpected error is a failure")]

mod accounts;
mod budget;
mod clients;
mod faults;
mod gemini;
mod kept;
mod leaving;
mod ledger;
mod metering;
mod names;
mod proxy;
mod replay;
mod replies;
mod responses;
mod scripted;
mod stage;
mod wrong;
