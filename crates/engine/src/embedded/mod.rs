//! The driver on one machine.
//!
//! The way of an event: [`Core::apply`] (one at a time per task) → `step` → one transaction (event, state, outbox, timers, projection)
//! → news → the issued commands go to their lanes → a performer carries each out → its completion is the next event.
//! Only committed rows are performed, and everything here can be lost at any instant: [`Engine::start`] finds it all in the outbox.

mod core;
mod lanes;
mod timers;
mod workers;

use std::{sync::Arc, time::Duration};

use domain::Fault;
use tokio::sync::{mpsc, watch};

pub(crate) use self::core::Core;
use self::lanes::Queued;
use crate::{
    Handle, Ports, Terms,
    perform::{Origin, Places, Site, Sweep},
};

/// Bounds of one machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Turns that run at the same time. The rest wait in their order, holding nothing.
    pub turns: usize,
    /// Judgements that run at the same time.
    pub judgements: usize,
    /// Workspaces that are made, snapshotted or removed at the same time.
    pub disk: usize,
    pub terms: Terms,
    /// How long exchanges with models are kept.
    pub records_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            turns: 64,
            judgements: cores,
            disk: cores * 2,
            terms: Terms::default(),
            records_for: Duration::from_hours(30 * 24),
        }
    }
}

/// The running engine. Dropping it stops nothing: call [`Engine::stop`].
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    timers: tokio::task::JoinHandle<()>,
    previews: tokio::task::JoinHandle<()>,
    records: tokio::task::JoinHandle<()>,
}

impl Engine {
    /// Takes up everything that is in the outbox, and starts the clock. Must be called inside a tokio runtime.
    pub async fn start(options: Options, ports: Ports) -> Result<(Handle, Self), Fault> {
        let (stop, stopping) = watch::channel(false);
        let (orders, ordered) = mpsc::unbounded_channel();
        let places = Places::new(options.turns, options.judgements, options.disk);
        let core = Core::new(Site::new(ports, places, options.terms, stopping), orders);
        let rows = core.site.ports.store.outbox().await?;
        tokio::spawn(workers::run(Arc::clone(&core), ordered));
        if !rows.is_empty() {
            tracing::info!(commands = rows.len(), "taking up what an earlier life left in the outbox");
        }
        for row in rows {
            core.dispatch(row.task, Queued { id: row.id, command: row.command, origin: Origin::Recovered });
        }
        let timers = tokio::spawn(timers::run(Arc::clone(&core)));
        let previews = tokio::spawn(close_idle_previews(Arc::clone(&core)));
        let records = tokio::spawn(expire_records(Arc::clone(&core), options.records_for));
        let handle = Handle::new(Arc::clone(&core));
        Ok((handle, Self { core, stop, timers, previews, records }))
    }

    /// Resolves when the store refuses this process's writes: another daemon has taken the home.
    pub async fn fenced(&self) {
        self.core.fenced().await;
    }

    /// Stops within seconds and loses nothing: running turns are cut off and snapshotted, and go on at the next start.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.timers.abort();
        self.previews.abort();
        self.records.abort();
        self.core.site.previews.sweep(&self.core.site, Sweep::All).await;
        self.core.lanes.drained().await;
    }
}

/// How often records are looked through.
const EXPIRE_EVERY: Duration = Duration::from_hours(1);

async fn expire_records(core: Arc<Core>, keep: Duration) {
    let mut hour = tokio::time::interval(EXPIRE_EVERY);
    loop {
        hour.tick().await;
        let before = core.site.ports.clock.now().checked_sub(keep).unwrap_or(jiff::Timestamp::MIN);
        match core.site.ports.records.expire(before).await {
            Ok(0) => {}
            Ok(attempts) => tracing::info!(attempts, "records have expired"),
            Err(fault) => tracing::warn!(%fault, "records could not be looked through"),
        }
    }
}

/// How often previews are looked through.
const LOOK_FOR_IDLE_EVERY: Duration = Duration::from_mins(1);

async fn close_idle_previews(core: Arc<Core>) {
    let mut minute = tokio::time::interval(LOOK_FOR_IDLE_EVERY);
    loop {
        minute.tick().await;
        core.site.previews.sweep(&core.site, Sweep::Idle).await;
    }
}
