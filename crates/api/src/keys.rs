//! The installation's provider keys: written here, never read out.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use domain::{Fault, ports::model::Credentials};

use crate::{
    App,
    extract::{Answer, Body, Params, Segment},
    wire::{self, house::Kept},
};

/// Where [`domain::ports::store::Secrets`] keeps them.
pub(crate) const SCOPE: &str = "home";

/// Parts a variable's name from that of an account: `ANTHROPIC_API_KEY@work`.
const OF: char = '@';

/// A provider, and the variables of its key and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub name: String,
    pub api_key: String,
    /// `None`: its address is said elsewhere.
    pub base_url: Option<String>,
}

/// The known ones: name, variable of the key, variable of the address.
const KNOWN: [(&str, &str, &str); 9] = [
    ("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    ("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    ("gemini", "GEMINI_API_KEY", "GEMINI_BASE_URL"),
    ("azure", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"),
    ("bedrock", "AWS_BEARER_TOKEN_BEDROCK", "BEDROCK_BASE_URL"),
    ("openrouter", "OPENROUTER_API_KEY", "OPENROUTER_BASE_URL"),
    ("ollama", "OLLAMA_API_KEY", "OLLAMA_HOST"),
    ("vllm", "VLLM_API_KEY", "VLLM_BASE_URL"),
    ("llamacpp", "LLAMA_API_KEY", "LLAMACPP_BASE_URL"),
];

impl Provider {
    fn all(app: &App) -> impl Iterator<Item = Self> + '_ {
        let known = KNOWN.into_iter().map(|(name, api_key, base_url)| Self {
            name: name.to_owned(),
            api_key: api_key.to_owned(),
            base_url: Some(base_url.to_owned()),
        });
        known.chain(app.providers.iter().cloned())
    }

    fn find(app: &App, name: &str) -> Result<Self, Fault> {
        Self::all(app).find(|provider| provider.name == name).ok_or_else(|| {
            let names: Vec<String> = Self::all(app).map(|provider| provider.name).collect();
            Fault::not_found(format!("there is no provider `{name}`"))
                .hint(format!("the providers are {}", names.join(", ")))
        })
    }

    /// The variable under which an account's value is kept.
    fn variable(name: &str, account: Option<&str>) -> String {
        account.map_or_else(|| name.to_owned(), |account| format!("{name}{OF}{account}"))
    }

    fn shown(&self, kept: &Credentials, account: Option<&str>) -> wire::Key {
        let is_kept = |name: &str| match kept.get(&Self::variable(name, account)) {
            Some(_) => Kept::Set,
            None => Kept::Absent,
        };
        wire::Key {
            provider: self.name.clone(),
            account: account.map(str::to_owned),
            api_key: is_kept(&self.api_key),
            base_url: self.base_url.as_deref().map_or(Kept::Absent, is_kept),
        }
    }

    /// The one without a name first.
    fn accounts(&self, kept: &Credentials) -> Vec<wire::Key> {
        let variables = std::iter::once(&self.api_key).chain(&self.base_url);
        let of = |variable: &String| {
            let names = kept.0.keys().filter_map(|name| name.strip_prefix(variable)?.strip_prefix(OF));
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let named: BTreeSet<String> = variables.flat_map(of).collect();
        std::iter::once(None)
            .chain(named.iter().map(|name| Some(name.as_str())))
            .map(|name| self.shown(kept, name))
            .collect()
    }
}

pub(crate) async fn list(State(app): State<App>) -> Answer<wire::Keys> {
    let kept = app.ports().secrets.get(SCOPE.to_owned()).await?;
    Ok(Json(wire::Keys { keys: Provider::all(&app).flat_map(|provider| provider.accounts(&kept)).collect() }))
}

pub(crate) async fn show(
    State(app): State<App>,
    Segment(name): Segment,
    Params(asked): Params<wire::KeyQuery>,
) -> Answer<wire::Key> {
    let (provider, account) = (Provider::find(&app, &name)?, account(&asked)?);
    Ok(Json(provider.shown(&app.ports().secrets.get(SCOPE.to_owned()).await?, account)))
}

fn account(asked: &wire::KeyQuery) -> Result<Option<&str>, Fault> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match asked.account.as_deref() {
        Some(name) if name.is_empty() || name.len() > 64 || !name.bytes().all(is_part) => {
            Err(Fault::input(format!("`{name}` cannot name an account"))
                .hint("1 to 64 letters, digits, `-`, `_` and `.`, such as `work`"))
        }
        account => Ok(account),
    }
}

pub(crate) async fn set(
    State(app): State<App>,
    Segment(name): Segment,
    Params(of): Params<wire::KeyQuery>,
    Body(asked): Body<wire::SetKey>,
) -> Answer<wire::Key> {
    let (provider, account) = (Provider::find(&app, &name)?, account(&of)?);
    let api_key = asked.api_key.map(|key| key.trim().to_owned());
    if api_key.as_deref().is_some_and(|key| key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Fault::input("`api_key` is no key: a key is visible ASCII characters without blanks").into());
    }
    if asked.base_url.as_deref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        return Err(Fault::input("`base_url` does not start with `http://` or `https://`")
            .hint("give the address whole, such as `http://127.0.0.1:8080/v1`")
            .into());
    }
    if asked.base_url.is_some() && provider.base_url.is_none() {
        return Err(Fault::input(format!("the address of `{name}` stands in config.toml"))
            .hint("change `base_url` there, and start the daemon again")
            .into());
    }
    if api_key.is_none() && asked.base_url.is_none() {
        return Err(Fault::input("neither `api_key` nor `base_url` is given").hint("give one of them, or both").into());
    }
    let _turn = app.keys.lock().await;
    let mut kept = app.ports().secrets.get(SCOPE.to_owned()).await?;
    for (variable, value) in [(Some(&provider.api_key), api_key), (provider.base_url.as_ref(), asked.base_url)] {
        if let Some((variable, value)) = variable.zip(value) {
            kept.0.insert(Provider::variable(variable, account), value);
        }
    }
    let shown = provider.shown(&kept, account);
    app.ports().secrets.put(SCOPE.to_owned(), kept).await?;
    Ok(Json(shown))
}

pub(crate) async fn forget(
    State(app): State<App>,
    Segment(name): Segment,
    Params(of): Params<wire::KeyQuery>,
) -> Answer<wire::Key> {
    let (provider, account) = (Provider::find(&app, &name)?, account(&of)?);
    let _turn = app.keys.lock().await;
    let mut kept = app.ports().secrets.get(SCOPE.to_owned()).await?;
    for variable in std::iter::once(&provider.api_key).chain(&provider.base_url) {
        kept.0.remove(&Provider::variable(variable, account));
    }
    let shown = provider.shown(&kept, account);
    app.ports().secrets.put(SCOPE.to_owned(), kept).await?;
    Ok(Json(shown))
}
