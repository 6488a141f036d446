//! The port [`Model`]: one reply for the built-in agent, whatever the provider's language.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::ports::{
    BoxFuture,
    model::{CallNews, Model, ModelFault, ModelReply, ModelRequest},
};
use futures::FutureExt;
use reqwest::{Method, Response, StatusCode, header::CONTENT_TYPE};

use crate::{
    dialect::{Decoder, Protocol, Trouble, Wire, excerpt},
    patience::Patience,
    payment::{Order, Payer, Payment},
    place::{Call, Placed, Prepared, Unplaced},
    prices::Counted,
    record::{Recorder, Tape},
    route::{Chain, Route},
    sse::Events,
    upstream::{Outgoing, Upstream},
    windows::Held,
};

/// How often a call is made anew, with a reservation of its own, after its stream was cut in the middle.
const NEW_CALLS: u32 = 2;
/// The most that is read of an answer that is no stream.
const STRAY_BYTES: usize = 64 << 10;
/// The longest stream of one reply: the largest of models' replies, token by token, is a third of it.
const REPLY_BYTES: usize = 64 << 20;
/// How long the end of an answer is waited for after the end of the reply.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How often it is told that an answer goes on.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A model, bound to an attempt.
pub(crate) struct BoundModel {
    pub upstream: Arc<Upstream>,
    pub payer: Arc<Payer>,
    pub recorder: Arc<Recorder>,
    pub chain: Chain,
}

impl Model for BoundModel {
    fn reply<'a>(&'a self, request: ModelRequest<'a>) -> BoxFuture<'a, Result<ModelReply, ModelFault>> {
        Box::pin(async move { self.told(&request).await.map(|told| told.reply) })
    }
}

/// A reply, and who gave it.
pub(crate) struct Told {
    pub reply: ModelReply,
    pub counted: Counted,
    pub route: Arc<Route>,
}

/// How one stream ended.
enum Read {
    Reply(ModelReply),
    /// Cut off after something had come: the call is paid, its reply is lost.
    Cut(String),
    /// Cut off before anything came.
    Nothing(String),
    Garbage(String),
}

impl Read {
    /// `begun`: whether something of the reply had come before.
    fn broken_off(begun: bool, why: String) -> Self {
        if begun { Self::Cut(why) } else { Self::Nothing(why) }
    }
}

impl BoundModel {
    pub async fn told(&self, request: &ModelRequest<'_>) -> Result<Told, ModelFault> {
        let longest = self.upstream.deadlines().reply;
        match tokio::time::timeout(longest, self.ask(request)).await {
            Ok(told) => told.map_err(|fault| self.redacted(fault)),
            Err(_) => {
                let host = &self.chain.first().account.host;
                Err(unavailable(host, &format!("no whole reply within {longest:?}"), None))
            }
        }
    }

    fn redacted(&self, fault: ModelFault) -> ModelFault {
        let text = |why| self.recorder.redacted_text(why);
        match fault {
            ModelFault::OverBudget(why) => ModelFault::OverBudget(text(why)),
            ModelFault::DeadKey(why) => ModelFault::DeadKey(text(why)),
            ModelFault::Rejected(why) => ModelFault::Rejected(text(why)),
            ModelFault::Held { why, until } => ModelFault::Held { why: text(why), until },
            ModelFault::Unavailable(why) => ModelFault::Unavailable(text(why)),
            ModelFault::Garbage(why) => ModelFault::Garbage(text(why)),
            ModelFault::Port(fault) => ModelFault::Port(fault),
        }
    }

