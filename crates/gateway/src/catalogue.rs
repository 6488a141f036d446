//! Which model a name means, at which provider, and what it costs.

use std::collections::{HashMap, HashSet};

use domain::{
    Fault,
    ports::model::{Credentials, ModelAsk, Protocol, ResolvedModel},
};
use jiff::civil::Date;
use serde::Deserialize;

use crate::{
    dialect::{gemini, openai},
    prices::{Price, PriceConfig},
    providers::{self, Account, Form, NO_KEY_HINT, Provider, ProviderConfig},
};

/// The model that is taken when none is named, by provider.
pub(crate) const DEFAULTS: [(&str, &str); 3] =
    [("anthropic", "claude-sonnet-5-5"), ("openai", "gpt-6.1-sol"), ("gemini", "gemini-3.8-flash")];
/// Other words for providers.
const ALIASES: [(&str, &str); 3] = [("google", "gemini"), ("llama.cpp", "llamacpp"), ("llama-cpp", "llamacpp")];

/// A model of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Given to `--model`.
    pub name: String,
    pub provider: String,
    /// By the name that its provider knows; `None`: the same.
    #[serde(default)]
    pub model: Option<String>,
    /// The accounts it is asked with, in this order; empty: all, the one without a name first.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Models that are asked instead, in this order, while this one cannot be.
    #[serde(default)]
    pub fallbacks: Vec<String>,
    #[serde(default)]
    pub price: Option<PriceConfig>,
    /// For side work: titles and summaries.
    #[serde(default)]
    pub side: bool,
}

impl ModelConfig {
    pub(crate) fn at_its_provider(&self) -> &str {
        self.model.as_deref().unwrap_or(&self.name)
    }
}

/// All that is known of providers and models, whoever asks.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub providers: Vec<Provider>,
    pub models: Vec<ModelConfig>,
    /// Configured ones, by provider and model.
    prices: HashMap<(String, String), Price>,
}

/// What a name means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub provider: &'a Provider,
    /// By the name that the provider knows.
    pub model: &'a str,
    /// In the configuration.
    pub config: Option<&'a ModelConfig>,
}

impl Named<'_> {
    pub fn accounts(&self, credentials: &Credentials) -> Result<Vec<Account>, Fault> {
        self.provider.accounts(credentials, self.config.map_or(&[], |config| &config.accounts))
    }
}

impl Catalogue {
    /// `Input`: two of one name, a provider or a fallback that is not there, a price that is none.
    pub fn new(providers: Vec<ProviderConfig>, models: Vec<ModelConfig>) -> Result<Self, Fault> {
        let mut all = providers::known();
        for config in providers {
            let provider = Provider::configured(config)?;
            if all.iter().any(|known| known.name == provider.name) {
                return Err(Fault::input(format!("there is another provider `{}`", provider.name))
                    .hint("give it another name; the address of a known provider is set by its variable"));
            }
            all.push(provider);
        }
        let mut catalogue = Self { providers: all, models, prices: HashMap::new() };
        let mut seen = HashSet::new();
        for model in &catalogue.models {
            let wrong = |what: String| Fault::input(what).at(format!("model `{}`", model.name));
            if model.name.is_empty() || !seen.insert(model.name.as_str()) {
                return Err(wrong("there is another model of this name, or it has none".to_owned()));
            }
            let provider = catalogue.provider(&model.provider).ok_or_else(|| {
                let names: Vec<_> = catalogue.providers.iter().map(|provider| provider.name.as_str()).collect();
                wrong(format!("there is no provider `{}`", model.provider))
                    .hint(format!("the providers are {}", names.join(", ")))
            })?;
            if let Some(config) = model.price {
                let price = config.price().ok_or_else(|| {
                    wrong("its price is no price".to_owned())
                        .hint("write dollars per million tokens, from 0: `price = { input = 1.5, output = 6 }`")
                })?;
                catalogue.prices.insert((provider.name.clone(), model.at_its_provider().to_owned()), price);
            }
            for fallback in &model.fallbacks {
                catalogue.named(fallback).map_err(|fault| fault.at(format!("fallback of model `{}`", model.name)))?;
            }
        }
        Ok(catalogue)
    }

