//! The ways of an attempt to its model: accounts of its provider one after the other, then its fallbacks.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Fault,
    ports::model::{Credentials, Protocol},
};
use reqwest::{
    Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT},
};

use crate::{
    catalogue::{Catalogue, Named},
    dialect::{anthropic, gemini},
    providers::{Account, Form},
};

/// One account at one provider, for one model.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub provider: String,
    pub account: Account,
    /// By the name that the provider knows.
    pub model: String,
    /// Another model than the one that was asked for.
    pub is_fallback: bool,
}

impl Route {
    /// What is out of quota together: a model in an account.
    pub fn window(&self, model: &str) -> u64 {
        Self::window_of(&self.account, model)
    }

    pub fn window_of(account: &Account, model: &str) -> u64 {
        let mut window = DefaultHasher::new();
        (account.id, model).hash(&mut window);
        window.finish()
    }

    /// The address of `path`, which begins with `/v1/` or `/v1beta/` and may have a query. `model`: which one is asked for there.
    pub fn url(&self, path: &str, model: &str) -> Result<Url, Fault> {
        let Account { base, host, form, api_version, .. } = &self.account;
        let bare = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        let whole = match (form, api_version) {
            (Form::Root, _) => format!("{base}{path}"),
            (Form::Versioned, _) => format!("{base}{bare}"),
            (Form::Azure, None) => format!("{base}/openai/v1{bare}"),
            (Form::Azure, Some(version)) => {
                let (bare, query) =
                    bare.split_once('?').map_or((bare, String::new()), |(bare, rest)| (bare, format!("&{rest}")));
                match bare {
                    "/chat/completions" if gemini::is_name(model) => {
                        format!("{base}/openai/deployments/{model}{bare}?api-version={version}{query}")
                    }
                    "/chat/completions" => {
                        return Err(Fault::input(format!("`{model}` can be no deployment of {host}")));
                    }
                    _ => format!("{base}/openai{bare}?api-version={version}{query}"),
                }
            }
        };
        Url::parse(&whole).map_err(|err| Fault::input(format!("`{path}` is no path of {host}: {err}")))
    }

    /// The path where streamed replies come from.
    pub fn replies(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Messages => "/v1/messages".to_owned(),
            Protocol::ChatCompletions => "/v1/chat/completions".to_owned(),
            Protocol::Responses => "/v1/responses".to_owned(),
            Protocol::GenerateContent => gemini::replies(&self.model),
        }
    }

    /// The headers of a call that is our own.
    pub fn headers(&self, protocol: Protocol) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("overnight/", env!("CARGO_PKG_VERSION"))));
        if protocol == Protocol::Messages {
            headers.insert("anthropic-version", HeaderValue::from_static(anthropic::VERSION));
        }
        self.account.stamp(&mut headers);
        headers
    }
}

/// All ways of one attempt. What one of its calls learns of dead keys, the others know.
#[derive(Debug)]
pub(crate) struct Chain {
    catalogue: Arc<Catalogue>,
    credentials: Credentials,
    routes: Vec<Arc<Route>>,
    /// Accounts whose key was refused, and what the provider said.
    dead: Mutex<Vec<(u64, String)>>,
}

impl Chain {
    /// `Input`: the model is not known, or cannot be asked with these credentials.
    pub fn new(catalogue: &Arc<Catalogue>, model: &str, credentials: &Credentials) -> Result<Self, Fault> {
        let named = catalogue.named(model)?;
        let mut routes = Self::of(named, credentials, false)?;
        for fallback in named.config.map_or(&[][..], |config| &config.fallbacks) {
            // One for which no key is at hand is none for this person.
            routes.extend(Self::of(catalogue.named(fallback)?, credentials, true).unwrap_or_default());
        }
        let (catalogue, credentials) = (Arc::clone(catalogue), credentials.clone());
        Ok(Self { catalogue, credentials, routes, dead: Mutex::default() })
    }

    fn of(named: Named<'_>, credentials: &Credentials, is_fallback: bool) -> Result<Vec<Arc<Route>>, Fault> {
        let route = |account| {
            let (provider, model) = (named.provider.name.clone(), named.model.to_owned());
            Arc::new(Route { provider, account, model, is_fallback })
        };
        Ok(named.accounts(credentials)?.into_iter().map(route).collect())
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The first way: the one that is taken while nothing stands in it.
    pub fn first(&self) -> &Route {
        &self.routes[0]
    }

    /// The ways for the neutral port, which speaks everything.
    pub fn all(&self) -> Vec<Arc<Route>> {
        self.routes.clone()
    }

    /// The ways for a client that speaks `protocol`. Where the model's own provider does not speak it, the protocol's own one is meant: a
    /// client may have several models. `Input`: there is none.
    pub fn speaking(&self, protocol: Protocol) -> Result<Vec<Arc<Route>>, Fault> {
        let speaks = |route: &&Arc<Route>| route.account.protocols.contains(&protocol);
        if speaks(&&self.routes[0]) {
            return Ok(self.routes.iter().filter(speaks).cloned().collect());
        }
        let none = || {
            Fault::input(format!("{} cannot be asked by {}", self.first().account.host, protocol.word()))
                .hint("use a model of a provider that speaks it")
        };
        let provider = self.catalogue.native(protocol).ok_or_else(none)?;
        let route = |account| {
            let (provider, model) = (provider.name.clone(), String::new());
            Arc::new(Route { provider, account, model, is_fallback: false })
        };
        let accounts = provider.accounts(&self.credentials, &[]).map_err(|fault| none().hint(fault.to_string()))?;
        Ok(accounts.into_iter().map(route).collect())
    }

    /// An account's key was refused: this attempt asks with it no more.
    pub fn bury(&self, account: u64, why: String) {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        if !dead.iter().any(|(known, _)| *known == account) {
            dead.push((account, why));
        }
    }

    /// Why an account's key is of no use.
    pub fn is_dead(&self, account: u64) -> Option<String> {
        let dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.iter().find(|(known, _)| *known == account).map(|(_, why)| why.clone())
    }
}
