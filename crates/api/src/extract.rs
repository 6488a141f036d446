//! What a handler is given of a request: body, query, task id, and who speaks.

use std::path::PathBuf;

use axum::{
    Json,
    body::to_bytes,
    extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use domain::{
    Fault,
    ids::{Actor, TaskId, Via},
};
use serde::de::DeserializeOwned;

use crate::{
    App,
    door::Peer,
    mistakes::explain,
    problem::Failure,
    wire::{COMMAND_LINE_AGENT, IDEMPOTENCY_HEADER},
};

/// The most a request's body may hold, in bytes.
const MAX_BODY: usize = 4 << 20;

/// A JSON body. None at all is `{}`.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failure> {
        let json = is_json(request.headers());
        let bytes = to_bytes(request.into_body(), MAX_BODY).await.map_err(|error| unread(&error))?;
        if bytes.is_empty() {
            return read(b"{}").map(Self);
        }
        if !json {
            let fault = Fault::input("the body is not JSON").hint("send it with `Content-Type: application/json`");
            return Err(Failure::with(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault));
        }
        read(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn unread(error: &axum::Error) -> Failure {
    use std::error::Error as _;
    if error.source().is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
        let fault = Fault::input(format!("the body is larger than {} MB", MAX_BODY >> 20))
            .hint("put long material into a file of the repository and name it");
        return Failure::with(StatusCode::PAYLOAD_TOO_LARGE, fault);
    }
    Failure::with(StatusCode::BAD_REQUEST, Fault::input(format!("the body broke off: {error}")).hint("send it again"))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        let error = error.into_inner();
        if !error.is_data() {
            let fault = Fault::input(format!("the body is not JSON: {error}")).hint("send a JSON object");
            return Failure::with(StatusCode::BAD_REQUEST, fault);
        }
        let message = error.to_string();
        // The place says more than a line and column of JSON that nobody wrote by hand.
        let fault = described(message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message));
        // An unknown field's place ends with its name, which the message has already.
        let place = match fault.what.starts_with("unknown field") {
            true => place.rsplit_once('.').map_or(".", |(parent, _)| parent),
            false => &place,
        };
        Failure::from(if place == "." { fault } else { fault.at(format_args!("`{place}`")) })
    })?;
    reader.end().map_err(|error| {
        let fault = Fault::input(format!("the body goes on after its JSON: {error}")).hint("send one JSON object");
        Failure::with(StatusCode::BAD_REQUEST, fault)
    })?;
    Ok(value)
}

/// As [`explain`], never without a hint.
fn described(message: &str) -> Fault {
    let mut fault = explain(message);
    fault.hint.get_or_insert_with(|| "docs/api.md describes what is expected".to_owned());
    fault
}

/// Query parameters; unknown ones are refused.
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        Query::try_from_uri(&parts.uri).map(|Query(value)| Self(value)).map_err(|rejection| {
            let text = rejection.body_text();
            let message = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            described(message).at("the address").into()
        })
    }
}

/// The `{id}` of a task's route.
pub(crate) struct Id(pub TaskId);

impl FromRequestParts<App> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let Segment(text) = Segment::from_request_parts(parts, app).await?;
        text.parse().map(Self).map_err(|error: domain::ids::NotATaskId| {
            Fault::input(error.to_string()).hint("`overnight list` shows the tasks there are").into()
        })
    }
}

/// Errors: `Input` for a directory that only the client could make sense of.
pub(crate) fn absolute(directory: PathBuf) -> Result<PathBuf, Fault> {
    if directory.is_absolute() {
        return Ok(directory);
    }
    let what = format!("`{}` is not an absolute path", directory.display());
    Err(Fault::input(what).hint("the daemon does not know where you stand"))
}

/// The one variable segment of a route, as text.
pub(crate) struct Segment(pub String);

impl FromRequestParts<App> for Segment {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        match Path::<String>::from_request_parts(parts, app).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(rejection) => Err(Fault::input(rejection.body_text()).into()),
        }
    }
}

/// Who speaks, through what, and under which idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub actor: Actor,
    pub via: Via,
    /// The client's, or a fresh one.
    pub key: String,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
        let actor = Actor::Person(app.people.name(peer.and_then(|peer| peer.uid)));
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let via = if agent.starts_with(COMMAND_LINE_AGENT) { Via::CommandLine } else { Via::Http };
        let key = match parts.headers.get(IDEMPOTENCY_HEADER) {
            None => uuid::Uuid::now_v7().to_string(),
            Some(value) => match value.to_str() {
                Ok(key) if (1..=200).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    key.to_owned()
                }
                Ok(_) | Err(_) => {
                    return Err(Fault::input("the `Idempotency-Key` is not 1 to 200 visible ASCII characters")
                        .hint("a UUID is a good key")
                        .into());
                }
            },
        };
        Ok(Self { actor, via, key })
    }
}

/// What a handler returns besides files and streams.
pub(crate) type Answer<T> = Result<Json<T>, Failure>;
