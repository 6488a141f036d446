//! The one way from a sandbox to a host of the network: a proxy that lets through what an allow-list names, looks at where
//! names lead, and puts credentials on requests outside the sandbox.
//!
//! ```text
//!  sandbox ──► gate ──► connection ──► tunnel ─┬─► raw bytes, once TLS names the host that was allowed
//!                           │                  └─► TLS ended here (authority) ─► exchange
//!                           └─► plain requests ─────────────────────────────────► exchange ──► reach ──► host
//! ```
//!
//! [`entry`] reads allow-lists, [`policy`] answers what may be done at a host, [`reach`] resolves a name once and connects
//! to an address that [`address`] has looked at, [`exchange`] carries one request and its answer.
//!
//! What it cannot see: inside a tunnel that it does not end, a client may name another host to the same server (domain
//! fronting). Hosts that are stamped or opened for fetching only have their TLS ended here, so there it is seen. And whatever
//! can be asked for can carry something out in its own name: a path, or a name below `*.host`. What a stamped host gives out to
//! the credential's bearer (a session, another token) is the client's.
#![forbid(unsafe_code)]

mod address;
mod answer;
mod authority;
mod connection;
mod entry;
mod exchange;
mod gate;
mod hello;
mod policy;
mod presets;
mod proxy;
mod reach;
mod redacted;
mod roots;
mod tunnel;
mod variables;
mod watched;

pub use proxy::{Limits, Options, Proxy};
pub use reach::{Resolver, System};
pub use roots::Roots;
