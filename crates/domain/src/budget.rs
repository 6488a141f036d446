//! Spend: what was used, what it cost, and the hard limits it is held against.

use serde::{Deserialize, Serialize};

/// Tokens of one or many model calls, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens billed at the full price (neither read from nor written to a cache).
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
}

impl Usage {
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write).saturating_add(self.output)
    }

    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
        }
    }
}

/// Money in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if whole == 0 && part > 0 && part < 10_000 {
            write!(f, "${whole}.{part:06}")
        } else {
            write!(f, "${whole}.{:02}", part / 10_000)
        }
    }
}

/// What was spent so far. A cost is unknown, never zero, when a model without a known price was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    pub calls: u64,
    pub usage: Usage,
    /// The part of the cost that is known.
    pub cost: MicroUsd,
    /// Calls whose price is unknown: when above 0, `cost` is a lower bound.
    pub unpriced_calls: u64,
    /// Calls settled by estimate (cut streams, crashes): their share is an upper bound.
    pub estimated_calls: u64,
}

impl Spend {
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            usage: self.usage.plus(&other.usage),
            cost: self.cost.plus(other.cost),
            unpriced_calls: self.unpriced_calls.saturating_add(other.unpriced_calls),
            estimated_calls: self.estimated_calls.saturating_add(other.estimated_calls),
        }
    }
}

/// Hard limits of a task. `None` is "no limit of this kind".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    pub cost: Option<MicroUsd>,
    pub tokens: Option<u64>,
    /// Rounds (model replies) over the whole task.
    pub rounds: Option<u32>,
    /// Wall time of the work (not of waiting for people), in seconds.
    pub wall_s: Option<u64>,
}

/// A quantity of spend: a price in money (unknown when the model has no price) and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub cost: Option<MicroUsd>,
    pub tokens: u64,
}
