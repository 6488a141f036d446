//! Profiles (subagent types), and what else a repository offers to agents.

mod front;
mod offers;

pub(crate) use offers::{Offer, OfferKind, offers};
