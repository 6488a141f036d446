//! Playing a recorded attempt again, without any network: as the neutral model, and as an endpoint for an agent's own client.

mod normal;
mod reel;
mod screen;

use std::{net::Ipv4Addr, sync::Arc};

use domain::{
    Fault,
    ports::{
        BoxFuture,
        model::{Endpoint, Model, ModelFault, ModelReply, ModelRequest, Protocol, ReplayRequest, Replayed},
        record::Exchange,
    },
};
use reqwest::StatusCode;
use tokio::{net::TcpListener, task::AbortHandle};

use self::{
    reel::{Frame, Reel, Request},
    screen::Screen,
};
use crate::{
    call::{garbage, stray},
    dialect::{Complaint, Trouble, Wire, excerpt},
    proxy::{self, door::Door, listen},
    record::Hidden,
    sse::Events,
};

/// How the record is called where a reply's fault names who is to blame.
const RECORD: &str = "the record";

/// Sets a record up to be played.
pub(crate) async fn open(request: ReplayRequest) -> Result<Replayed, Fault> {
    let ReplayRequest { record, credentials, redactor, told, .. } = request;
    let token = proxy::token();
    // The token of the recorded run is not in the record either.
    let hidden = Hidden::new(&redactor, &credentials, Some(&token));
    let reel = Arc::new(Reel::new(record, hidden, told));
    let replies = || reel.frames().iter().filter(|frame| frame.is_reply());
    let model = replies().next().map(|frame| frame.model.clone());
    let model = model.ok_or_else(|| Fault::not_found("the record holds no call to a model"))?;
    let mut protocols: Vec<Protocol> = replies().map(|frame| frame.exchange.protocol).collect();
    let mut seen = Vec::new();
    protocols.retain(|protocol| {
        !seen.contains(protocol) && {
            seen.push(*protocol);
            true
        }
    });
    let no_port = |err| Fault::environment(format!("the replay cannot open a port on 127.0.0.1: {err}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
    let url = format!("http://{}", listener.local_addr().map_err(no_port)?);
    let screen = Arc::new(Screen::new(Arc::clone(&reel), &token));
    let accepting = tokio::spawn(listen::accept(listener, Arc::clone(&screen), usize::MAX)).abort_handle();
    let door = Arc::new(Door::new(screen));
    let guard = Guard { accepting, door: Arc::clone(&door) };
    let endpoint = Endpoint { url, door, token, model, protocols, guard: Box::new(guard) };
    Ok(Replayed { model: Arc::new(Played(reel)), endpoint })
}

struct Guard {
    accepting: AbortHandle,
    door: Arc<Door<Screen>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.accepting.abort();
        self.door.close();
    }
}

/// The neutral model. A request is compared by the bytes in which it would go out.
struct Played(Arc<Reel>);

impl Model for Played {
    fn reply<'a>(&'a self, request: ModelRequest<'a>) -> BoxFuture<'a, Result<ModelReply, ModelFault>> {
        Box::pin(async move { self.play(&request) })
    }
}

/// What a recorded answer comes to.
enum Read {
    Reply(ModelReply),
    /// It broke off.
    Cut,
    Fault(ModelFault),
}

impl Played {
    fn play(&self, request: &ModelRequest<'_>) -> Result<ModelReply, ModelFault> {
        // As it would go out to each model that was asked: to one, as a rule.
        let mut encoded: Vec<(Protocol, &str, Request)> = Vec::new();
        for Frame { exchange, model, .. } in self.0.frames() {
            if !encoded.iter().any(|(protocol, name, _)| (*protocol, *name) == (exchange.protocol, model)) {
                let body = exchange.protocol.encode(model, request);
                encoded.push((exchange.protocol, model, self.0.request(body)));
            }
        }
        let asked = |frame: &Frame| {
            let of = |(protocol, model, _): &&(Protocol, &str, Request)| {
                (*protocol, *model) == (frame.exchange.protocol, frame.model.as_str())
            };
            &encoded.iter().find(of).unwrap_or(&encoded[0]).2
        };
        loop {
            let frame = self.0.play(Frame::is_reply, asked);
            let frame = frame.ok_or_else(|| ModelFault::Rejected("the record has no further call".to_owned()))?;
            match read(&frame.exchange) {
                Read::Reply(reply) => return Ok(reply),
                Read::Fault(fault) => return Err(fault),
                // It was asked for anew, unless that was the end of it.
                Read::Cut if self.0.goes_on(asked) => {}
                Read::Cut => return Err(ModelFault::Unavailable("its reply broke off in the record".to_owned())),
            }
        }
    }
}

fn read(exchange: &Exchange) -> Read {
    let Exchange { protocol, status, content_type, response, .. } = exchange;
    let text = || String::from_utf8_lossy(response);
    if *status >= 300 {
        let why = Complaint::read(&text()).map_or_else(|| excerpt(&text()), |complaint| complaint.message);
        return Read::Fault(match StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY) {
            StatusCode::PAYMENT_REQUIRED => ModelFault::OverBudget(why),
            StatusCode::UNAUTHORIZED => ModelFault::DeadKey(why),
            StatusCode::TOO_MANY_REQUESTS => ModelFault::Held { why, until: exchange.at },
            StatusCode::SERVICE_UNAVAILABLE => ModelFault::Unavailable(why),
            _ => ModelFault::Rejected(why),
        });
    }
    if let Some(kind) = stray(content_type) {
        return Read::Fault(garbage(RECORD, &format!("{kind} instead of a stream of events: {}", excerpt(&text()))));
    }
    let mut events = Events::default();
    let mut decoder = protocol.decoder();
    let (mut begun, mut trouble) = (false, None);
    let taken = events.take(response, |data| {
        if trouble.is_none() && !decoder.is_over() {
            trouble = decoder.event(data).err();
            begun |= trouble.is_none();
        }
    });
    match (trouble, decoder.finish()) {
        (Some(Trouble::Passing(_)), _) => Read::Cut,
        (Some(Trouble::Invalid(why)), _) | (None, Some(Err(Trouble::Passing(why) | Trouble::Invalid(why)))) => {
            Read::Fault(garbage(RECORD, &why))
        }
        (None, _) if taken.is_err() => Read::Fault(garbage(RECORD, "no stream of events")),
        (None, Some(Ok(reply))) => Read::Reply(reply),
        (None, None) if begun => Read::Cut,
        (None, None) => Read::Fault(garbage(RECORD, "an empty body")),
    }
}
