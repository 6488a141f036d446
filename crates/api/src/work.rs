//! Work that takes long, answered as a stream: what is told of it, and at last what it came to.

use std::{future::Future, sync::Arc};

use axum::response::Response;
use domain::{Fault, ports::environments::Told};
use serde::Serialize;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
};

use crate::{
    App,
    sse::{self, Outlet, Source},
    wire,
};

/// Lines that wait for a reader; more are left out.
const WAITING: usize = 4096;

/// Answers with the lines that `begin`'s work tells, and at last with what it came to, under `name`. The work goes at its own
/// pace, whatever the reader's; when the reader goes nobody waits for it any more.
pub(crate) fn work<T, F>(app: App, name: &'static str, begin: impl FnOnce(Told) -> F) -> Response
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, Fault>> + Send + 'static,
{
    let (told, lines) = mpsc::channel(WAITING);
    let told: Told = Arc::new(move |line| match told.try_send(line.to_owned()) {
        // The log of the build has every line.
        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {}
    });
    let mut work = JoinSet::new();
    work.spawn(begin(told));
    sse::respond(Work { app, name, lines, work, told: 0 }, Outlet::default())
}

/// Work that is told of while it goes on.
struct Work<T> {
    app: App,
    name: &'static str,
    lines: mpsc::Receiver<String>,
    work: JoinSet<Result<T, Fault>>,
    told: u64,
}

impl<T: Serialize + Send + 'static> Source for Work<T> {
    async fn fill(&mut self, out: &mut Outlet) -> Result<(), Fault> {
        tokio::select! {
            // In this order: every line comes before the end.
            biased;
            Some(text) = self.lines.recv() => {
                self.told += 1;
                out.push("line", self.told, &wire::Line { text });
                Ok(())
            }
            ended = self.work.join_next() => {
                let ended = ended.unwrap_or_else(|| Ok(Err(Fault::bug("the work was asked for twice"))));
                let value = ended.unwrap_or_else(|broken| Err(Fault::bug(format!("the work broke off: {broken}"))))?;
                out.push(self.name, self.told, &value);
                out.close();
                Ok(())
            }
            () = self.app.stop.asked() => {
                Err(Fault::transient("the daemon stops, and this work with it").hint("ask for it again"))
            }
        }
    }
}
