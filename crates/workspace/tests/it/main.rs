//! The room against real git, real files and real processes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blame;
mod branch;
mod changes;
mod checkout;
mod collection;
mod environment;
mod ground;
mod hostile;
mod landing;
mod layers;
mod odd;
mod packs;
mod reflink;
mod resolve;
mod timing;
mod work;
