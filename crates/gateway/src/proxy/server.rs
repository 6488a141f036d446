//! The proxy's requests and answers.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use domain::Fault;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use super::{
    Desk, Entrance, Seat, gemini,
    listen::{Body, Host, Response, respond, whole},
    meter::{self, Meter},
    rewrite,
};
use crate::{
    dialect::{self, Dialect, Protocol, Wire},
    payment::Order,
    place::{Call, Placed, Prepared, Unplaced},
    record::{Room, Tape},
    route::Route,
    upstream::{Outgoing, Refusal},
    windows::Held,
};

/// The longest request that is taken.
pub(crate) const REQUEST_BYTES: usize = 64 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Reply,
    /// Costs nothing: the count of a request's tokens, the list of models.
    Free,
}

/// Reads a path. `None`: there is no such thing.
pub(crate) fn wish(method: &Method, path: &str, headers: &HeaderMap) -> Option<(Wish, Protocol)> {
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

/// Whether a reply is asked for at this path.
pub(crate) fn is_reply(path: &str) -> bool {
    matches!(wish(&Method::POST, path, &HeaderMap::new()), Some((Wish::Reply, _)))
}

/// A query as it goes on, with its question mark, and the key that was in it. `Err`: what must not be asked for.
pub(crate) fn query(protocol: Protocol, query: Option<&str>) -> Result<(Option<&str>, String), String> {
    match protocol {
        Protocol::GenerateContent => gemini::query(query),
        Protocol::Messages | Protocol::ChatCompletions | Protocol::Responses => {
            Ok((None, query.map(|query| format!("?{query}")).unwrap_or_default()))
        }
    }
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
    /// In seconds.
    retry_after: Option<i64>,
}

impl Refused {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), retry_after: None }
    }
}

/// An answer on its way: what is known before its body, and the body.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Form,
}

enum Form {
    Whole(Bytes),
    /// One that records itself.
    Stream(Body),
}

impl Answer {
    fn whole(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Self { status, headers, body: Form::Whole(body) }
    }
}

impl Host for Entrance {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let path = path(&request);
        let Some((wish, protocol)) = wish(request.method(), &path, request.headers()) else {
            let message = format!("the gateway has no {} {path}", request.method());
            let dialect = if path.starts_with("/v1beta/") { Dialect::Gemini } else { Dialect::Anthropic };
            let refused = Refused::new(StatusCode::NOT_FOUND, "not_found_error", message);
            return sent(refuse(dialect, &refused), None);
        };
        let mut tape = None;
        let passed = match admit(self, protocol, &path, request, &mut tape).await {
            Ok(guest) if wish == Wish::Reply => reply(self, protocol, &path, guest, &mut tape).await,
            Ok(guest) => free(self, protocol, &path, guest).await,
            Err(refused) => Err(refused),
        };
        sent(passed.unwrap_or_else(|refused| refuse(protocol.dialect(), &refused)), tape)
    }
}

/// The path that is meant: clients of `OpenAI`'s dialect have the `/v1` in their base address, or not.
pub(crate) fn path(request: &Request<Incoming>) -> String {
    let path = request.uri().path();
    if path.starts_with("/v1/") || path.starts_with("/v1beta/") { path.to_owned() } else { format!("/v1{path}") }
}

