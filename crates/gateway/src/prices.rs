//! What models cost. A price that is not in the table is unknown, never zero.
//!
//! Prices are in US dollars per million tokens, which is the same number as millionths of a dollar per token.

use std::{collections::HashMap, sync::LazyLock};

use domain::budget::{MicroUsd, Usage};
use jiff::civil::Date;
use serde::Deserialize;

/// The table, with its source.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    serde_json::from_str(include_str!("prices.json")).expect("prices.json is part of the program, and a test reads it")
});

#[derive(Debug, Deserialize)]
struct Table {
    /// Of each model, its prices one after the other.
    models: HashMap<String, Vec<Price>>,
}

/// Tokens as a provider counted them, in the detail that prices need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub usage: Usage,
    /// The part of `usage.cache_write` that is kept for an hour, which costs more.
    pub kept_an_hour: u64,
    /// Some of it cannot be: no account to settle by.
    pub is_wrong: bool,
}

/// The price of one model.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Price {
    /// From this day on, until the next one. `None`: it was configured, without a day.
    pub since: Option<Date>,
    #[serde(flatten)]
    rates: Rates,
    /// For requests whose whole input is above a size.
    long: Option<Long>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Long {
    above: u64,
    #[serde(flatten)]
    rates: Rates,
}

/// Where a provider names no price of its own for the cache, the cache costs what input costs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Rates {
    input: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    output: f64,
}

/// A price of the configuration, in US dollars per million tokens. What costs nothing has a price of 0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    pub input: f64,
    pub output: f64,
    #[serde(default)]
    pub cache_read: Option<f64>,
    #[serde(default)]
    pub cache_write: Option<f64>,
    /// When it was looked up.
    #[serde(default)]
    pub since: Option<Date>,
}

impl PriceConfig {
    /// `None`: no price is negative, or no number.
    pub(crate) fn price(self) -> Option<Price> {
        let Self { input, output, cache_read, cache_write, since } = self;
        let all = [Some(input), Some(output), cache_read, cache_write];
        let fit = all.into_iter().flatten().all(|rate| rate.is_finite() && rate >= 0.0);
        let rates = Rates { input, cache_read, cache_write, cache_write_1h: None, output };
        fit.then_some(Price { since, rates, long: None })
    }
}

impl Price {
    /// The price that a model of the table has on a day, by its bare name; a dated or `latest` snapshot costs what its model costs,
    /// where it has no price of its own.
    pub fn of(model: &str, day: Date) -> Option<Self> {
        let prices = TABLE.models.get(model).or_else(|| TABLE.models.get(without_date(model)?))?;
        on(prices, day)
    }

    /// Of a million tokens of input and of output.
    pub fn of_a_million(&self) -> (MicroUsd, MicroUsd) {
        (micro(self.rates.input * 1e6), micro(self.rates.output * 1e6))
    }

    /// What a call came to, rounded up.
    pub fn cost(&self, counted: &Counted) -> MicroUsd {
        let Usage { input, cache_read, cache_write, output, .. } = counted.usage;
        let rates = self.rates(input.saturating_add(cache_read).saturating_add(cache_write));
        let write = rates.cache_write.unwrap_or(rates.input);
        let kept_an_hour = counted.kept_an_hour.min(cache_write);
        micro(
            tokens(input) * rates.input
                + tokens(cache_read) * rates.cache_read.unwrap_or(rates.input)
                + tokens(cache_write - kept_an_hour) * write
                + tokens(kept_an_hour) * rates.cache_write_1h.unwrap_or(write)
                + tokens(output) * rates.output,
        )
    }

    /// The most that a call of this size costs, when nothing of it is in the provider's cache yet.
    pub fn most(&self, input: u64, output: u64) -> MicroUsd {
        let rates = self.rates(input);
        micro(tokens(input) * rates.input.max(rates.cache_write.unwrap_or(0.0)) + tokens(output) * rates.output)
    }

    fn rates(&self, input: u64) -> &Rates {
        match &self.long {
            Some(long) if input > long.above => &long.rates,
            Some(_) | None => &self.rates,
        }
    }
}

/// Of prices one after the other, that of a day. A day before the first one was looked up is charged like it.
fn on(prices: &[Price], day: Date) -> Option<Price> {
    prices.iter().rev().find(|price| price.since.is_none_or(|since| since <= day)).or(prices.first()).copied()
}

