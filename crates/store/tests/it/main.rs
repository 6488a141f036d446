//! The store on real files: what it promises, and what happens when processes, disks and rows fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod blobs;
mod cache;
mod crash;
mod golden;
mod home;
mod journal;
mod ledger;
mod records;
mod sample;
mod secrets;
mod transcripts;