/// Sends an answer off, and records one that does not record itself.
fn sent(Answer { status, headers, body }: Answer, tape: Option<Tape>) -> Response {
    let body = match body {
        Form::Stream(body) => body,
        Form::Whole(body) => {
            tape.into_iter().for_each(|tape| tape.all(status.as_u16(), content_type(&headers), &body));
            whole(body)
        }
    };
    respond(status, headers, body)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

async fn reply(
    entrance: &Entrance,
    protocol: Protocol,
    path: &str,
    Guest { seat, method, headers, query, body }: Guest,
    tape: &mut Option<Tape>,
) -> Result<Answer, Refused> {
    let desk = &entrance.desk;
    let read = match dialect::gemini::target(path) {
        Some((model, _)) => gemini::read(model, body, desk.output_cap),
        None => rewrite::read(protocol, body, desk.output_cap),
    };
    let asked = read.map_err(|why| Refused::new(StatusCode::BAD_REQUEST, "invalid_request_error", why))?;
    record(desk, &seat, &asked);
    let kept_input = kept_input(&seat, &asked.kept)?;
    if let Some(over) = seat.over.get() {
        return Err(over_budget(over.clone()));
    }
    let call = Call {
        payer: &seat.payer,
        chain: &seat.chain,
        routes: seat.chain.speaking(protocol).map_err(|fault| no_route(&fault))?,
        asked: Some(asked.model.clone()),
    };
    let prepare = |route: &Route| {
        let model = call.target(route);
        let (path, body) = if model == asked.model {
            (path.to_owned(), asked.body.clone())
        } else {
            desk.models_renamed.fetch_add(1, Relaxed);
            tracing::info!(attempt = %seat.payer.access.key, from = asked.model, to = model, "an agent's request goes to another model");
            (gemini::renamed(path, model), rewrite::renamed(protocol, &asked.body, model))
        };
        let price = seat.chain.catalogue().price(&route.provider, model, desk.upstream.today());
        let order = Order {
            model: model.to_owned(),
            price: price.filter(|_| !asked.is_surcharged),
            request_bytes: body.len(),
            kept_input,
            max_output: asked.max_output,
        };
        let url = route.url(&format!("{path}{query}"), model)?;
        let mut headers = headers.clone();
        route.account.stamp(&mut headers);
        Ok(Prepared { outgoing: Outgoing { method: method.clone(), url, headers, body }, order })
    };
    let mut patience = desk.upstream.patience();
    let placed = desk.upstream.place(&call, prepare, None, &mut patience).await;
    let Placed { payment, response, first, .. } = match placed {
        Ok(placed) => placed,
        Err(unplaced) => return not_placed(desk, &seat, unplaced),
    };
    let (status, headers) = (response.status(), passing(response.headers()));
    if content_type(&headers).starts_with("text/html") {
        return Err(unreached("it sent a web page: something else stands between here and there"));
    }
    // There is one: it was made when the caller was let in.
    let mut tape = tape.take().ok_or_else(|| unreached("its answer cannot be recorded"))?;
    tape.answered(status.as_u16(), content_type(&headers));
    let meter = Meter::new(payment, tape, Arc::clone(&seat));
    let body = meter::metered(Arc::clone(&desk.upstream), (first, response), meter);
    Ok(Answer { status, headers, body: Form::Stream(StreamBody::new(body).boxed_unsync()) })
}

/// What an agent's client is told of a call for which there is no way. Its attempt's watch has been told too.
fn not_placed(desk: &Desk, seat: &Seat, unplaced: Unplaced) -> Result<Answer, Refused> {
    match unplaced {
        Unplaced::Refused(refusal, _) => Ok(pass(refusal)),
        Unplaced::DeadKey(refusal, _) | Unplaced::Unreached { refusal: Some(refusal), .. } => Ok(pass(*refusal)),
        Unplaced::Unreached { why, .. } => Err(unreached(why)),
        Unplaced::Held(Held { why, until }) => {
            let pause = until.duration_since(desk.upstream.clock().now());
            let mut refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", why);
            // Rounded up: who comes a moment too early is refused again.
            refused.retry_after = Some(pause.as_secs().max(0).saturating_add(1));
            Err(refused)
        }
        Unplaced::OverBudget(over) => {
            tracing::info!(attempt = %seat.payer.access.key, over, "the agent's call is refused, and all that follow");
            Err(over_budget(seat.over.get_or_init(|| over).clone()))
        }
        Unplaced::Unpriced(why) => Err(over_budget(why)),
        Unplaced::Port(fault) => Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", fault.to_string())),
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
    protocol: Protocol,
    path: &str,
    Guest { seat, method, mut headers, query, body }: Guest,
) -> Result<Answer, Refused> {
    let desk = &entrance.desk;
    let routes = seat.chain.speaking(protocol).map_err(|fault| no_route(&fault))?;
    // There is one at least.
    let Some(route) = routes.first() else { return Err(unreached("there is no account")) };
    let url = route.url(&format!("{path}{query}"), &route.model).map_err(|fault| no_route(&fault))?;
    route.account.stamp(&mut headers);
    // Whether it is worth another try, whoever asked knows best: nothing is at stake.
    let outgoing = Outgoing { method, url, headers, body };
    match desk.upstream.send(&outgoing).await.map_err(unreached)? {
        Ok(mut response) if response.status().is_success() => {
            let (status, headers) = (response.status(), passing(response.headers()));
            let body = desk.upstream.body(&mut response, REQUEST_BYTES).await.map_err(|(why, _)| unreached(why))?;
            Ok(Answer::whole(status, headers, body))
        }
        Ok(response) => Ok(pass(desk.upstream.refusal(&outgoing, response).await)),
        Err(failed) => Err(unreached(failed.why)),
    }
}

/// Passes on what is no success, in the provider's own words.
fn pass(refusal: Refusal) -> Answer {
    let mut headers = passing(&refusal.headers);
    headers.remove(header::CONTENT_LENGTH);
    Answer::whole(refusal.status, headers, refusal.body)
}

/// Who calls, and with what.
struct Guest {
    seat: Arc<Seat>,
    method: Method,
    /// Those that go through.
    headers: HeaderMap,
    /// With its question mark.
    query: String,
    body: Bytes,
}

/// Finds out who calls, and takes from their request what goes out again. From then on the exchange is recorded.
async fn admit(
    entrance: &Entrance,
    protocol: Protocol,
    path: &str,
    request: Request<Incoming>,
    tape: &mut Option<Tape>,
) -> Result<Guest, Refused> {
    let (key, query) = query(protocol, request.uri().query())
        .map_err(|why| Refused::new(StatusCode::BAD_REQUEST, "invalid_request_error", why))?;
    let seat = token(request.headers()).or(key).and_then(|token| entrance.seat(token)).ok_or_else(|| {
        Refused::new(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "the gateway does not know this token; it is void once its attempt has ended",
        )
    })?;
    let (parts, body) = request.into_parts();
    let mut headers = passing(&parts.headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::ACCEPT_ENCODING, header::EXPECT] {
        headers.remove(name);
    }
    // Google's servers would take it for the method.
    headers.remove("x-http-method-override");
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut room = seat.recorder.room();
    let body = taken(body, &mut room).await?;
    *tape = Some(seat.recorder.begin(protocol, format!("{path}{query}"), (body.clone(), room)));
    Ok(Guest { seat, method: parts.method, headers, query, body })
}

/// Reads a request's body, as far as there is room for it.
async fn taken(mut body: Incoming, room: &mut Room) -> Result<Bytes, Refused> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map(|frame| frame.into_data().unwrap_or_default()) else {
            return Err(Refused::new(StatusCode::BAD_REQUEST, "invalid_request_error", "the request broke off"));
        };
        if whole.len() + data.len() > REQUEST_BYTES {
            let message = format!("the request is longer than {REQUEST_BYTES} bytes");
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message));
        }
        if !room.take(data.len()) {
            let message = "the requests of this attempt that are under way are too large together: ask again when some have ended";
            let refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", message);
            return Err(Refused { retry_after: Some(1), ..refused });
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = || headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
    match headers.get("x-api-key").or_else(|| headers.get("x-goog-api-key")) {
        Some(key) => key.to_str().ok(),
        None => bearer(),
    }
}

