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
    Handle, Ports,
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
    /// How often a turn that goes on is snapshotted.
    pub snapshot_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { turns: 64, judgements: cores, disk: cores * 2, snapshot_every: Duration::from_secs(60) }
    }
}

/// The running engine. Dropping it stops nothing: call [`Engine::stop`].
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    timers: tokio::task::JoinHandle<()>,
    previews: tokio::task::JoinHandle<()>,
}

impl Engine {
    /// Takes up everything that is in the outbox, and starts the clock. Must be called inside a tokio runtime.
    pub async fn start(options: Options, ports: Ports) -> Result<(Handle, Self), Fault> {
        let (stop, stopping) = watch::channel(false);
        let (orders, ordered) = mpsc::unbounded_channel();
        let places = Places::new(options.turns, options.judgements, options.disk);
        let core = Core::new(Site::new(ports, places, options.snapshot_every, stopping), orders);
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
        let handle = Handle::new(Arc::clone(&core));
        Ok((handle, Self { core, stop, timers, previews }))
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
        self.core.site.previews.sweep(&self.core.site, Sweep::All).await;
        self.core.lanes.drained().await;
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
