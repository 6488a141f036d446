//! The proxy's requests and answers.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use domain::ports::model::ModelFault;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    Desk, Entrance, Seat, gemini,
    meter::{self, Meter},
    rewrite,
};
use crate::{
    dialect::{self, Dialect, Protocol, Wire},
    payment::{Charge, Order, Payment},
    prices::Price,
    route::Route,
    upstream::{Answer, Outgoing, Refusal},
};

/// The longest request that is taken.
const REQUEST_BYTES: usize = 64 << 20;

type Response = hyper::Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Takes connections until it is aborted or its listener is shut, and they end with it. No more than `most` at a time; others wait.
pub(super) async fn accept(listener: TcpListener, entrance: Arc<Entrance>, most: usize) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < most => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let connection = match accepted {
            Ok((connection, _)) => connection,
            // What a listener says that was shut.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                // Out of descriptors, most likely: others will be given back.
                tracing::warn!(%error, "the gateway cannot take a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        // What is sent is small and waited for.
        let _ = connection.set_nodelay(true);
        let entrance = Arc::clone(&entrance);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let entrance = Arc::clone(&entrance);
                async move { Ok::<_, Infallible>(answer(&entrance, request).await) }
            });
            // An error here is a client that left; each call has settled itself.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Reply,
    /// Costs nothing: the count of a request's tokens, the list of models.
    Free,
}

/// Reads a path. `None`: there is no such thing.
fn wish(method: &Method, path: &str, headers: &HeaderMap) -> Option<(Wish, Protocol)> {
    if let Some((_, method_of_model)) = dialect::gemini::target(path) {
        let wish = match (method.as_str(), method_of_model) {
            ("POST", "generateContent" | "streamGenerateContent") => Wish::Reply,
            ("POST", "countTokens") => Wish::Free,
            _ => return None,
        };
        return Some((wish, Protocol::GenerateContent));
    }
    let is_list = |path: &str, models: &str| {
        let rest = path.strip_prefix(models);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/').is_some_and(is_name))
    };
    Some(match (method.as_str(), path) {
        ("GET", path) if is_list(path, "/v1beta/models") => (Wish::Free, Protocol::GenerateContent),
        ("POST", "/v1/messages") => (Wish::Reply, Protocol::Messages),
        ("POST", "/v1/messages/count_tokens") => (Wish::Free, Protocol::Messages),
        ("POST", "/v1/chat/completions") => (Wish::Reply, Protocol::ChatCompletions),
        ("POST", "/v1/responses") => (Wish::Reply, Protocol::Responses),
        ("POST", "/v1/responses/input_tokens") => (Wish::Free, Protocol::Responses),
        ("GET", path) if is_list(path, "/v1/models") => {
            let is_anthropics = headers.contains_key("anthropic-version");
            (Wish::Free, if is_anthropics { Protocol::Messages } else { Protocol::ChatCompletions })
        }
        _ => return None,
    })
}

/// Whether it can only be a model's name: a path with anything else in it could lead to other things that the key opens.
fn is_name(text: &str) -> bool {
    !text.starts_with('.') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:@".contains(&byte))
}

/// An answer of our own.
struct Refused {
    status: StatusCode,
    /// As the dialect's own errors call it.
    kind: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }
}

async fn answer(entrance: &Entrance, request: Request<Incoming>) -> Response {
    // Clients of `OpenAI`'s dialect have the `/v1` in their base address, or not.
    let path = request.uri().path();
    let path =
        if path.starts_with("/v1/") || path.starts_with("/v1beta/") { path.to_owned() } else { format!("/v1{path}") };
    let Some((wish, protocol)) = wish(request.method(), &path, request.headers()) else {
        let message = format!("the gateway has no {} {path}", request.method());
        let dialect = if path.starts_with("/v1beta/") { Dialect::Gemini } else { Dialect::Anthropic };
        return refuse(dialect, &Refused::new(StatusCode::NOT_FOUND, "not_found_error", message));
    };
    let passed = match wish {
        Wish::Reply => reply(entrance, protocol, &path, request).await,
        Wish::Free => free(entrance, protocol.dialect(), &path, request).await,
    };
    passed.unwrap_or_else(|refused| refuse(protocol.dialect(), &refused))
}

