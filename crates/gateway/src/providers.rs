//! Providers: where they are, what their keys are called and how these are carried, and what they speak.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use domain::{
    Fault,
    ports::model::{Credentials, Protocol},
};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;

/// Stands between the name of a variable and that of an account: `OPENAI_API_KEY@work`.
const OF: char = '@';
/// What an account without a name of its own is called.
const PLAIN: &str = "default";
/// Headers that carry a client's key.
pub(crate) const KEYS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// A provider of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Forces it on a model: `NAME/MODEL`. Lower case, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it speaks, best first.
    #[serde(default = "chat_completions")]
    pub protocols: Vec<Protocol>,
    /// As its clients take it: with the `/v1` where the provider speaks one of `OpenAI`'s protocols, else without.
    pub base_url: String,
    /// The variable of its key; `None`: it wants none.
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub header: KeyHeader,
    /// Sent with every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

fn chat_completions() -> Vec<Protocol> {
    vec![Protocol::ChatCompletions]
}

/// The header that carries a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    #[default]
    Bearer,
    XApiKey,
    ApiKey,
    XGoogApiKey,
}

impl KeyHeader {
    fn name(self) -> HeaderName {
        let [authorization, x_api_key, api_key, x_goog_api_key] = KEYS;
        match self {
            Self::Bearer => authorization,
            Self::XApiKey => x_api_key,
            Self::ApiKey => api_key,
            Self::XGoogApiKey => x_goog_api_key,
        }
    }

    /// `None`: no header can carry it.
    fn value(self, key: &str) -> Option<HeaderValue> {
        let mut value = match self {
            Self::Bearer => HeaderValue::from_str(&format!("Bearer {key}")),
            Self::XApiKey | Self::ApiKey | Self::XGoogApiKey => HeaderValue::from_str(key),
        }
        .ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// How a provider's addresses are made of its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The base is before the version, which stands in the path.
    Root,
    /// The base holds the version.
    Versioned,
    /// Azure's: models are deployments, and older resources have them in the path.
    Azure,
}

#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub name: String,
    /// Best first, at the provider's own address.
    protocols: Vec<Protocol>,
    /// Where nothing else is said. `{VARIABLE}` stands for what that variable holds. `None`: it must be said.
    base: Option<String>,
    /// Of several, the first one that is set counts.
    base_variables: Vec<String>,
    key_variables: Vec<String>,
    header: KeyHeader,
    headers: HeaderMap,
    pub form: Form,
    /// It runs on one's own machine, and asks for no key.
    is_local: bool,
    /// Whether the table of prices is about it.
    pub is_priced: bool,
}

/// One way into a provider: a key, and the address it is for.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub name: String,
    /// The same for all attempts that have this key at this address.
    pub id: u64,
    /// Without a slash at its end.
    pub base: String,
    /// For messages: never with a user name or password in it.
    pub host: String,
    /// Best first, at this address.
    pub protocols: Vec<Protocol>,
    key: Option<(HeaderName, HeaderValue)>,
    headers: HeaderMap,
    pub form: Form,
    /// Of Azure's older interface.
    pub api_version: Option<String>,
}

impl Account {
    /// Puts the key on, and takes any other key off.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        for name in KEYS {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        if let Some((name, key)) = &self.key {
            headers.insert(name.clone(), key.clone());
        }
    }
}

