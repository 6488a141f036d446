//! The stream of all tasks: one event per journaled event, in the journal's order, with the task as it is now.

use std::collections::HashMap;

use axum::{extract::State, http::HeaderMap, response::Response};
use domain::{
    Fault,
    ids::TaskId,
    ports::store::{Recorded, Store},
};
use engine::News;
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    App,
    extract::Params,
    problem::Failure,
    sse::{self, Outlet, Source, last_event_id},
    wire::{Hello, Summary, TaskEvent},
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
) -> Result<Response, Failure> {
    // Subscribed before anything is read: what is committed in between rings.
    let news = app.handle.news();
    let mut out = Outlet::default();
    let position = match (asked.after, last_event_id(&headers)?) {
        (Some(position), _) => position,
        (None, Some(text)) => text.parse().map_err(|_| {
            Fault::input(format!("`{text}` is not a position of this stream")).hint("give the last `id` received")
        })?,
        (None, None) => {
            let position = end_of_journal(&*app.ports().store).await?;
            out.push("hello", position, &Hello { position });
            position
        }
    };
    Ok(sse::respond(Feed { app, news, position }, out))
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
}

impl Source for Feed {
    async fn fill(&mut self, out: &mut Outlet) -> Result<(), Fault> {
        let page = self.app.ports().store.since(self.position, PAGE).await?;
        if page.is_empty() {
            tokio::select! {
                () = news_after(&mut self.news, self.position) => {}
                () = self.app.stop.asked() => out.close(),
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
            out.push("task", position, &told);
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