async fn reply(
    entrance: &Entrance,
    protocol: Protocol,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response, Refused> {
    let desk = &entrance.desk;
    let (seat, mut outgoing) = admit(entrance, protocol.dialect(), path, request).await?;
    let asked = match dialect::gemini::target(path) {
        Some((model, _)) => gemini::read(model, outgoing.body, desk.output_cap),
        None => rewrite::read(protocol, outgoing.body, desk.output_cap),
    };
    let asked = asked.map_err(|why| Refused::new(StatusCode::BAD_REQUEST, "invalid_request_error", why))?;
    record(desk, &seat, &asked);
    let order = Order {
        model: &asked.model,
        price: Price::of(&asked.model).filter(|_| !asked.is_surcharged),
        request_bytes: asked.body.len(),
        kept_input: kept_input(&seat, &asked.kept)?,
        max_output: asked.max_output,
    };
    outgoing.body = asked.body;
    if let Some(over) = seat.over.get() {
        return Err(over_budget(over.clone()));
    }
    let mut payment = match Payment::reserve(&desk.ledger, &seat.access, order).await {
        Ok(payment) => payment,
        Err(ModelFault::OverBudget(over)) => {
            tracing::info!(attempt = %seat.access.key, over, "the agent's call is refused, and all that follow");
            return Err(over_budget(seat.over.get_or_init(|| over).clone()));
        }
        Err(fault) => return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", fault.to_string())),
    };
    let mut patience = desk.upstream.patience();
    match desk.upstream.exchange(&outgoing, &mut patience, &mut payment.charge).await.map_err(unreached)? {
        Answer::Good(response) => {
            let (status, headers) = (response.status(), passing(response.headers()));
            let meter = Meter::new(protocol, payment, seat);
            let body = meter::metered(Arc::clone(&desk.upstream), response, meter);
            Ok(respond(status, headers, StreamBody::new(body).boxed_unsync()))
        }
        Answer::Refused(refusal) => Ok(pass(refusal)),
        Answer::Unreached(why) => Err(unreached(why)),
    }
}

/// What the request names and the provider keeps. What another attempt was told is nothing that this one may go on from.
fn kept_input(seat: &Seat, named: &rewrite::Kept) -> Result<u64, Refused> {
    let kept = seat.kept();
    let before = match &named.response {
        None => 0,
        Some(id) => *kept.responses.get(id).ok_or_else(|| {
            let message = format!(
                "the gateway knows no response `{id}` of this attempt, and cannot say what it holds: send the whole \
                 conversation as `input`"
            );
            Refused::new(StatusCode::BAD_REQUEST, "previous_response_not_found", message)
        })?,
    };
    Ok(before.saturating_add(if named.items { kept.outputs } else { 0 }))
}

async fn free(
    entrance: &Entrance,
    dialect: Dialect,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response, Refused> {
    let desk = &entrance.desk;
    let (_, outgoing) = admit(entrance, dialect, path, request).await?;
    let mut patience = desk.upstream.patience();
    match desk.upstream.exchange(&outgoing, &mut patience, &mut Charge::default()).await.map_err(unreached)? {
        Answer::Good(mut response) => {
            let (status, headers) = (response.status(), passing(response.headers()));
            let body = desk.upstream.body(&mut response, REQUEST_BYTES).await.map_err(|(why, _)| unreached(why))?;
            Ok(respond(status, headers, whole(body)))
        }
        Answer::Refused(refusal) => Ok(pass(refusal)),
        Answer::Unreached(why) => Err(unreached(why)),
    }
}

/// Passes on what is no success, in the provider's own words.
fn pass(refusal: Refusal) -> Response {
    let mut headers = passing(&refusal.headers);
    headers.remove(header::CONTENT_LENGTH);
    respond(refusal.status, headers, whole(refusal.body))
}

/// Finds out who calls, and makes their request ready to go out.
async fn admit(
    entrance: &Entrance,
    dialect: Dialect,
    path: &str,
    request: Request<Incoming>,
) -> Result<(Arc<Seat>, Outgoing), Refused> {
    let query = request.uri().query();
    let (key, query) = match dialect {
        Dialect::Gemini => {
            gemini::query(query).map_err(|why| Refused::new(StatusCode::BAD_REQUEST, "invalid_request_error", why))?
        }
        Dialect::Anthropic | Dialect::OpenAi => (None, query.map(|query| format!("?{query}")).unwrap_or_default()),
    };
    let seat = token(request.headers()).or(key).and_then(|token| entrance.seat(token)).ok_or_else(|| {
        Refused::new(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "the gateway does not know this token; it is void once its attempt has ended",
        )
    })?;
    let route = Route::new(dialect, &seat.access.credentials)
        .map_err(|fault| Refused::new(StatusCode::UNAUTHORIZED, "authentication_error", fault.to_string()))?;
    let url = route
        .url(&format!("{path}{query}"))
        .map_err(|fault| Refused::new(StatusCode::NOT_FOUND, "not_found_error", fault.to_string()))?;
    let (parts, body) = request.into_parts();
    let mut headers = passing(&parts.headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::ACCEPT_ENCODING, header::EXPECT] {
        headers.remove(name);
    }
    // Google's servers would take it for the method.
    headers.remove("x-http-method-override");
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    route.stamp(&mut headers);
    let body = Limited::new(body, REQUEST_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the request is longer than {REQUEST_BYTES} bytes");
            Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
        } else {
            Refused::new(StatusCode::BAD_REQUEST, "invalid_request_error", format!("the request broke off: {error}"))
        }
    })?;
    Ok((seat, Outgoing { method: parts.method, url, headers, body: body.to_bytes() }))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = || headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
    match headers.get("x-api-key").or_else(|| headers.get("x-goog-api-key")) {
        Some(key) => key.to_str().ok(),
        None => bearer(),
    }
}