    async fn ask(&self, request: &ModelRequest<'_>) -> Result<Told, ModelFault> {
        let call = Call { payer: &self.payer, chain: &self.chain, routes: self.chain.all(), asked: None };
        let mut patience = self.upstream.patience();
        let mut kept = None;
        let mut cuts = 0;
        loop {
            let mut sent = None;
            let prepare = |route: &Route| {
                let prepared = self.prepare(route, request)?;
                sent = Some((protocol(route), route.replies(protocol(route)), prepared.outgoing.body.clone()));
                Ok(prepared)
            };
            let placed = self.upstream.place(&call, prepare, kept.take(), &mut patience).await;
            let tape =
                sent.map(|(protocol, path, body)| self.recorder.begin(protocol, path, (body, self.recorder.room())));
            let Placed { route, mut payment, response, first } = match placed {
                Ok(placed) => placed,
                Err(unplaced) => {
                    let fault = fault(unplaced, &patience);
                    tape.into_iter().for_each(|tape| keep(&fault, tape));
                    return Err(fault);
                }
            };
            // One that was placed was sent.
            let mut tape = tape.ok_or_else(|| domain::Fault::bug("a call was placed that was not prepared"))?;
            let host = &route.account.host;
            let why = match self.read(&route, (first, response), &mut payment, &mut tape).await {
                Read::Reply(reply) => {
                    tape.end();
                    let counted = payment.reported.unwrap_or_default();
                    return Ok(Told { reply, counted, route });
                }
                Read::Garbage(why) => {
                    tape.end();
                    return Err(garbage(host, &why));
                }
                Read::Nothing(why) => {
                    tape.erase();
                    payment.charge.lost();
                    kept = Some(payment);
                    if patience.pause().await.is_err() {
                        return Err(unavailable(host, &why, Some(&patience)));
                    }
                    continue;
                }
                Read::Cut(why) => why,
            };
            // Settled before the next reservation is made, which would otherwise not see it.
            drop((payment, tape));
            cuts += 1;
            if cuts > NEW_CALLS || patience.pause().await.is_err() {
                let why = format!("its reply broke off {cuts} times, last: {why}");
                return Err(unavailable(host, &why, Some(&patience)));
            }
            tracing::info!(attempt = %self.payer.access.key, why, "a reply broke off; the model is asked anew");
        }
    }

    fn prepare(&self, route: &Route, request: &ModelRequest<'_>) -> Result<Prepared, domain::Fault> {
        let protocol = protocol(route);
        let body = protocol.encode(&route.model, request);
        let order = Order {
            model: route.model.clone(),
            price: self.chain.catalogue().price(&route.provider, &route.model, self.upstream.today()),
            request_bytes: body.len(),
            kept_input: 0,
            max_output: u64::from(request.max_output),
        };
        let (url, headers) = (route.url(&route.replies(protocol), &route.model)?, route.headers(protocol));
        Ok(Prepared { outgoing: Outgoing { method: Method::POST, url, headers, body }, order })
    }

    /// Reads a streamed reply to its end.
    async fn read(
        &self,
        route: &Route,
        (mut first, mut response): (Option<Bytes>, Response),
        payment: &mut Payment,
        tape: &mut Tape,
    ) -> Read {
        tape.answered(response.status().as_u16(), content_type(&response));
        if let Some(kind) = stray(content_type(&response)) {
            let rest = match self.upstream.body(&mut response, STRAY_BYTES).await {
                Ok(rest) | Err((_, rest)) => rest,
            };
            let body = [first.unwrap_or_default(), rest].concat();
            tape.piece(&body);
            return Read::Garbage(format!(
                "{kind} instead of a stream of events: {}",
                excerpt(&String::from_utf8_lossy(&body))
            ));
        }
        let mut events = Events::default();
        let mut decoder = protocol(route).decoder();
        let (mut begun, mut bytes, mut told) = (false, 0, None::<Instant>);
        let broken_off = loop {
            let piece = match first.take() {
                Some(first) => first,
                None => match self.upstream.piece(&mut response).await {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break None,
                    Err(why) => break Some(why),
                },
            };
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                self.payer.access.watch.tell(CallNews::Answering);
                told = Some(Instant::now());
            }
            tape.piece(&piece);
            bytes += piece.len();
            if bytes > REPLY_BYTES {
                return Read::Garbage(format!("a reply of more than {REPLY_BYTES} bytes"));
            }
            let mut trouble = None;
            let taken = events.take(&piece, |data| {
                if trouble.is_none() {
                    trouble = decoder.event(data).err();
                    begun |= trouble.is_none();
                }
            });
            payment.reported = decoder.counted();
            match trouble {
                Some(Trouble::Passing(why)) => return Read::broken_off(begun, why),
                Some(Trouble::Invalid(why)) => return Read::Garbage(why),
                None if taken.is_err() => return Read::Garbage("no stream of events".to_owned()),
                None => {}
            }
            if decoder.is_over() {
                give_back(response);
                break None;
            }
        };
        let read = ended(decoder, broken_off, (begun, bytes));
        if matches!(read, Read::Reply(_)) {
            payment.complete();
        }
        read
    }
}

