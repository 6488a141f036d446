//! Which models there are: those of the configuration, and those that the providers at hand say they have.

use std::time::Duration;

use domain::{
    Fault,
    ports::model::{Credentials, ModelInfo, Protocol},
};
use futures::future::join_all;
use reqwest::{Method, header::ACCEPT};
use serde::Deserialize;

use crate::{
    catalogue::{Catalogue, DEFAULTS, Named},
    providers::{Account, Form, Provider},
    route::Route,
    upstream::{Outgoing, Upstream},
};

/// How long a provider may take to say what it has.
const LIST_WITHIN: Duration = Duration::from_secs(5);
/// The longest list that is read: the largest of the known ones is a tenth of it.
const LIST_BYTES: usize = 16 << 20;
/// What stands in the names of models that no agent can work with.
const OTHER_TRADES: [&str; 12] = [
    "embed",
    "whisper",
    "tts",
    "audio",
    "realtime",
    "transcribe",
    "image",
    "dall-e",
    "moderation",
    "sora",
    "veo",
    "imagen",
];

/// What a provider says it has. `None`: it gives no list.
type List = Result<Option<Vec<String>>, Fault>;

/// See [`domain::ports::model::Gateways::models`].
pub(crate) async fn models(catalogue: &Catalogue, upstream: &Upstream, credentials: &Credentials) -> Vec<ModelInfo> {
    let is_configured = |provider: &Provider| {
        catalogue
            .models
            .iter()
            .any(|model| catalogue.provider(&model.provider).is_some_and(|of| of.name == provider.name))
    };
    let asked =
        catalogue.providers.iter().filter(|provider| provider.is_at_hand(credentials) || is_configured(provider));
    let lists = asked.map(async |provider| {
        let list = match provider.accounts(credentials, &[]) {
            Ok(accounts) => list(upstream, provider, &accounts[0]).await,
            Err(fault) => Err(fault),
        };
        (provider, list)
    });
    let lists: Vec<(&Provider, List)> = join_all(lists).await;
    lists.iter().flat_map(|(provider, list)| of_one(catalogue, upstream, (provider, list), credentials)).collect()
}

/// The models of one provider: configured ones, then what it has, with its default in any case.
fn of_one(
    catalogue: &Catalogue,
    upstream: &Upstream,
    (provider, list): (&Provider, &List),
    credentials: &Credentials,
) -> Vec<ModelInfo> {
    let has = |model: &str| {
        list.as_ref().map(|list| list.as_ref().map(|list| list.iter().any(|name| name == model))).map_err(Fault::clone)
    };
    let info = |name: String, named: Named<'_>| {
        let accounts = named.accounts(credentials).unwrap_or_default();
        let first = accounts.first();
        let price = catalogue.price(&provider.name, named.model, upstream.today());
        let windows =
            accounts.iter().map(|account| upstream.windows().shut_until(Route::window_of(account, named.model)));
        ModelInfo {
            name,
            provider: provider.name.clone(),
            host: first.map(|account| account.host.clone()).unwrap_or_default(),
            protocols: first.map_or_else(|| provider.protocols().to_vec(), |account| account.protocols.clone()),
            price: price.map(|price| price.of_a_million()),
            priced_since: price.and_then(|price| price.since),
            reachable: has(named.model),
            // Held as a whole only while each of them is.
            held_until: windows.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min()),
            accounts: accounts.into_iter().map(|account| account.name).collect(),
        }
    };
    let configured = catalogue.models.iter().filter_map(|model| {
        let named = catalogue.named(&model.name).ok()?;
        (named.provider.name == provider.name).then(|| info(model.name.clone(), named))
    });
    let mut known: Vec<&str> =
        DEFAULTS.iter().filter(|(of, _)| *of == provider.name).map(|(_, model)| *model).collect();
    for model in list.iter().flatten().flatten() {
        if !known.contains(&model.as_str()) && is_for_agents(model) {
            known.push(model);
        }
    }
    let listed = known.into_iter().filter_map(|model| {
        let full = format!("{}/{model}", provider.name);
        // By its bare name where that means the same.
        let name = match catalogue.named(model) {
            Ok(named) if named.provider.name == provider.name && named.model == model => model,
            Ok(_) | Err(_) => &full,
        };
        Some(info(name.to_owned(), catalogue.named(name).ok()?))
    });
    configured.chain(listed).collect()
}

