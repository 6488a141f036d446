//! Server-sent events: what both streams have in common, from their form to their end.

use std::{collections::VecDeque, convert::Infallible, fmt::Display, future::Future};

use axum::{
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use domain::Fault;
use serde::Serialize;

use crate::wire::Problem;

/// Where a stream's events come from.
pub(crate) trait Source: Send + 'static {
    /// Reads what is new into `out`, or waits until something can be.
    fn fill(&mut self, out: &mut Outlet) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// Events on their way out.
#[derive(Default)]
pub(crate) struct Outlet {
    ready: VecDeque<Event>,
    over: bool,
}

impl Outlet {
    /// One with a JSON body. Control characters are escaped in JSON, so the fields cannot be broken out of.
    pub fn push(&mut self, name: &str, id: impl Display, data: &impl Serialize) {
        // Texts and numbers always go into JSON.
        let data = serde_json::to_string(data).unwrap_or_default();
        self.ready.push_back(Event::default().event(name).id(id.to_string()).data(data));
    }

    /// Nothing comes after what is ready.
    pub fn close(&mut self) {
        self.over = true;
    }

    /// The last event of a stream that cannot go on. Without an id: whoever comes back goes on where it was.
    fn fail(&mut self, fault: Fault) {
        tracing::error!("a stream broke off: {fault}");
        let data = serde_json::to_string(&Problem::from(fault)).unwrap_or_default();
        self.ready.push_back(Event::default().event("problem").data(data));
        self.close();
    }
}

/// Sends what is in `out`, then what `source` fills in, until it closes.
pub(crate) fn respond(source: impl Source, out: Outlet) -> Response {
    let stream = futures::stream::unfold((source, out), |(mut source, mut out)| async move {
        loop {
            if let Some(event) = out.ready.pop_front() {
                return Some((Ok::<_, Infallible>(event), (source, out)));
            }
            if out.over {
                return None;
            }
            if let Err(fault) = source.fill(&mut out).await {
                out.fail(fault);
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

/// Where a client that comes back left off.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    match headers.get("last-event-id").map(|value| value.to_str()) {
        None | Some(Ok("")) => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Fault::input("the `Last-Event-ID` is not text").hint("give the last `id` received")),
    }
}
