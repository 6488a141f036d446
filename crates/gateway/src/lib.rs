//! The gateway: every model call of every agent passes here. Metered by the provider's own numbers, reserved against the
//! budget before it is made, keyed where the agent cannot see. The only room that knows a provider's wire format.
//!
//! The built-in agent speaks the neutral port `Model` ([`call`]); agents with clients of their own speak to a proxy on the
//! loopback ([`proxy`]). [`scripted`] is a provider that plays a script, for demonstrations and tests.
#![forbid(unsafe_code)]

mod call;
mod catalogue;
mod dialect;
mod gateway;
mod listing;
mod patience;
mod payment;
mod place;
mod prices;
mod providers;
mod proxy;
mod record;
mod replay;
mod route;
pub mod scripted;
mod sse;
mod start;
mod trial;
mod upstream;
mod windows;

pub use catalogue::ModelConfig;
pub use dialect::Dialect;
pub use gateway::{Gateway, Options};
pub use patience::Retry;
pub use prices::PriceConfig;
pub use providers::{KeyHeader, ProviderConfig};
pub use proxy::Rewrites;
pub use upstream::Deadlines;