/// The providers that are known without being configured.
pub(crate) fn known() -> Vec<Provider> {
    use Protocol::{ChatCompletions as Chat, GenerateContent, Messages, Responses};
    let row = |name: &str, protocols: &[Protocol], base: Option<&str>, (bases, keys): (&[&str], &[&str])| Provider {
        name: name.to_owned(),
        protocols: protocols.to_vec(),
        base: base.map(str::to_owned),
        base_variables: bases.iter().map(|name| (*name).to_owned()).collect(),
        key_variables: keys.iter().map(|name| (*name).to_owned()).collect(),
        header: KeyHeader::Bearer,
        headers: HeaderMap::new(),
        form: Form::Versioned,
        is_local: false,
        is_priced: false,
    };
    let local = |name: &str, base: &str, variables: (&[&str], &[&str])| Provider {
        is_local: true,
        ..row(name, &[Chat, Responses, Messages], Some(base), variables)
    };
    let mut openrouter = HeaderMap::new();
    openrouter.insert("x-title", HeaderValue::from_static("Overnight"));
    vec![
        Provider {
            header: KeyHeader::XApiKey,
            form: Form::Root,
            is_priced: true,
            ..row(
                "anthropic",
                &[Messages],
                Some("https://api.anthropic.com"),
                (&["ANTHROPIC_BASE_URL"], &["ANTHROPIC_API_KEY"]),
            )
        },
        Provider {
            is_priced: true,
            ..row(
                "openai",
                &[Responses, Chat],
                Some("https://api.openai.com/v1"),
                (&["OPENAI_BASE_URL"], &["OPENAI_API_KEY"]),
            )
        },
        Provider {
            header: KeyHeader::XGoogApiKey,
            form: Form::Root,
            is_priced: true,
            ..row(
                "gemini",
                &[GenerateContent],
                Some("https://generativelanguage.googleapis.com"),
                (&["GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"], &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
            )
        },
        Provider {
            header: KeyHeader::ApiKey,
            form: Form::Azure,
            ..row("azure", &[Responses, Chat], None, (&["AZURE_OPENAI_ENDPOINT"], &["AZURE_OPENAI_API_KEY"]))
        },
        row(
            "bedrock",
            &[Chat],
            Some("https://bedrock-runtime.{AWS_REGION}.amazonaws.com/openai/v1"),
            (&["BEDROCK_BASE_URL"], &["AWS_BEARER_TOKEN_BEDROCK"]),
        ),
        Provider {
            headers: openrouter,
            ..row(
                "openrouter",
                &[Chat, Messages, Responses],
                Some("https://openrouter.ai/api/v1"),
                (&["OPENROUTER_BASE_URL"], &["OPENROUTER_API_KEY"]),
            )
        },
        local("ollama", "http://127.0.0.1:11434/v1", (&["OLLAMA_HOST"], &["OLLAMA_API_KEY"])),
        local("vllm", "http://127.0.0.1:8000/v1", (&["VLLM_BASE_URL"], &["VLLM_API_KEY"])),
        local("llamacpp", "http://127.0.0.1:8080/v1", (&["LLAMACPP_BASE_URL"], &["LLAMA_API_KEY"])),
    ]
}

impl Provider {
    /// Of the configuration. `Input`: something in it cannot be.
    pub fn configured(config: ProviderConfig) -> Result<Self, Fault> {
        let ProviderConfig { name, protocols, base_url, key, header, headers } = config;
        let wrong = |what: String| Fault::input(what).at(format!("provider `{name}`"));
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_part) {
            return Err(wrong("a name is made of lower case, digits, `-`, `_` and `.`".to_owned()));
        }
        if protocols.is_empty() {
            return Err(wrong("it must speak one protocol at least".to_owned()));
        }
        if !is_address(&base_url) {
            return Err(wrong("`base_url` is not an http or https address".to_owned())
                .hint("write it like https://models.example.com"));
        }
        let mut sent = HeaderMap::new();
        for (header, value) in headers {
            let (Ok(header), Ok(value)) = (header.parse::<HeaderName>(), value.parse()) else {
                return Err(wrong(format!("`{header}` cannot be sent as a header")));
            };
            sent.insert(header, value);
        }
        let of_openai = |protocol: &Protocol| matches!(protocol, Protocol::ChatCompletions | Protocol::Responses);
        Ok(Self {
            form: if protocols.iter().any(of_openai) { Form::Versioned } else { Form::Root },
            protocols,
            base: Some(base_url),
            base_variables: Vec::new(),
            is_local: key.is_none(),
            key_variables: key.into_iter().collect(),
            header,
            headers: sent,
            is_priced: false,
            name,
        })
    }

    /// What it speaks, best first, at the provider's own address.
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// Whether anything says that this provider is to be asked. One's own machine is where its address is said.
    pub fn is_at_hand(&self, credentials: &Credentials) -> bool {
        let of = |variable: &String| !names(variable, credentials).is_empty();
        self.base_variables.iter().chain(&self.key_variables).any(of)
            || (self.base_variables.is_empty() && self.is_local)
    }

    /// Whether it can be asked with a key.
    pub fn has_key(&self, credentials: &Credentials) -> bool {
        self.key_variables.iter().any(|variable| !names(variable, credentials).is_empty())
    }

    /// The accounts in which it can be asked: those of `order`, or the plain one first and then the others by their names.
    /// `Input` when there is none, or when a key or an address cannot be used.
    pub fn accounts(&self, credentials: &Credentials, order: &[String]) -> Result<Vec<Account>, Fault> {
        let mut found: Vec<&str> =
            self.key_variables.iter().flat_map(|variable| names(variable, credentials)).collect();
        // `None` of a tuple's sorts first: the plain one.
        found.sort_unstable_by_key(|name| (*name != PLAIN, *name));
        found.dedup();
        let keyless = self.is_local || self.base_variables.iter().any(|name| !names(name, credentials).is_empty());
        if found.is_empty() && keyless {
            found.push(PLAIN);
        }
        if !order.is_empty() {
            found = order.iter().map(String::as_str).filter(|name| found.contains(name)).collect();
        }
        if found.is_empty() {
            return Err(self.no_account(order));
        }
        found.into_iter().map(|name| self.account(name, credentials)).collect()
    }

    fn no_account(&self, order: &[String]) -> Fault {
        let variable = self.key_variables.first().or(self.base_variables.first()).map_or("its key", String::as_str);
        match order {
            [] => Fault::input(format!("no key is at hand for this model: {variable} is not set")).hint(NO_KEY_HINT),
            order => Fault::input(format!("none of the accounts of this model has a key: {}", order.join(", ")))
                .hint(format!("an account's key is called {variable}@NAME; `{PLAIN}` is the one without a name")),
        }
    }

    fn account(&self, name: &str, credentials: &Credentials) -> Result<Account, Fault> {
        let key = self.key_variables.iter().find_map(|variable| value(variable, name, credentials));
        let said = self
            .base_variables
            .iter()
            .find_map(|variable| value(variable, name, credentials).or_else(|| value(variable, PLAIN, credentials)));
        let (base_name, base) = match said {
            Some((variable, base)) => {
                let base = complete(&variable, base);
                (variable, base)
            }
            None => (self.name.clone(), self.own_base(credentials)?),
        };
        if !is_address(&base) {
            return Err(Fault::input(format!("{base_name} is not an http or https address"))
                .hint("write it like https://models.example.com"));
        }
        let carried = key.as_ref().map(|(variable, key)| {
            self.header.value(key).map(|value| (self.header.name(), value)).ok_or_else(|| {
                Fault::input(format!("{variable} cannot be a key: it holds characters that no header can carry"))
                    .hint("copy the key again, without spaces or line breaks")
            })
        });
        let base = base.trim_end_matches('/');
        let base = match self.form {
            Form::Versioned => base,
            Form::Azure => base.strip_suffix("/openai/v1").or(base.strip_suffix("/openai")).unwrap_or(base),
            Form::Root => base.strip_suffix("/v1").or(base.strip_suffix("/v1beta")).unwrap_or(base),
        };
        let mut protocols = self.protocols.clone();
        if self.name == "openai" && self.base.as_deref() != Some(base) {
            // Most servers that `OpenAI`'s clients can be pointed at know the older one better.
            protocols.sort_by_key(|protocol| *protocol != Protocol::ChatCompletions);
        }
        let mut id = DefaultHasher::new();
        (&self.name, base, key.map(|(_, key)| key)).hash(&mut id);
        Ok(Account {
            name: name.to_owned(),
            id: id.finish(),
            host: host(base),
            base: base.to_owned(),
            protocols,
            key: carried.transpose()?,
            headers: self.headers.clone(),
            form: self.form,
            api_version: value("AZURE_OPENAI_API_VERSION", PLAIN, credentials).map(|(_, version)| version.to_owned()),
        })
    }

    /// The provider's own address.
    fn own_base(&self, credentials: &Credentials) -> Result<String, Fault> {
        let Some(base) = &self.base else {
            let variable = self.base_variables.first().map_or("its address", String::as_str);
            return Err(Fault::input(format!("{variable} is not set"))
                .hint("set it to the address of your resource, like https://NAME.openai.azure.com"));
        };
        let Some((front, (variable, back))) =
            base.split_once('{').and_then(|(front, rest)| Some((front, rest.split_once('}')?)))
        else {
            return Ok(base.clone());
        };
        let (_, value) = value(variable, PLAIN, credentials).ok_or_else(|| {
            let all = self.base_variables.join(", ");
            Fault::input(format!("{variable} is not set, which is a part of the address of {}", self.name))
                .hint(format!("set it, or give the whole address in {all}"))
        })?;
        Ok(format!("{front}{value}{back}"))
    }
}

