//! Which provider a model name leads to, with whose key.

use domain::{
    Fault,
    ports::model::{Credentials, ModelAsk, Protocol, ResolvedModel},
};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    dialect::{Dialect, anthropic, gemini, openai},
    prices::Price,
};

/// The model that is taken when none is named.
const DEFAULT_ANTHROPIC: &str = "claude-sonnet-5-5";
const DEFAULT_GEMINI: &str = "gemini-3.8-flash";
const DEFAULT_OPENAI: &str = "gpt-6.1-sol";

const NO_KEY_HINT: &str = "set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or store a key with `overnight key set anthropic`; \
     ANTHROPIC_BASE_URL, OPENAI_BASE_URL or GEMINI_BASE_URL alone reach a local server; `overnight demo` needs no key";
const KNOWN_NAMES: &str = "known names begin with `claude-`, `gemini-`, `gpt-` or `o3` and the like; `anthropic/NAME`, \
     `gemini/NAME` or `openai/NAME` says in which dialect to ask for any other model";

impl Dialect {
    /// Of the key and of the address. Of several, the first one that is set counts.
    fn variables(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Anthropic => (&["ANTHROPIC_API_KEY"], &["ANTHROPIC_BASE_URL"]),
            Self::Gemini => (&["GEMINI_API_KEY", "GOOGLE_API_KEY"], &["GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"]),
            Self::OpenAi => (&["OPENAI_API_KEY"], &["OPENAI_BASE_URL"]),
        }
    }
}

/// Splits a full model name into dialect and bare name. `None`: the dialect cannot be told.
pub(crate) fn split(name: &str) -> Option<(Dialect, &str)> {
    for dialect in [Dialect::Anthropic, Dialect::Gemini, Dialect::OpenAi] {
        if let Some(bare) = name.strip_prefix(dialect.prefix()) {
            // It becomes a part of a path.
            let is_fit = dialect != Dialect::Gemini || gemini::is_name(bare);
            return (is_fit && !bare.is_empty()).then_some((dialect, bare));
        }
    }
    if name.starts_with("claude-") {
        Some((Dialect::Anthropic, name))
    } else if name.starts_with("gemini-") && gemini::is_name(name) {
        Some((Dialect::Gemini, name))
    } else if openai::is_own_model(name) {
        Some((Dialect::OpenAi, name))
    } else {
        None
    }
}

/// See [`domain::ports::model::Gateways::resolve`].
pub(crate) fn resolve(ask: ModelAsk<'_>) -> Result<ResolvedModel, Fault> {
    let ModelAsk { name, credentials, budget, protocols } = ask;
    let name = match name.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => name,
        None if Dialect::Anthropic.key(credentials).is_some() => DEFAULT_ANTHROPIC,
        None if Dialect::OpenAi.key(credentials).is_some() => DEFAULT_OPENAI,
        None if Dialect::Gemini.key(credentials).is_some() => DEFAULT_GEMINI,
        None if Dialect::Anthropic.base(credentials).is_some() => DEFAULT_ANTHROPIC,
        None if Dialect::Gemini.base(credentials).is_some() => DEFAULT_GEMINI,
        None if Dialect::OpenAi.base(credentials).is_some() => {
            return Err(Fault::input("OPENAI_BASE_URL is set, but no model is named")
                .hint("say which one the server has, for example `--model openai/qwen3-coder`"));
        }
        None => {
            return Err(Fault::input("there is no model to work with: no provider's key is at hand").hint(NO_KEY_HINT));
        }
    };
    let (dialect, bare) = named(name)?;
    Route::new(dialect, credentials)?;
    let priced = Price::of(bare).is_some();
    if budget.cost.is_some() && !priced {
        return Err(Fault::input(format!(
            "the budget is in money, but the price of the model `{bare}` is not known to Overnight"
        ))
        .hint("give the budget in tokens instead, for example `--budget 200ktok`"));
    }
    let spoken: &[Protocol] = match dialect {
        Dialect::Anthropic => &[Protocol::Messages],
        Dialect::Gemini => &[Protocol::GenerateContent],
        Dialect::OpenAi => &[Protocol::ChatCompletions, Protocol::Responses],
    };
    let spoken: Vec<_> =
        spoken.iter().copied().filter(|spoken| protocols.is_empty() || protocols.contains(spoken)).collect();
    if spoken.is_empty() {
        return Err(Fault::input(format!("the model `{bare}` cannot be asked in a protocol of this agent")));
    }
    Ok(ResolvedModel { name: name.to_owned(), priced, protocols: spoken })
}

/// As [`split`], or the fault that says what there is.
pub(crate) fn named(name: &str) -> Result<(Dialect, &str), Fault> {
    split(name).ok_or_else(|| Fault::input(format!("the model `{name}` is not known")).hint(KNOWN_NAMES))
}