/// `gpt-4o-2024-11-20`, `claude-haiku-4-5-20251001` and `claude-haiku-4-5-latest` without their last part.
fn without_date(model: &str) -> Option<&str> {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let (front, last) = model.rsplit_once(['-', '@'])?;
    if last == "latest" || digits(last, 8) {
        return Some(front);
    }
    let (front, month) = front.rsplit_once('-')?;
    let (front, year) = front.rsplit_once('-')?;
    (digits(last, 2) && digits(month, 2) && digits(year, 4)).then_some(front)
}

#[expect(clippy::cast_precision_loss, reason = "no call has 2^52 tokens")]
fn tokens(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and prices are positive")]
fn micro(cost: f64) -> MicroUsd {
    // Products of decimal prices miss whole numbers by a hair: what is as good as whole is not rounded up.
    MicroUsd((cost - 1e-6).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Date = jiff::civil::date(2026, 11, 21);

    fn of(model: &str) -> Option<Price> {
        Price::of(model, DAY)
    }

    #[test]
    fn the_table_is_in_order_and_dated() {
        for (model, prices) in &TABLE.models {
            assert!(!prices.is_empty() && prices.iter().all(|price| price.since.is_some()), "{model}");
            assert!(prices.is_sorted_by_key(|price| price.since), "{model}");
        }
    }

    #[test]
    fn snapshots_cost_what_their_model_costs_unless_they_have_a_price_of_their_own() {
        for (dated, model) in [
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("claude-sonnet-5-5@20260901", "claude-sonnet-5-5"),
            ("gpt-4o-2024-11-20", "gpt-4o"),
            ("gpt-6-sol-latest", "gpt-6-sol"),
        ] {
            assert_eq!(of(dated).unwrap(), of(model).unwrap(), "{dated}");
        }
        assert_ne!(of("gpt-4o-2024-05-13").unwrap(), of("gpt-4o").unwrap());
        for unknown in ["gpt-6-sol-turbo", "my-model", "", "claude-sonnet-5-5-2026", "-"] {
            assert!(of(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn a_price_counts_from_its_day_on() {
        let price = |since: &str, input| format!(r#"{{"since":"{since}","input":{input},"output":0}}"#);
        let table = format!(r#"{{"models":{{"m":[{},{}]}}}}"#, price("2026-01-01", 1), price("2026-12-01", 2));
        let table: Table = serde_json::from_str(&table).unwrap();
        for (day, input) in [((2025, 1, 1), 1.0), ((2026, 11, 30), 1.0), ((2026, 12, 1), 2.0), ((2030, 1, 1), 2.0)] {
            let day = jiff::civil::date(day.0, day.1, day.2);
            assert_eq!(on(&table.models["m"], day).unwrap().rates.input, input, "{day}");
        }
    }

    #[test]
    fn every_kind_of_token_has_its_price() {
        let price = of("claude-sonnet-5-5").unwrap();
        let million = 1_000_000;
        let usage =
            Usage { input: million, cache_read: million, cache_write: 2 * million, output: million, reasoning: 9 };
        assert_eq!(price.cost(&Counted { usage, kept_an_hour: million, is_wrong: false }), MicroUsd(18_600_000));
        assert_eq!(price.cost(&Counted::default()), MicroUsd(0));
        let one = Usage { cache_read: 1, ..Usage::default() };
        assert_eq!(price.cost(&Counted { usage: one, ..Counted::default() }), MicroUsd(1), "rounded up");
        assert_eq!(price.most(million, 100), MicroUsd(2_501_000), "input may be written to the cache");
        assert_eq!(price.of_a_million(), (MicroUsd(2_000_000), MicroUsd(10_000_000)));
    }

    #[test]
    fn a_long_request_costs_more() {
        let price = of("gpt-6-sol").unwrap();
        let long = |input| price.cost(&Counted { usage: Usage { input, ..Usage::default() }, ..Counted::default() });
        assert_eq!(long(272_000), MicroUsd(544_000));
        assert_eq!(long(272_001), MicroUsd(1_088_004));
    }

    #[test]
    fn only_a_price_can_be_configured() {
        let config = PriceConfig { input: 0.0, output: 1.5, cache_read: None, cache_write: None, since: None };
        assert_eq!(config.price().unwrap().most(1_000_000, 2), MicroUsd(3));
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(PriceConfig { output: wrong, ..config }.price(), None);
        }
    }
}
