//! The port [`Model`]: one reply for the built-in agent, whatever the provider's language.

use std::{sync::Arc, time::Duration};

use domain::ports::{
    BoxFuture,
    ledger::Ledger,
    model::{Access, Model, ModelFault, ModelReply, ModelRequest},
};
use futures::FutureExt;
use reqwest::{Method, Response, header::CONTENT_TYPE};

use crate::{
    dialect::{Complaint, Trouble, excerpt},
    patience::Patience,
    payment::{Order, Payment},
    prices::Price,
    route::Route,
    sse::Events,
    upstream::{Answer, Outgoing, Refusal, Upstream},
};

/// How often a call is made anew, with a reservation of its own, after its stream was cut in the middle.
const NEW_CALLS: u32 = 2;
/// The most that is read of an answer that is no stream.
const STRAY_BYTES: usize = 64 << 10;
/// The longest stream of one reply: the largest of models' replies, token by token, is a third of it.
const REPLY_BYTES: usize = 64 << 20;
/// How long the end of an answer is waited for after the end of the reply.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A model, bound to an attempt.
pub(crate) struct BoundModel {
    pub upstream: Arc<Upstream>,
    pub ledger: Arc<dyn Ledger>,
    pub access: Access,
    pub route: Route,
    /// The name the provider knows it by.
    pub model: String,
}

impl Model for BoundModel {
    fn reply<'a>(&'a self, request: ModelRequest<'a>) -> BoxFuture<'a, Result<ModelReply, ModelFault>> {
        Box::pin(async move {
            let longest = self.upstream.deadlines().reply;
            match tokio::time::timeout(longest, self.ask(&request)).await {
                Ok(reply) => reply,
                Err(_) => Err(self.unavailable(&format!("no whole reply within {longest:?}"), None)),
            }
        })
    }
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
    async fn ask(&self, request: &ModelRequest<'_>) -> Result<ModelReply, ModelFault> {
        let body = self.route.dialect.encode(&self.model, request);
        let order = Order {
            model: &self.model,
            price: Price::of(&self.model),
            request_bytes: body.len(),
            kept_input: 0,
            max_output: u64::from(request.max_output),
        };
        let outgoing = Outgoing {
            method: Method::POST,
            url: self.route.replies(&self.model)?,
            headers: self.route.headers(),
            body,
        };
        let mut patience = self.upstream.patience();
        let mut cuts = 0;
        loop {
            let mut payment = Payment::reserve(&self.ledger, &self.access, order).await?;
            let why = match self.call(&outgoing, &mut payment, &mut patience).await? {
                Ok(reply) => return Ok(reply),
                Err(why) => why,
            };
            // Settled before the next reservation is made, which would otherwise not see it.
            drop(payment);
            cuts += 1;
            if cuts > NEW_CALLS || patience.pause(None).await.is_err() {
                return Err(
                    self.unavailable(&format!("its reply broke off {cuts} times, last: {why}"), Some(&patience))
                );
            }
            tracing::info!(attempt = %self.access.key, why, "a reply broke off; the model is asked anew");
        }
    }

    /// One call on one reservation. Inner `Err`: it was cut off in the middle of its reply.
    async fn call(
        &self,
        outgoing: &Outgoing,
        payment: &mut Payment,
        patience: &mut Patience,
    ) -> Result<Result<ModelReply, String>, ModelFault> {
        loop {
            let response = match self.upstream.exchange(outgoing, patience, &mut payment.charge).await? {
                Answer::Good(response) => response,
                Answer::Refused(refusal) => return Err(self.refused(&refusal, patience)),
                Answer::Unreached(why) => return Err(self.unavailable(&why, Some(patience))),
            };
            match self.read(response, payment).await {
                Read::Reply(reply) => return Ok(Ok(reply)),
                Read::Cut(why) => return Ok(Err(why)),
                Read::Garbage(why) => {
                    return Err(ModelFault::Garbage(format!(
                        "{} answered with no valid reply: {why}",
                        self.route.host
                    )));
                }
                Read::Nothing(why) => {
                    payment.charge.lost();
                    if patience.pause(None).await.is_err() {
                        return Err(self.unavailable(&why, Some(patience)));
                    }
                }
            }
        }
    }

    /// Reads a streamed reply to its end.
    async fn read(&self, mut response: Response, payment: &mut Payment) -> Read {
        if let Some(kind) = stray(&response) {
            let body = match self.upstream.body(&mut response, STRAY_BYTES).await {
                Ok(body) | Err((_, body)) => body,
            };
            let text = String::from_utf8_lossy(&body);
            let said = Complaint::read(&text).map_or_else(|| excerpt(&text), |complaint| complaint.to_string());
            return Read::Garbage(format!("{kind} instead of a stream of events: {said}"));
        }
        let mut events = Events::default();
        let mut decoder = self.route.dialect.decoder();
        let (mut begun, mut bytes) = (false, 0);
        let broken_off = loop {
            let piece = match self.upstream.piece(&mut response).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break None,
                Err(why) => break Some(why),
            };
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
        match (decoder.finish(), broken_off) {
            (Some(Ok(reply)), _) => {
                payment.complete();
                Read::Reply(reply)
            }
            (Some(Err(Trouble::Passing(why) | Trouble::Invalid(why))), _) => Read::Garbage(why),
            (None, Some(why)) => Read::broken_off(begun, why),
            (None, None) if begun => Read::Cut("the stream ended before the reply did".to_owned()),
            (None, None) => Read::Garbage(match bytes {
                0 => "an empty body".to_owned(),
                bytes => format!("{bytes} bytes without an event"),
            }),
        }
    }

    fn refused(&self, refusal: &Refusal, patience: &Patience) -> ModelFault {
        let host = &self.route.host;
        if refusal.is_about_the_key() {
            ModelFault::DeadKey(format!(
                "{host} refuses the key ({refusal}); check it at the provider, then `overnight key set` or set it anew"
            ))
        } else if refusal.is_passing() {
            self.unavailable(&refusal.to_string(), Some(patience))
        } else {
            ModelFault::Rejected(format!("{host} refuses the request to `{}`: {refusal}", self.model))
        }
    }

    fn unavailable(&self, why: &str, patience: Option<&Patience>) -> ModelFault {
        let tries = patience.map(|patience| format!(" after {} tries", patience.tried())).unwrap_or_default();
        ModelFault::Unavailable(format!("{} gave no reply{tries}: {why}", self.route.host))
    }
}

/// What an answer is, when it surely is no stream of events. (Some local servers leave the type out.)
fn stray(response: &Response) -> Option<&'static str> {
    let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
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