/// One person's way to one provider.
#[derive(Clone)]
pub(crate) struct Route {
    pub dialect: Dialect,
    /// Without a slash at its end; a path of the API comes after it. `OpenAI`'s holds the `/v1`, the others' do not.
    base: String,
    /// For messages: never with a user name or password in it.
    pub host: String,
    key: Option<HeaderValue>,
}

impl Route {
    /// `Input` when there is neither key nor address, or one of them cannot be used.
    pub fn new(dialect: Dialect, credentials: &Credentials) -> Result<Self, Fault> {
        let (key, named) = (dialect.key(credentials), dialect.base(credentials));
        let (keys, _) = dialect.variables();
        let key_name = key.map_or(keys[0], |(name, _)| name);
        if key.is_none() && named.is_none() {
            return Err(
                Fault::input(format!("no key is at hand for this model: {key_name} is not set")).hint(NO_KEY_HINT)
            );
        }
        let (base_name, base) = named.unwrap_or(match dialect {
            Dialect::Anthropic => ("", "https://api.anthropic.com"),
            Dialect::Gemini => ("", "https://generativelanguage.googleapis.com"),
            Dialect::OpenAi => ("", "https://api.openai.com/v1"),
        });
        let url = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            return Err(Fault::input(format!("{base_name} is not an http or https address"))
                .hint("write it like https://models.example.com"));
        };
        let key = key.map(|(_, key)| dialect.key_value(key)).transpose().map_err(|_| {
            Fault::input(format!("{key_name} cannot be a key: it holds characters that no header can carry"))
                .hint("copy the key again, without spaces or line breaks")
        })?;
        let base = base.trim_end_matches('/');
        let base = match dialect {
            Dialect::Anthropic => base.strip_suffix("/v1").unwrap_or(base),
            Dialect::Gemini => base.strip_suffix("/v1beta").unwrap_or(base),
            Dialect::OpenAi => base,
        };
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        Ok(Self { dialect, base: base.to_owned(), host, key })
    }

    /// The address of `path`, which begins with `/v1/` or `/v1beta/` and may have a query.
    pub fn url(&self, path: &str) -> Result<Url, Fault> {
        let path = match self.dialect {
            Dialect::Anthropic | Dialect::Gemini => path,
            Dialect::OpenAi => path.strip_prefix("/v1").unwrap_or(path),
        };
        let whole = format!("{}{path}", self.base);
        Url::parse(&whole).map_err(|err| Fault::input(format!("`{path}` is no path of {}: {err}", self.host)))
    }

    /// The address where streamed replies of a model come from.
    pub fn replies(&self, model: &str) -> Result<Url, Fault> {
        match self.dialect {
            Dialect::Anthropic => self.url("/v1/messages"),
            Dialect::Gemini => self.url(&gemini::replies(model)),
            Dialect::OpenAi => self.url("/v1/chat/completions"),
        }
    }

    /// Puts the key on, and takes any other key off.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        headers.remove("x-api-key");
        headers.remove("x-goog-api-key");
        headers.remove(reqwest::header::AUTHORIZATION);
        if let Some(key) = &self.key {
            let name = match self.dialect {
                Dialect::Anthropic => HeaderName::from_static("x-api-key"),
                Dialect::Gemini => HeaderName::from_static("x-goog-api-key"),
                Dialect::OpenAi => reqwest::header::AUTHORIZATION,
            };
            headers.insert(name, key.clone());
        }
    }

    /// The headers of a call that is our own.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(
            reqwest::header::USER_AGENT,
            HeaderValue::from_static(concat!("overnight/", env!("CARGO_PKG_VERSION"))),
        );
        if self.dialect == Dialect::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static(anthropic::VERSION));
        }
        self.stamp(&mut headers);
        headers
    }
}

impl Dialect {
    /// The key, after the variable that holds it.
    fn key(self, credentials: &Credentials) -> Option<(&'static str, &str)> {
        first(self.variables().0, credentials)
    }

    /// The address, after the variable that holds it.
    fn base(self, credentials: &Credentials) -> Option<(&'static str, &str)> {
        first(self.variables().1, credentials)
    }

    fn key_value(self, key: &str) -> Result<HeaderValue, reqwest::header::InvalidHeaderValue> {
        let mut value = match self {
            Self::Anthropic | Self::Gemini => HeaderValue::from_str(key)?,
            Self::OpenAi => HeaderValue::from_str(&format!("Bearer {key}"))?,
        };
        value.set_sensitive(true);
        Ok(value)
    }
}

fn first<'a>(names: &'static [&'static str], credentials: &'a Credentials) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|name| Some((*name, credentials.get(name)?.trim()))).filter(|(_, value)| !value.is_empty())
}