fn record(desk: &Desk, seat: &Seat, asked: &rewrite::Asked) {
    desk.caps_added.fetch_add(asked.cap_added.into(), Relaxed);
    desk.usage_asked.fetch_add(asked.usage_asked.into(), Relaxed);
    if asked.cap_added || asked.usage_asked {
        let rewrite::Asked { model, cap_added, usage_asked, .. } = asked;
        tracing::info!(attempt = %seat.payer.access.key, model, cap_added, usage_asked, "an agent's request was changed");
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

/// As providers tell a key that opens nothing.
fn no_route(fault: &Fault) -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, "authentication_error", fault.to_string())
}

fn over_budget(over: String) -> Refused {
    Refused::new(StatusCode::PAYMENT_REQUIRED, "billing_error", over)
}

fn unreached(why: impl std::fmt::Display) -> Refused {
    Refused::new(StatusCode::BAD_GATEWAY, "api_error", format!("the model's provider gave no answer: {why}"))
}

fn refuse(dialect: Dialect, refused: &Refused) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Clients would try again by themselves; that is ours to do, and done.
    headers.insert("x-should-retry", HeaderValue::from_static("false"));
    if let Some(seconds) = refused.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    Answer::whole(refused.status, headers, dialect.error_body(refused.status, refused.kind, &refused.message))
}