pub(crate) const NO_KEY_HINT: &str = "set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or OPENROUTER_API_KEY, or store a key with \
     `overnight key set anthropic`; ANTHROPIC_BASE_URL, OPENAI_BASE_URL, GEMINI_BASE_URL or OLLAMA_HOST alone reach a local server; \
     `overnight demo` needs no key";

/// The accounts for which a variable is set.
fn names<'a>(variable: &str, credentials: &'a Credentials) -> Vec<&'a str> {
    let set = credentials.0.iter().filter(|(_, value)| !value.trim().is_empty());
    let names = set.filter_map(|(name, _)| match name.strip_prefix(variable)? {
        "" => Some(PLAIN),
        rest => rest.strip_prefix(OF).filter(|name| !name.is_empty()),
    });
    names.collect()
}

/// What a variable holds for an account, after its whole name.
fn value<'a>(variable: &str, account: &str, credentials: &'a Credentials) -> Option<(String, &'a str)> {
    let name = if account == PLAIN { variable.to_owned() } else { format!("{variable}{OF}{account}") };
    let value = credentials.get(&name)?.trim();
    (!value.is_empty()).then_some((name, value))
}

/// `OLLAMA_HOST` is the address of a server in its own words: `0.0.0.0`, `box:11434`, `http://box`.
fn complete(variable: &str, base: &str) -> String {
    if !variable.starts_with("OLLAMA_HOST") {
        return base.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').map_or((rest, "v1"), |(host, path)| (host, path));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let (name, port) = if has_port { host.rsplit_once(':').unwrap_or((host, "")) } else { (host, "11434") };
    // Where it listens, not where it is reached.
    let name = if name == "0.0.0.0" || name.is_empty() { "127.0.0.1" } else { name };
    format!("{scheme}://{name}:{port}/{path}")
}

fn is_address(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn host(base: &str) -> String {
    let Ok(url) = Url::parse(base) else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;

    fn account(provider: &str, set: &[(&str, &str)]) -> Account {
        let credentials =
            Credentials(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        let known = known().into_iter().find(|known| known.name == provider).unwrap();
        known.accounts(&credentials, &[]).unwrap().remove(0)
    }

    #[test]
    fn every_provider_has_its_addresses_and_its_header() {
        const CHAT: &str = "/v1/chat/completions";
        let azure = ("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com/");
        for (provider, set, path, address, header) in [
            (
                "anthropic",
                &[("ANTHROPIC_API_KEY", "k")][..],
                "/v1/messages",
                "https://api.anthropic.com/v1/messages",
                "x-api-key",
            ),
            ("openai", &[("OPENAI_API_KEY", "k")], CHAT, "https://api.openai.com/v1/chat/completions", "authorization"),
            (
                "gemini",
                &[("GOOGLE_API_KEY", "k")],
                "/v1beta/models?x=1",
                "https://generativelanguage.googleapis.com/v1beta/models?x=1",
                "x-goog-api-key",
            ),
            (
                "openrouter",
                &[("OPENROUTER_API_KEY", "k")],
                CHAT,
                "https://openrouter.ai/api/v1/chat/completions",
                "authorization",
            ),
            (
                "openrouter",
                &[("OPENROUTER_API_KEY", "k")],
                "/v1/messages",
                "https://openrouter.ai/api/v1/messages",
                "authorization",
            ),
            (
                "bedrock",
                &[("AWS_BEARER_TOKEN_BEDROCK", "k"), ("AWS_REGION", "eu-west-1")],
                CHAT,
                "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1/chat/completions",
                "authorization",
            ),
            (
                "azure",
                &[azure, ("AZURE_OPENAI_API_KEY", "k")],
                "/v1/responses",
                "https://x.openai.azure.com/openai/v1/responses",
                "api-key",
            ),
            (
                "azure",
                &[azure, ("AZURE_OPENAI_API_KEY", "k"), ("AZURE_OPENAI_API_VERSION", "2025-01-01")],
                CHAT,
                "https://x.openai.azure.com/openai/deployments/m/chat/completions?api-version=2025-01-01",
                "api-key",
            ),
            ("ollama", &[], CHAT, "http://127.0.0.1:11434/v1/chat/completions", ""),
            ("ollama", &[("OLLAMA_HOST", "0.0.0.0")], CHAT, "http://127.0.0.1:11434/v1/chat/completions", ""),
            ("ollama", &[("OLLAMA_HOST", "https://box:9/")], CHAT, "https://box:9/v1/chat/completions", ""),
            ("vllm", &[("VLLM_API_KEY", "k")], CHAT, "http://127.0.0.1:8000/v1/chat/completions", "authorization"),
            (
                "llamacpp",
                &[("LLAMACPP_BASE_URL", "http://box:8080/v1/")],
                CHAT,
                "http://box:8080/v1/chat/completions",
                "",
            ),
        ] {
            let account = account(provider, set);
            let mut headers = HeaderMap::from_iter([(KEYS[0].clone(), HeaderValue::from_static("Bearer agents-own"))]);
            account.stamp(&mut headers);
            let names = KEYS;
            let keys: Vec<_> =
                names.iter().filter(|name| headers.contains_key(*name)).map(HeaderName::as_str).collect();
            assert_eq!(keys.join(""), header, "{provider}");
            let route = Route { provider: provider.to_owned(), account, model: "m".to_owned(), is_fallback: false };
            assert_eq!(route.url(path, "m").unwrap().as_str(), address);
        }
    }

    #[test]
    fn accounts_come_in_order_each_with_its_own() {
        let credentials = Credentials(
            [
                ("OPENAI_API_KEY@work", "w"),
                ("OPENAI_API_KEY@home", "h"),
                ("OPENAI_API_KEY", "p"),
                ("OPENAI_API_KEY@empty", " "),
                ("OPENAI_API_KEY_OLD", "o"),
                ("OPENAI_BASE_URL@work", "https://work.example/v1"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        );
        let openai = known().remove(1);
        let names = |order: &[&str]| {
            let order: Vec<_> = order.iter().map(|name| (*name).to_owned()).collect();
            let accounts = openai.accounts(&credentials, &order)?;
            Ok::<_, Fault>(accounts.into_iter().map(|account| (account.name, account.host)).collect::<Vec<_>>())
        };
        let of = |name: &str, host: &str| (name.to_owned(), host.to_owned());
        let (plain, home) = (of("default", "api.openai.com"), of("home", "api.openai.com"));
        let work = of("work", "work.example");
        assert_eq!(names(&[]).unwrap(), [plain.clone(), home, work.clone()]);
        assert_eq!(names(&["work", "gone", "default"]).unwrap(), [work, plain]);
        assert!(names(&["gone"]).unwrap_err().to_string().contains("OPENAI_API_KEY@NAME"));
        let ids: std::collections::HashSet<_> =
            openai.accounts(&credentials, &[]).unwrap().into_iter().map(|account| account.id).collect();
        assert_eq!(ids.len(), 3);
        let shown = format!("{:?}", openai.accounts(&credentials, &[]));
        assert!(!shown.contains("Bearer"), "a key is never shown: {shown}");
    }
}
