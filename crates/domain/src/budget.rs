//! Spend: what was used, what it cost, and the hard limits it is held against.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::AttemptKey;

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
    /// Of the output: what the model thought and did not say. 0 where the provider does not tell it apart.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
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
            reasoning: self.reasoning.saturating_add(other.reasoning),
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

/// A budget that several tasks spend from: of a day, a person, a team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// What is counted together: `day 2026-11-21`, `person alice 2026-11`. The same key is the same purse.
    pub key: String,
    /// `cost` and `tokens` count; the others are a task's.
    pub limit: Budget,
}

/// A rule of the configuration that makes purses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRule {
    /// Unique; begins each key.
    pub name: String,
    pub limit: Budget,
    pub per: Period,
    pub of: Whose,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    #[default]
    Day,
    Month,
    Ever,
}

/// Who shares a purse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// All tasks of this installation.
    #[default]
    Everybody,
    /// The tasks of one person; each person has a purse.
    Person,
    /// The tasks whose briefs carry this label (`team`, `automation`, `graph`); each value of it has a purse.
    Label(String),
    /// Each attempt has a purse.
    Attempt,
}

/// Whom a call is made for, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Spender<'a> {
    /// `None`: a call without a task.
    pub key: Option<AttemptKey>,
    pub person: &'a str,
    pub labels: &'a BTreeMap<String, String>,
}

/// The purses that a call on `today` is paid from.
pub fn purses(rules: &[BudgetRule], spender: Spender<'_>, today: jiff::civil::Date) -> Vec<Purse> {
    let purse = |rule: &BudgetRule| {
        let whose = match &rule.of {
            Whose::Everybody => String::new(),
            Whose::Person => format!(" {}", spender.person),
            Whose::Label(label) => format!(" {}", spender.labels.get(label)?),
            Whose::Attempt => format!(" {}", spender.key?),
        };
        let when = match rule.per {
            Period::Day => format!(" {today}"),
            Period::Month => format!(" {}", today.strftime("%Y-%m")),
            Period::Ever => String::new(),
        };
        Some(Purse { key: format!("{}{whose}{when}", rule.name), limit: rule.limit })
    };
    rules.iter().filter_map(purse).collect()
}
