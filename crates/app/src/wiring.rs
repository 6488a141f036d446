//! Which implementation stands behind which port: the one place that knows all rooms.

use std::sync::Arc;

use agents::Agents;
use checks::Checks;
use domain::{Fault, ports::Clock};
use engine::{
    Handle, Ports,
    embedded::{Engine, Options},
};
use gateway::Gateway;
use jiff::Timestamp;
use sandbox::Sandboxes;
use store::Store;
use workspace::Workspaces;

use crate::{config::Config, home::Home};

/// The machine's clock.
#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Opens the home and takes up its tasks. Must be called inside a tokio runtime.
///
/// Errors: the first room that cannot be had, told by that room.
pub async fn start(home: &Home) -> Result<(Handle, Engine), Fault> {
    let limits = Config::read(home.path())?.limits;
    let usual = Options::default();
    let options = Options {
        turns: limits.turns.or(usual.turns),
        judgements: limits.checks.or(usual.judgements),
        disk: limits.disk.or(usual.disk),
        ..usual
    };
    let ports = ports(home, options.judgements)?;
    Engine::start(options, ports).await
}

fn ports(home: &Home, checks_at_once: usize) -> Result<Ports, Fault> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let home = home.path().to_owned();
    // First: a home that is damaged or too new is touched by nobody else.
    let store = Store::open(store::Options { home: home.clone(), clock: Arc::clone(&clock) })?;
    // No sandbox may see this home, wherever it is: other tasks' work, the keys, the daemon's socket.
    let sandboxes = Sandboxes::start(sandbox::Options { hidden: vec![home.clone()], ..sandbox::Options::from_env() })?;
    let workspaces = Workspaces::open(workspace::Options { home })?;
    let checks = checks::Options {
        parallel: Some(checks_at_once),
        ..checks::Options::new(workspaces.clone(), sandboxes.clone(), store.clone(), store.clone())
    };
    Ok(Ports {
        store: store.clone(),
        blobs: store.clone(),
        secrets: store.clone(),
        transcripts: store.clone(),
        ledger: store.clone(),
        workspaces,
        sandboxes,
        agents: Agents::new(agents::Options::default()),
        gateways: Gateway::new(gateway::Options::new(store, clock.clone())),
        clock,
        checks: Checks::new(checks),
    })
}