    pub fn provider(&self, name: &str) -> Option<&Provider> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        self.providers.iter().find(|provider| provider.name == name)
    }

    /// What a full name means, or the fault that says which there are.
    pub fn named<'a>(&'a self, name: &'a str) -> Result<Named<'a>, Fault> {
        self.find(name).ok_or_else(|| {
            let providers: Vec<_> = self.providers.iter().map(|provider| format!("{}/", provider.name)).collect();
            let configured: Vec<_> = self.models.iter().map(|model| format!(", `{}`", model.name)).collect();
            Fault::input(format!("the model `{name}` is not known")).hint(format!(
                "known names begin with `claude-`, `gemini-`, `gpt-` or `o3` and the like{}; any other model is named with its \
                 provider, like openai/NAME: {}",
                configured.concat(),
                providers.join(", ")
            ))
        })
    }

    fn find<'a>(&'a self, name: &'a str) -> Option<Named<'a>> {
        if let Some(config) = self.models.iter().find(|model| model.name == name) {
            let provider = self.provider(&config.provider)?;
            return Some(Named { provider, model: config.at_its_provider(), config: Some(config) });
        }
        let forced = name.split_once('/').and_then(|(prefix, model)| Some((self.provider(prefix)?, model)));
        let (provider, model) = match forced {
            Some(forced) => forced,
            None => {
                let (provider, _) = DEFAULTS.iter().find(|(provider, _)| is_of(provider, name))?;
                (self.provider(provider)?, name)
            }
        };
        // It becomes a part of a path.
        let in_path = provider.form == Form::Azure || provider.protocols().contains(&Protocol::GenerateContent);
        let is_fit = !model.is_empty() && (!in_path || gemini::is_name(model));
        is_fit.then_some(Named { provider, model, config: None })
    }

    /// The provider that is meant by a protocol, when nothing else says which.
    pub fn native(&self, protocol: Protocol) -> Option<&Provider> {
        self.provider(match protocol {
            Protocol::Messages => "anthropic",
            Protocol::ChatCompletions | Protocol::Responses => "openai",
            Protocol::GenerateContent => "gemini",
        })
    }

    /// What a model costs at a provider on a day. `None`: unknown.
    pub fn price(&self, provider: &str, model: &str, day: Date) -> Option<Price> {
        if !self.prices.is_empty()
            && let Some(price) = self.prices.get(&(provider.to_owned(), model.to_owned()))
        {
            return Some(*price);
        }
        self.provider(provider).filter(|provider| provider.is_priced).and_then(|_| Price::of(model, day))
    }

    /// See [`domain::ports::model::Gateways::resolve`].
    pub fn resolve(&self, ask: ModelAsk<'_>, day: Date) -> Result<ResolvedModel, Fault> {
        let ModelAsk { name, credentials, budget, protocols } = ask;
        let name = match name.map(str::trim).filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => self.default(credentials)?,
        };
        let named = self.named(name)?;
        let accounts = named.accounts(credentials)?;
        let is_wanted = |protocol: &&Protocol| protocols.is_empty() || protocols.contains(protocol);
        let spoken: Vec<_> = accounts[0].protocols.iter().filter(is_wanted).copied().collect();
        if spoken.is_empty() {
            let words = |all: &[Protocol]| all.iter().map(|one| one.word()).collect::<Vec<_>>().join(", ");
            return Err(Fault::input(format!(
                "the model `{name}` can be asked by {}, and this agent speaks {}",
                words(&accounts[0].protocols),
                words(protocols)
            ))
            .hint("choose a model of another provider, or another agent"));
        }
        let priced = self.price(&named.provider.name, named.model, day).is_some();
        if budget.cost.is_some() && !priced {
            return Err(Fault::input(format!(
                "the budget is in money, but the price of the model `{}` is not known to Overnight",
                named.model
            ))
            .hint("give the budget in tokens instead, for example `--budget 200ktok`, or the model's price in the configuration"));
        }
        Ok(ResolvedModel { name: name.to_owned(), priced, protocols: spoken })
    }

    /// The model for the credentials at hand: of a provider with a key, else of the configuration, else of one with an address.
    fn default(&self, credentials: &Credentials) -> Result<&str, Fault> {
        let known = || DEFAULTS.iter().filter_map(|(name, model)| Some((self.provider(name)?, *model)));
        if let Some((_, model)) = known().find(|(provider, _)| provider.has_key(credentials)) {
            return Ok(model);
        }
        let usable = |model: &&ModelConfig| {
            !model.side && self.named(&model.name).is_ok_and(|named| named.accounts(credentials).is_ok())
        };
        if let Some(model) = self.models.iter().find(usable) {
            return Ok(&model.name);
        }
        let at_hand: Vec<_> = self
            .providers
            .iter()
            .filter(|provider| provider.is_at_hand(credentials))
            .map(|provider| provider.name.as_str())
            .collect();
        match known().find(|(provider, _)| provider.name != "openai" && at_hand.contains(&provider.name.as_str())) {
            Some((_, model)) => Ok(model),
            None if at_hand.is_empty() => {
                Err(Fault::input("there is no model to work with: no provider's key is at hand").hint(NO_KEY_HINT))
            }
            // Its models are whatever somebody put there.
            None => Err(Fault::input(format!("{} is at hand, but no model is named", at_hand.join(", ")))
                .hint(format!("say which one the server has, for example `--model {}/qwen3-coder`", at_hand[0]))),
        }
    }
}

/// Whether a bare name is one of a provider's own.
fn is_of(provider: &str, model: &str) -> bool {
    match provider {
        "anthropic" => model.starts_with("claude-"),
        "gemini" => model.starts_with("gemini-"),
        _ => openai::is_own_model(model),
    }
}
