//! The scripted provider's server.

use std::{
    borrow::Cow,
    collections::HashMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, StatusCode,
    body::{Frame, Incoming},
    header::{self, HeaderMap},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    End, Log, Record, Reply, ReplyFault, ReplyUsage, Script,
    ask::{Ask, hash, open_end},
    responses::{self, response_id},
    wire::Playing,
};
use crate::dialect::{Dialect, Protocol, Wire, gemini};

type Response = hyper::Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Plays `script` to whoever connects, until it is dropped.
pub async fn serve(listener: TcpListener, script: Script, log: Log) -> Infallible {
    let stage = Arc::new(Stage { script, log, past: Mutex::default() });
    let mut connections = JoinSet::new();
    loop {
        let connection = tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => connection,
                Err(error) => {
                    tracing::warn!(%error, "the scripted provider cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let _ = connection.set_nodelay(true);
        let stage = Arc::clone(&stage);
        connections.spawn(async move {
            let service = service_fn(|request| stage.answer(request));
            // An error is a client that left, or a fault of the script's.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

struct Stage {
    script: Script,
    log: Log,
    past: Mutex<Past>,
}

/// What must be remembered for the record and for faults that come a few times.
#[derive(Default)]
struct Past {
    /// Length and hash of each conversation's last request, without its closing brackets.
    requests: HashMap<u64, (usize, u64)>,
    /// Faults given, by conversation (0: any) and reply.
    faults: HashMap<(u64, usize), u32>,
    /// By their names, responses that can be gone on from: what their conversation began with, and how many replies it has.
    responses: HashMap<String, (String, usize)>,
}

/// A record that writes itself when its answer is over, however that comes about.
struct Entry {
    log: Log,
    record: Option<Record>,
}

impl Entry {
    fn end(&mut self, end: End) {
        if let Some(mut record) = self.record.take() {
            record.end = end;
            self.log.write(record);
        }
    }

    fn set(&mut self, status: StatusCode, usage: Option<ReplyUsage>) {
        if let Some(record) = &mut self.record {
            record.status = status.as_u16();
            record.usage = usage;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end(End::Cut);
    }
}

/// How an answer's body goes.
enum Step {
    Send(Bytes),
    Stall,
    Break,
}

impl Stage {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response> {
        let path = request.uri().path().to_owned();
        let protocol = match path.strip_prefix("/v1").unwrap_or(&path) {
            _ if let Some((_, method)) = gemini::target(&path) => match (method, request.uri().query()) {
                ("countTokens", _) => return Ok(document(StatusCode::OK, r#"{"totalTokens":1}"#.into())),
                ("generateContent", None) | ("streamGenerateContent", Some("alt=sse")) => Protocol::GenerateContent,
                _ => {
                    let body =
                        Dialect::Gemini.error_body(StatusCode::BAD_REQUEST, "", "this is not in the script's power");
                    return Ok(document(StatusCode::BAD_REQUEST, body));
                }
            },
            "beta/models" => return Ok(document(StatusCode::OK, r#"{"models":[]}"#.into())),
            "/messages" => Protocol::Messages,
            "/chat/completions" => Protocol::ChatCompletions,
            "/responses" => Protocol::Responses,
            "/messages/count_tokens" | "/responses/input_tokens" => {
                return Ok(document(StatusCode::OK, r#"{"input_tokens":1}"#.into()));
            }
            "/models" => return Ok(document(StatusCode::OK, r#"{"object":"list","data":[]}"#.into())),
            other => {
                let message = format!("the scripted provider has no {other}");
                let body = Dialect::OpenAi.error_body(StatusCode::NOT_FOUND, "not_found_error", &message);
                return Ok(document(StatusCode::NOT_FOUND, body));
            }
        };
        let key = key(request.headers());
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        let dialect = protocol.dialect();
        let ask = match Ask::read(protocol, &path, &body).and_then(|ask| self.recall(ask)) {
            Ok(ask) => ask,
            Err(why) => {
                let body = dialect.error_body(StatusCode::BAD_REQUEST, "invalid_request_error", &why);
                return Ok(document(StatusCode::BAD_REQUEST, body));
            }
        };
        let mut entry = self.entry(dialect, &ask, &body, key);
        let reply = match self.reply(&ask, &mut entry) {
            Ok(reply) => reply,
            Err(why) => return Ok(refuse(entry, dialect, StatusCode::BAD_REQUEST, ("invalid_request_error", &why))),
        };
        // A sleep of no length lasts until the timer's next tick, a millisecond.
        if let latency @ 1.. = reply.latency_ms.unwrap_or(self.script.latency_ms) {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        let number = hash((&ask.first, ask.index));
        if protocol == Protocol::Responses {
            self.past().responses.insert(response_id(number), (ask.first.clone(), ask.index + 1));
        }
        let reply = &*reply;
        let playing = Playing {
            protocol,
            model: &ask.model,
            reply,
            number,
            usage: Some(reply.usage.unwrap_or_else(|| made_up(reply, body.len()))),
            break_arguments: false,
        };
        match self.fault(&ask, reply) {
            Some(fault) => misplay(playing, fault, ask.streamed, entry).await,
            None => Ok(play(&playing, ask.streamed, entry)),
        }
    }

    /// Puts before a request what it goes on from.
    fn recall(&self, mut ask: Ask) -> Result<Ask, String> {
        if let Some(id) = &ask.goes_on_from {
            let past = self.past();
            let (first, index) = past.responses.get(id).ok_or_else(|| format!("there is no response `{id}`"))?;
            ask.first.clone_from(first);
            ask.opening.clone_from(first);
            ask.index += index;
        }
        Ok(ask)
    }

    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, dialect: Dialect, ask: &Ask, body: &[u8], key: Option<String>) -> Entry {
        let conversation = hash(&ask.first);
        let open = open_end(body);
        let before = self.past().requests.insert(conversation, (open.len(), hash(open)));
        let prefix_kept = before.map(|(length, before)| body.get(..length).is_some_and(|front| hash(front) == before));
        let record = Record {
            at: Timestamp::now(),
            dialect: dialect.prefix().trim_end_matches('/').to_owned(),
            model: ask.model.clone(),
            streamed: ask.streamed,
            conversation: format!("{conversation:016x}"),
            matched: None,
            index: ask.index,
            bytes: body.len(),
            prefix_kept,
            head: format!("{:016x}", ask.head),
            key,
            status: 0,
            usage: None,
            end: End::Cut,
        };
        Entry { log: self.log.clone(), record: Some(record) }
    }

    /// The reply that is due. `Err`: why there is none.
    fn reply(&self, ask: &Ask, entry: &mut Entry) -> Result<Cow<'_, Reply>, String> {
        let mut conversations = self.script.conversations.iter();
        let conversation = conversations
            .find(|conversation| ask.opening.contains(&conversation.matches))
            .ok_or("the script has no conversation that begins like this")?;
        if let Some(record) = &mut entry.record {
            record.matched = Some(conversation.matches.clone());
        }
        if ask.shell.is_none() && conversation.replies.iter().any(|reply| reply.shell.is_some()) {
            return Ok(Cow::Owned(Reply { text: "Title".to_owned(), ..Reply::default() }));
        }
        let reply = conversation.replies.get(ask.index).or(conversation.default.as_ref()).ok_or_else(|| {
            format!("the script of `{}` ends after {} replies", conversation.matches, conversation.replies.len())
        })?;
        match &reply.when {
            Some(when) if !ask.last.contains(when) => Err(format!(
                "reply {} of `{}` wants `{when}` in what it answers, which is: {}",
                ask.index,
                conversation.matches,
                crate::dialect::excerpt(&ask.last)
            )),
            Some(_) | None => Ok(match (&reply.shell, &ask.shell) {
                (Some(command), Some(shell)) => {
                    let mut reply = reply.clone();
                    reply.tools.push(shell.run(command));
                    Cow::Owned(reply)
                }
                _ => Cow::Borrowed(reply),
            }),
        }
    }

    /// The fault that is due.
    fn fault(&self, ask: &Ask, reply: &Reply) -> Option<ReplyFault> {
        let fault = reply.fault?;
        if let Some(times) = reply.fault_times {
            let mut past = self.past();
            let conversation = if reply.fault_is_shared { 0 } else { hash(&ask.first) };
            let given = past.faults.entry((conversation, ask.index)).or_default();
            if *given >= times {
                return None;
            }
            *given += 1;
        }
        Some(fault)
    }
}

fn key(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok();
    let bearer = || text("authorization")?.strip_prefix("Bearer ");
    text("x-api-key").or_else(|| text("x-goog-api-key")).or_else(bearer).map(str::to_owned)
}

/// Four bytes to a token.
fn made_up(reply: &Reply, request_bytes: usize) -> ReplyUsage {
    let arguments: usize = reply.tools.iter().map(|tool| tool.name.len() + tool.arguments.to_string().len()).sum();
    let output = (reply.text.len() + reply.thinking.len() + arguments).div_ceil(4).max(1);
    let tokens = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    ReplyUsage { input: tokens(request_bytes.div_ceil(4)), output: tokens(output), ..ReplyUsage::default() }
}

/// Plays a reply as it should be.
fn play(playing: &Playing<'_>, streamed: bool, mut entry: Entry) -> Response {
    entry.set(StatusCode::OK, playing.usage);
    if streamed {
        stream_of(entry, vec![Step::Send(playing.events().concat().into())])
    } else {
        let body = playing.document().to_string();
        respond(entry, StatusCode::OK, "application/json", vec![Step::Send(body.into())])
    }
}

/// Plays a reply with a fault.
async fn misplay(
    mut playing: Playing<'_>,
    fault: ReplyFault,
    streamed: bool,
    mut entry: Entry,
) -> io::Result<Response> {
    let protocol = playing.protocol;
    let dialect = protocol.dialect();
    let usage = playing.usage;
    let half = |playing: &Playing<'_>| {
        let events = playing.events();
        events[..events.len().div_ceil(2)].concat()
    };
    entry.set(StatusCode::OK, None);
    Ok(match fault {
        ReplyFault::Cut => {
            entry.set(StatusCode::OK, usage);
            let begun = match playing.reply.cut_at {
                Some(at) => first_bytes(playing.events().concat(), at),
                None => half(&playing).into(),
            };
            stream_of(entry, vec![Step::Send(begun), Step::Break])
        }
        ReplyFault::Stall => {
            entry.set(StatusCode::OK, usage);
            stream_of(entry, vec![Step::Send(half(&playing).into()), Step::Stall])
        }
        ReplyFault::Silent => std::future::pending().await,
        ReplyFault::Drop => return Err(io::Error::other("the script ends the connection here")),
        ReplyFault::ErrorEvent => {
            let error = match protocol {
                Protocol::Responses => responses::error_event("server_error", "Overloaded"),
                Protocol::Messages | Protocol::ChatCompletions | Protocol::GenerateContent => {
                    dialect.error_body(StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", "Overloaded")
                }
            };
            let mut body = half(&playing).into_bytes();
            body.extend_from_slice(b"event: error\ndata: ");
            body.extend_from_slice(&error);
            body.extend_from_slice(b"\n\n");
            stream_of(entry, vec![Step::Send(body.into())])
        }
        ReplyFault::Garbage => stream_of(entry, vec![Step::Send("data: {\"type\": \u{fffd}\n\n".into())]),
        ReplyFault::Empty => stream_of(entry, Vec::new()),
        ReplyFault::Html => {
            let page = "<!doctype html><title>Sign in</title><h1>Sign in to the hotel's network</h1>";
            respond(entry, StatusCode::OK, "text/html; charset=utf-8", vec![Step::Send(page.into())])
        }
        ReplyFault::JsonError => {
            let error =
                dialect.error_body(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "something went wrong inside");
            respond(entry, StatusCode::OK, "application/json", vec![Step::Send(error)])
        }
        ReplyFault::NoUsage => {
            playing.usage = None;
            play(&playing, streamed, entry)
        }
        ReplyFault::InvalidJsonArguments => {
            playing.break_arguments = true;
            play(&playing, streamed, entry)
        }
        ReplyFault::Quota => status(entry, &playing, StatusCode::TOO_MANY_REQUESTS, "insufficient_quota"),
        ReplyFault::Status(number) => {
            let kind = match number {
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                500..=599 => "api_error",
                _ => "invalid_request_error",
            };
            status(entry, &playing, StatusCode::from_u16(number).unwrap_or(StatusCode::IM_A_TEAPOT), kind)
        }
    })
}

fn first_bytes(body: String, at: usize) -> Bytes {
    let mut body = Bytes::from(body);
    body.truncate(at);
    body
}

fn status(entry: Entry, playing: &Playing<'_>, status: StatusCode, kind: &str) -> Response {
    let message = match playing.reply.text.as_str() {
        "" => "the script wants it so",
        text => text,
    };
    let mut response = refuse(entry, playing.protocol.dialect(), status, (kind, message));
    if let Some(pause) = playing.reply.retry_after.and_then(|pause| pause.to_string().parse().ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, pause);
    }
    response
}

fn refuse(mut entry: Entry, dialect: Dialect, status: StatusCode, (kind, why): (&str, &str)) -> Response {
    entry.set(status, None);
    let body = dialect.error_body(status, kind, why);
    respond(entry, status, "application/json", vec![Step::Send(body)])
}

fn document(status: StatusCode, body: Bytes) -> Response {
    let entry = Entry { log: Log::in_memory(), record: None };
    respond(entry, status, "application/json", vec![Step::Send(body)])
}

fn stream_of(entry: Entry, steps: Vec<Step>) -> Response {
    respond(entry, StatusCode::OK, "text/event-stream; charset=utf-8", steps)
}

fn respond(entry: Entry, status: StatusCode, kind: &'static str, steps: Vec<Step>) -> Response {
    let body = stream::try_unfold((steps.into_iter(), entry), |(mut steps, mut entry)| async move {
        match steps.next() {
            Some(Step::Send(bytes)) => Ok(Some((Frame::data(bytes), (steps, entry)))),
            Some(Step::Stall) => std::future::pending().await,
            Some(Step::Break) => {
                // What was sent before goes out when there is nothing to do; only then the connection ends.
                tokio::task::yield_now().await;
                Err(io::Error::other("the script cuts the connection here"))
            }
            None => {
                entry.end(End::Completed);
                Ok(None)
            }
        }
    });
    let mut response = hyper::Response::new(StreamBody::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
