//! Models and what may be spent on them.

use domain::{
    Fault,
    budget::{Amount, MicroUsd, Period, Spend, Whose},
    ports::model::{Credentials, ModelInfo, Protocol},
};
use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use super::brief::Budget;

/// `POST /models` → [`Models`]: those of the configuration and of the keys at hand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskModels {
    /// Beside those that are kept.
    pub credentials: Credentials,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    pub models: Vec<Model>,
}

/// See [`ModelInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// To be given to `--model`.
    pub name: String,
    pub provider: String,
    pub host: String,
    /// In the order they are tried.
    pub accounts: Vec<String>,
    pub protocols: Vec<Protocol>,
    /// `None`: unknown.
    pub price: Option<ModelPrice>,
    pub reach: Reach,
    /// Why its provider cannot be reached.
    pub fault: Option<Fault>,
    /// Until when its accounts are out of quota.
    pub held_until: Option<Timestamp>,
}

/// In millionths of a US dollar, of a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrice {
    pub input: MicroUsd,
    pub output: MicroUsd,
    pub since: Option<Date>,
}

/// What the provider says of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It is on the provider's list.
    Listed,
    NotListed,
    /// The provider is there, but gives no list.
    NoList,
    Unreachable,
}

impl From<ModelInfo> for Model {
    fn from(info: ModelInfo) -> Self {
        let (reach, fault) = match info.reachable {
            Ok(Some(true)) => (Reach::Listed, None),
            Ok(Some(false)) => (Reach::NotListed, None),
            Ok(None) => (Reach::NoList, None),
            Err(fault) => (Reach::Unreachable, Some(fault)),
        };
        Self {
            name: info.name,
            provider: info.provider,
            host: info.host,
            accounts: info.accounts,
            protocols: info.protocols,
            price: info.price.map(|(input, output)| ModelPrice { input, output, since: info.priced_since }),
            reach,
            fault,
            held_until: info.held_until,
        }
    }
}

/// `POST /models/try` → [`domain::ports::model::TriedModel`]: makes one real call of a few tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TryModel {
    pub name: String,
    #[serde(default)]
    pub credentials: Credentials,
}

/// Answer of `GET /budget`: the purses of the caller and of all tasks that have not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Purses {
    pub purses: Vec<Purse>,
}

/// A budget that tasks share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Purse {
    /// The rule's, of the configuration.
    pub name: String,
    /// Of this purse among those of its rule: `day 2026-11-21`.
    pub key: String,
    pub per: Period,
    pub of: Whose,
    pub limit: Budget,
    pub spent: Spend,
    /// What calls that are out hold on top of `spent`.
    pub reserved: Amount,
}

impl From<engine::PurseState> for Purse {
    fn from(state: engine::PurseState) -> Self {
        let engine::PurseState { rule, key, spent, reserved } = state;
        Self { name: rule.name, key, per: rule.per, of: rule.of, limit: Budget(rule.limit), spent, reserved }
    }
}