fn is_for_agents(model: &str) -> bool {
    !OTHER_TRADES.iter().any(|trade| model.contains(trade))
}

async fn list(upstream: &Upstream, provider: &Provider, account: &Account) -> List {
    // What is deployed there, only its resource manager tells.
    if provider.form == Form::Azure {
        return Ok(None);
    }
    let asking = ask(upstream, provider, account);
    tokio::time::timeout(LIST_WITHIN, asking).await.unwrap_or_else(|_| {
        Err(Fault::transient(format!("{} gave no list of its models within {LIST_WITHIN:?}", account.host)))
    })
}

async fn ask(upstream: &Upstream, provider: &Provider, account: &Account) -> List {
    let protocol = account.protocols.first().copied().unwrap_or(Protocol::ChatCompletions);
    let route =
        Route { provider: provider.name.clone(), account: account.clone(), model: String::new(), is_fallback: false };
    let path = match protocol {
        Protocol::Messages => "/v1/models?limit=1000",
        Protocol::ChatCompletions | Protocol::Responses => "/v1/models",
        Protocol::GenerateContent => "/v1beta/models?pageSize=1000",
    };
    let mut headers = route.headers(protocol);
    headers.insert(ACCEPT, reqwest::header::HeaderValue::from_static("application/json"));
    let outgoing = Outgoing { method: Method::GET, url: route.url(path, "")?, headers, body: bytes::Bytes::new() };
    let host = &account.host;
    let mut response = match upstream.send(&outgoing).await? {
        Ok(response) if response.status().is_success() => response,
        Ok(response) if matches!(response.status().as_u16(), 404 | 405 | 501) => return Ok(None),
        Ok(response) => {
            let refusal = upstream.refusal(&outgoing, response).await;
            let fault = if refusal.is_about_the_key() { Fault::input } else { Fault::transient };
            return Err(fault(format!("{host} does not tell its models: {refusal}")));
        }
        Err(failed) => return Err(Fault::transient(format!("{host} cannot be reached: {}", failed.why))),
    };
    let body = upstream
        .body(&mut response, LIST_BYTES)
        .await
        .map_err(|(why, _)| Fault::transient(format!("the list of models of {host} broke off: {why}")))?;
    read(&body).map(Some).ok_or_else(|| Fault::transient(format!("{host} answered with no list of models")))
}

/// Reads a list in any of its forms. `None`: it is none.
fn read(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Answer {
        /// `OpenAI`'s and Anthropic's.
        data: Option<Vec<Entry>>,
        /// Gemini's.
        models: Option<Vec<Entry>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        id: Option<String>,
        name: Option<String>,
        supported_generation_methods: Option<Vec<String>>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    // Some servers fill in both, with the same.
    let entries = answer.data.or(answer.models)?;
    let answers = |entry: &Entry| {
        entry
            .supported_generation_methods
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|one| one == "generateContent"))
    };
    let name = |entry: Entry| {
        let name = entry.id.or(entry.name)?;
        Some(name.strip_prefix("models/").unwrap_or(&name).to_owned())
    };
    Some(entries.into_iter().filter(answers).filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_every_form() {
        let names = |body: &str| read(body.as_bytes());
        assert_eq!(names(r#"{"object":"list","data":[{"id":"gpt-6-sol"},{"object":"x"}]}"#).unwrap(), ["gpt-6-sol"]);
        let gemini = r#"{"models":[{"name":"models/gemini-9","supportedGenerationMethods":["generateContent"]},
            {"name":"models/embed","supportedGenerationMethods":["embedContent"]}]}"#;
        assert_eq!(names(gemini).unwrap(), ["gemini-9"]);
        let both = r#"{"models":[{"name":"a.gguf"}],"data":[{"id":"a"}]}"#;
        assert_eq!(names(both).unwrap(), ["a"]);
        assert!(names("<html>").is_none() && names("{}").is_none() && names("[]").is_none());
    }
}
