//! The stream of all tasks: one event per journaled event, in the journal's order, with the task as it is now.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt::Display,
};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse,
        sse::{Event as Sse, KeepAlive},
    },
};
use domain::{
    Fault,
    ids::TaskId,
    ports::store::{Recorded, Store},
};
use engine::News;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    App,
    extract::Params,
    problem::Failure,
    wire::{Hello, Problem, Summary, TaskEvent},
};

const PAGE: u32 = 256;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventsQuery {
    after: Option<u64>,
}

pub(crate) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    Params(asked): Params<EventsQuery>,
) -> Result<impl IntoResponse, Failure> {
    // Subscribed before anything is read: what is committed in between rings.
    let news = app.handle.news();
    let mut ready = VecDeque::new();
    let position = match (asked.after, last_event_id(&headers)?) {
        (Some(position), _) => position,
        (None, Some(text)) => text.parse().map_err(|_| {
            Fault::input(format!("`{text}` is not a position of this stream")).hint("give the last `id` received")
        })?,
        (None, None) => {
            let position = end_of_journal(&*app.ports().store).await?;
            ready.push_back(sse("hello", position, &Hello { position }));
            position
        }
    };
    let feed = Feed { app, news, position, ready, over: false };
    let stream = futures::stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    Ok(axum::response::Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// The position of the last event there is. The port has no question for it; positions rise, so halving finds it in
/// some forty cheap reads, once per stream.
async fn end_of_journal(store: &dyn Store) -> Result<u64, Fault> {
    let (mut reached, mut beyond) = (0, 1);
    while !store.since(beyond, 1).await?.is_empty() {
        (reached, beyond) = (beyond, beyond.saturating_mul(2));
    }
    // Something stands after `reached` (or the journal is empty), nothing after `beyond`.
    while beyond - reached > 1 {
        let middle = reached + (beyond - reached) / 2;
        match store.since(middle, 1).await?.is_empty() {
            true => beyond = middle,
            false => reached = middle,
        }
    }
    Ok(beyond)
}

struct Feed {
    app: App,
    news: broadcast::Receiver<News>,
    /// Of the last event told.
    position: u64,
    ready: VecDeque<Sse>,
    over: bool,
}

impl Feed {
    /// The next event to send; `None` closes the stream.
    async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            if let Err(fault) = self.fill().await {
                self.over = true;
                return Some(problem(fault));
            }
        }
    }

    /// Reads what is new, or waits until something is.
    async fn fill(&mut self) -> Result<(), Fault> {
        let page = self.app.ports().store.since(self.position, PAGE).await?;
        if page.is_empty() {
            tokio::select! {
                () = news_after(&mut self.news, self.position) => {}
                () = self.app.stop.asked() => self.over = true,
            }
            return Ok(());
        }
        let mut tasks: HashMap<TaskId, Summary> = HashMap::new();
        for Recorded { position, task: id, envelope, .. } in page {
            let task = match tasks.get(&id) {
                Some(known) => known.clone(),
                None => self.app.summary(id).await?,
            };
            tasks.insert(id, task.clone());
            let told = TaskEvent { position, event: envelope.event.name().to_owned(), seq: envelope.seq, task };
            self.ready.push_back(sse("task", position, &told));
            self.position = position;
        }
        Ok(())
    }
}

/// Resolves when something stands in the journal after `position`.
async fn news_after(news: &mut broadcast::Receiver<News>, position: u64) {
    loop {
        match news.recv().await {
            Ok(news) if news.position <= position => {}
            // Who lagged behind looks for itself. A closed channel is the end of the engine, which comes with a stop.
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// A server-sent event with a JSON body. Control characters are escaped in JSON, so the fields cannot be broken out of.
pub(crate) fn sse(name: &str, id: impl Display, data: &impl Serialize) -> Sse {
    // Texts and numbers always go into JSON.
    Sse::default().event(name).id(id.to_string()).data(serde_json::to_string(data).unwrap_or_default())
}

/// The last event of a stream that cannot go on. Without an id: whoever comes back goes on where it was.
pub(crate) fn problem(fault: Fault) -> Sse {
    tracing::error!("a stream broke off: {fault}");
    Sse::default().event("problem").data(serde_json::to_string(&Problem::from(fault)).unwrap_or_default())
}

pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    match headers.get("last-event-id").map(|value| value.to_str()) {
        None | Some(Ok("")) => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Fault::input("the `Last-Event-ID` is not text").hint("give the last `id` received")),
    }
}
