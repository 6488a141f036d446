//! Real repositories, layers, sandboxes and proxies; a registry on this machine stands for those of the network.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod builds;
mod definitions;
mod opens;
mod provides;
mod registry;
mod world;