/// What a stream came to. `broken_off`: why it has no proper end; `begun` and `bytes`: whether there was an event, and how much came.
fn ended(decoder: Decoder, broken_off: Option<String>, (begun, bytes): (bool, usize)) -> Read {
    match (decoder.finish(), broken_off) {
        (Some(Ok(reply)), _) => Read::Reply(reply),
        (Some(Err(Trouble::Passing(why) | Trouble::Invalid(why))), _) => Read::Garbage(why),
        (None, Some(why)) => Read::broken_off(begun, why),
        (None, None) if begun => Read::Cut("the stream ended before the reply did".to_owned()),
        (None, None) => Read::Garbage(match bytes {
            0 => "an empty body".to_owned(),
            bytes => format!("{bytes} bytes without an event"),
        }),
    }
}

/// In which of its protocols a route is asked.
fn protocol(route: &Route) -> Protocol {
    // A provider speaks one at least.
    route.account.protocols.first().copied().unwrap_or(Protocol::ChatCompletions)
}

fn fault(unplaced: Unplaced, patience: &Patience) -> ModelFault {
    match unplaced {
        Unplaced::Refused(refusal, route) => {
            ModelFault::Rejected(format!("{} refuses the request to `{}`: {refusal}", route.account.host, route.model))
        }
        Unplaced::DeadKey(_, why) => ModelFault::DeadKey(why),
        Unplaced::Held(Held { why, until }) => ModelFault::Held { why, until },
        Unplaced::Unreached { host, why, .. } => unavailable(&host, &why, Some(patience)),
        Unplaced::OverBudget(why) | Unplaced::Unpriced(why) => ModelFault::OverBudget(why),
        Unplaced::Port(fault) => ModelFault::Port(fault),
    }
}

/// Puts into the record why there is no reply, as a provider would have said it.
fn keep(fault: &ModelFault, tape: Tape) {
    let (status, kind) = match fault {
        ModelFault::OverBudget(_) => (StatusCode::PAYMENT_REQUIRED, "billing_error"),
        ModelFault::DeadKey(_) => (StatusCode::UNAUTHORIZED, "authentication_error"),
        ModelFault::Rejected(_) => (StatusCode::BAD_REQUEST, "invalid_request_error"),
        ModelFault::Held { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
        ModelFault::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "api_error"),
        ModelFault::Garbage(_) | ModelFault::Port(_) => return,
    };
    let body = tape.protocol().dialect().error_body(status, kind, &fault.to_string());
    tape.all(status.as_u16(), "application/json", &body);
}

pub(crate) fn garbage(host: &str, why: &str) -> ModelFault {
    ModelFault::Garbage(format!("{host} answered with no valid reply: {why}"))
}

fn unavailable(host: &str, why: &str, patience: Option<&Patience>) -> ModelFault {
    let tries = patience.map(|patience| format!(" after {} tries", patience.tried())).unwrap_or_default();
    ModelFault::Unavailable(format!("{host} gave no reply{tries}: {why}"))
}

fn content_type(response: &Response) -> &str {
    response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

/// What an answer is, when it surely is no stream of events. (Some local servers leave the type out.)
pub(crate) fn stray(kind: &str) -> Option<&'static str> {
    if kind.contains("html") {
        Some("a web page")
    } else if kind.contains("json") {
        Some("a JSON document")
    } else {
        None
    }
}

/// Lets a connection be used again: its answer must be read to the end, which is there or about to come.
fn give_back(mut response: Response) {
    loop {
        match response.chunk().now_or_never() {
            Some(Ok(Some(_))) => {}
            Some(Ok(None) | Err(_)) => return,
            None => break,
        }
    }
    tokio::spawn(tokio::time::timeout(END_WITHIN, async move { while let Ok(Some(_)) = response.chunk().await {} }));
}
