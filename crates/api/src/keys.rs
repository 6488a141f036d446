//! The installation's provider keys: written here, never read out.

use axum::{Json, extract::State};
use domain::{Fault, ports::model::Credentials};

use crate::{
    App,
    extract::{Answer, Body, Segment},
    wire::{self, house::Kept},
};

/// Where [`domain::ports::store::Secrets`] keeps them.
pub(crate) const SCOPE: &str = "home";

/// A provider and the variables of its key and address, as in [`Credentials::VARIABLES`].
struct Provider {
    name: &'static str,
    api_key: &'static str,
    base_url: &'static str,
}

const PROVIDERS: [Provider; 3] = [
    Provider { name: "anthropic", api_key: "ANTHROPIC_API_KEY", base_url: "ANTHROPIC_BASE_URL" },
    Provider { name: "gemini", api_key: "GEMINI_API_KEY", base_url: "GEMINI_BASE_URL" },
    Provider { name: "openai", api_key: "OPENAI_API_KEY", base_url: "OPENAI_BASE_URL" },
];

impl Provider {
    fn find(name: &str) -> Result<&'static Self, Fault> {
        PROVIDERS.iter().find(|provider| provider.name == name).ok_or_else(|| {
            let names = PROVIDERS.map(|provider| provider.name).join(", ");
            Fault::not_found(format!("there is no provider `{name}`")).hint(format!("the providers are {names}"))
        })
    }

    fn shown(&self, kept: &Credentials) -> wire::Key {
        let is_kept = |variable| if kept.get(variable).is_some() { Kept::Set } else { Kept::Absent };
        wire::Key { provider: self.name.to_owned(), api_key: is_kept(self.api_key), base_url: is_kept(self.base_url) }
    }
}

pub(crate) async fn list(State(app): State<App>) -> Answer<wire::Keys> {
    let kept = app.ports().secrets.get(SCOPE.to_owned()).await?;
    Ok(Json(wire::Keys { keys: PROVIDERS.iter().map(|provider| provider.shown(&kept)).collect() }))
}

pub(crate) async fn show(State(app): State<App>, Segment(name): Segment) -> Answer<wire::Key> {
    let provider = Provider::find(&name)?;
    Ok(Json(provider.shown(&app.ports().secrets.get(SCOPE.to_owned()).await?)))
}

pub(crate) async fn set(
    State(app): State<App>,
    Segment(name): Segment,
    Body(asked): Body<wire::SetKey>,
) -> Answer<wire::Key> {
    let provider = Provider::find(&name)?;
    let api_key = asked.api_key.map(|key| key.trim().to_owned());
    if api_key.as_deref().is_some_and(|key| key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Fault::input("`api_key` is no key: a key is visible ASCII characters without blanks").into());
    }
    if asked.base_url.as_deref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        return Err(Fault::input("`base_url` does not start with `http://` or `https://`")
            .hint("give the address whole, such as `http://127.0.0.1:8080/v1`")
            .into());
    }
    if api_key.is_none() && asked.base_url.is_none() {
        return Err(Fault::input("neither `api_key` nor `base_url` is given").hint("give one of them, or both").into());
    }
    let _turn = app.keys.lock().await;
    let mut kept = app.ports().secrets.get(SCOPE.to_owned()).await?;
    for (variable, value) in [(provider.api_key, api_key), (provider.base_url, asked.base_url)] {
        if let Some(value) = value {
            kept.0.insert(variable.to_owned(), value);
        }
    }
    let shown = provider.shown(&kept);
    app.ports().secrets.put(SCOPE.to_owned(), kept).await?;
    Ok(Json(shown))
}

pub(crate) async fn forget(State(app): State<App>, Segment(name): Segment) -> Answer<wire::Key> {
    let provider = Provider::find(&name)?;
    let _turn = app.keys.lock().await;
    let mut kept = app.ports().secrets.get(SCOPE.to_owned()).await?;
    kept.0.retain(|variable, _| variable != provider.api_key && variable != provider.base_url);
    let shown = provider.shown(&kept);
    app.ports().secrets.put(SCOPE.to_owned(), kept).await?;
    Ok(Json(shown))
}
