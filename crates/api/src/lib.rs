//! The HTTP API: what people and programs say to Overnight, and what they are told.
//!
//! [`wire`] has the bodies, [`brief_file`] and [`amount`] the forms that people write; a client needs nothing else of this room.
//! The server is [`bind`] and [`serve`]; `routes.rs` has the table of routes, and one file per topic the handlers, which say
//! things through [`engine::Handle`] and read through its ports.
#![forbid(unsafe_code)]

mod agents;
pub mod amount;
mod attach;
pub mod brief_file;
mod changes;
mod door;
mod environment;
mod events;
mod export;
mod extract;
mod house;
mod keys;
mod log;
mod mistakes;
mod models;
mod plan;
mod problem;
mod routes;
mod secrets;
mod speech;
mod sse;
mod tasks;
pub mod telling;
mod turns;
pub mod wire;
mod work;

use std::{io, ops::Deref, path::PathBuf, sync::Arc};

use domain::{Fault, ids::TaskId, task::Task};
use engine::{Handle, Ports};
use jiff::Timestamp;
use tokio::net::UnixListener;

pub use door::{Stop, bind};
pub use keys::Provider;
pub use mistakes::in_words;
pub use routes::{ROUTES, Route};

/// What the API is wired with.
#[derive(Debug)]
pub struct Options {
    pub handle: Handle,
    /// The version of this build.
    pub version: &'static str,
    /// `$OVERNIGHT_HOME`.
    pub home: PathBuf,
    /// How workspaces get their files, in a word: `overlay`, `reflink`, `copy`.
    pub rung: &'static str,
    /// Providers of the configuration, whose keys can be kept like those of the known ones.
    pub providers: Vec<Provider>,
    /// Ends [`serve`]; `POST /shutdown` asks it too.
    pub stop: Stop,
}

/// Serves the API until a stop is asked for: then no new connection is taken, streams end, and open requests get three seconds.
///
/// Errors: those of the listener.
pub async fn serve(listener: UnixListener, options: Options) -> io::Result<()> {
    let stop = options.stop.clone();
    let app = App::new(options);
    let router = routes::router(app.clone());
    let service = router.into_make_service_with_connect_info::<door::Peer>();
    let asked = stop.clone();
    let server = axum::serve(door::Door(listener), service).with_graceful_shutdown(async move { asked.asked().await });
    let served = async {
        let ended = server.await;
        app.sessions.ended().await;
        ended
    };
    tokio::select! {
        ended = served => ended,
        () = stop.grace_over() => Ok(()),
    }
}

/// What every handler shares; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    handle: Handle,
    version: &'static str,
    home: PathBuf,
    rung: &'static str,
    providers: Vec<Provider>,
    stop: Stop,
    started_at: Timestamp,
    people: door::People,
    sessions: attach::Sessions,
    /// Held while the installation's keys are read and written back.
    keys: tokio::sync::Mutex<()>,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    fn new(options: Options) -> Self {
        let Options { handle, version, home, rung, providers, stop } = options;
        let started_at = handle.ports().clock.now();
        let people = door::People::of_this_machine();
        let (sessions, keys) = (attach::Sessions::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Shared { handle, version, home, rung, providers, stop, started_at, people, sessions, keys }))
    }
}

impl Shared {
    fn ports(&self) -> &Ports {
        self.handle.ports()
    }

    /// The whole state. Errors: `NotFound`.
    async fn task(&self, id: TaskId) -> Result<Task, Fault> {
        self.ports().store.task(id).await?.ok_or_else(|| no_such_task(id))
    }

    /// What lists show of it. Errors: `NotFound`.
    async fn summary(&self, id: TaskId) -> Result<wire::Summary, Fault> {
        Ok(self.ports().store.summary(id).await?.ok_or_else(|| no_such_task(id))?.into())
    }
}

fn no_such_task(id: TaskId) -> Fault {
    Fault::not_found(format!("there is no task {id}")).hint("`overnight list` shows those there are")
}