fn record(desk: &Desk, seat: &Seat, asked: &rewrite::Asked) {
    use std::sync::atomic::Ordering::Relaxed;
    desk.caps_added.fetch_add(asked.cap_added.into(), Relaxed);
    desk.usage_asked.fetch_add(asked.usage_asked.into(), Relaxed);
    if asked.cap_added || asked.usage_asked {
        let rewrite::Asked { model, cap_added, usage_asked, .. } = asked;
        tracing::info!(attempt = %seat.access.key, model, cap_added, usage_asked, "an agent's request was changed");
    }
}

/// Headers that go through: all but those that belong to one connection.
fn passing(headers: &HeaderMap) -> HeaderMap {
    let mut passing = headers.clone();
    for list in headers.get_all(header::CONNECTION) {
        for name in list.to_str().unwrap_or_default().split(',') {
            if let Ok(name) = name.trim().parse::<HeaderName>() {
                passing.remove(name);
            }
        }
    }
    for name in ["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"] {
        passing.remove(name);
    }
    for name in [header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE] {
        passing.remove(name);
    }
    passing
}

fn over_budget(over: String) -> Refused {
    Refused::new(StatusCode::PAYMENT_REQUIRED, "billing_error", over)
}

fn unreached(why: impl std::fmt::Display) -> Refused {
    Refused::new(StatusCode::BAD_GATEWAY, "api_error", format!("the model's provider gave no answer: {why}"))
}

fn refuse(dialect: Dialect, refused: &Refused) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Clients would try again by themselves; that is ours to do, and done.
    headers.insert("x-should-retry", HeaderValue::from_static("false"));
    respond(refused.status, headers, whole(dialect.error_body(refused.status, refused.kind, &refused.message)))
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, io::Error> {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn respond(status: StatusCode, headers: HeaderMap, body: UnsyncBoxBody<Bytes, io::Error>) -> Response {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
