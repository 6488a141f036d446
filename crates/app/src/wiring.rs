//! Which implementation stands behind which port: the one place that knows all rooms.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use agents::Agents;
use checks::Checks;
use domain::{
    Fault,
    ports::{Clock, sandbox::Sandboxes as _},
};
use egress::Proxy;
use engine::{
    Handle, Ports, Terms,
    embedded::{Engine, Options},
};
use environments::Environments;
use gateway::Gateway;
use jiff::Timestamp;
use sandbox::{ContainerOptions, Containers, Sandboxes};
use store::Store;
use workspace::{Rung, Workspaces};

use crate::{
    config::{self, Config, Runner},
    home::Home,
};

/// The machine's clock.
#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A daemon's inside, at work.
#[derive(Debug)]
pub struct Started {
    pub handle: Handle,
    pub engine: Engine,
    /// How workspaces get their files, in a word.
    pub rung: &'static str,
    /// Those of the configuration that want a key.
    pub providers: Vec<api::Provider>,
}

/// Opens the home and takes up its tasks. Must be called inside a tokio runtime.
///
/// Errors: the first room that cannot be had, told by that room.
pub async fn start(home: &Home) -> Result<Started, Fault> {
    let config = Config::read(home.path())?;
    let usual = Options::default();
    let checks_at_once = config.limits.checks.or(usual.judgements);
    let options = Options {
        turns: config.limits.turns.or(usual.turns),
        // More judgements than runs of checks: those of one that hangs give their places up to others.
        judgements: checks_at_once.saturating_mul(2),
        disk: config.limits.disk.or(usual.disk),
        terms: Terms {
            stalls: config.stalls.bounds()?,
            budgets: config.budgets().to_vec(),
            side_model: config.side_model()?,
            own_logins: config.agents.own_logins,
            ..usual.terms
        },
        records_for: config.records.keep_or(usual.records_for),
    };
    let (ports, rung) = ports(home.path(), &config, checks_at_once).await?;
    let (handle, engine) = Engine::start(options, ports).await?;
    Ok(Started { handle, engine, rung, providers: providers(&config) })
}

fn providers(config: &Config) -> Vec<api::Provider> {
    let with_key = |provider: &gateway::ProviderConfig| {
        let (name, api_key) = (provider.name.clone(), provider.key.clone()?);
        Some(api::Provider { name, api_key, base_url: None })
    };
    config.providers().iter().filter_map(with_key).collect()
}

async fn ports(home: &Path, config: &Config, checks_at_once: usize) -> Result<(Ports, &'static str), Fault> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // First: a home that is damaged or too new is touched by nobody else.
    let store = Store::open(store::Options { home: home.to_owned(), clock: Arc::clone(&clock) })?;
    // No sandbox may see this home, wherever it is: other tasks' work, the keys, the daemon's socket.
    let hidden = vec![home.to_owned()];
    let (sandboxes, rung) = sandboxes(home, &config.sandbox, hidden.clone()).await?;
    let layers_bytes = config.layers.budget.map(|size| size.0);
    let workspaces = Workspaces::open(workspace::Options { home: home.to_owned(), rung, layers_bytes })?;
    let egress = Arc::new(Proxy::new(egress::Options {
        private: config.network.private.clone(),
        authorities: config.network.authorities.iter().map(|file| home.join(file)).collect(),
        ..egress::Options::new(home.join("egress"))
    })?);
    let environments = Environments::new(environments::Options {
        hidden,
        limits: config.sandbox.limits(),
        ..environments::Options::new(environments::Rooms {
            workspaces: workspaces.clone(),
            sandboxes: sandboxes.clone(),
            egress: egress.clone(),
            secrets: store.clone(),
            blobs: store.clone(),
            cache: store.clone(),
        })
    });
    let checks = checks::Options {
        parallel: Some(checks_at_once),
        ..checks::Options::new(workspaces.clone(), environments.clone(), store.clone(), store.clone())
    };
    let agents = agents::Options {
        directories: config.agents.directories(home),
        acp: config.agents.acp.clone(),
        recipes: config.agents.recipes.clone(),
        profiles: config.profiles().to_vec(),
        ..agents::Options::default()
    };
    let models = gateway::Options {
        records: Some(store.clone()),
        providers: config.providers().to_vec(),
        models: config.models().to_vec(),
        ..gateway::Options::new(store.clone(), clock.clone())
    };
    let ports = Ports {
        store: store.clone(),
        blobs: store.clone(),
        secrets: store.clone(),
        transcripts: store.clone(),
        ledger: store.clone(),
        records: store.clone(),
        workspaces,
        sandboxes,
        agents: Agents::new(agents),
        gateways: Gateway::new(models).map_err(|fault| fault.at("config.toml"))?,
        clock,
        checks: Checks::new(checks),
        environments,
        egress,
    };
    Ok((ports, word(rung)))
}

/// What makes sandboxes, and how workspaces get their files then.
async fn sandboxes(
    home: &Path,
    config: &config::Sandbox,
    hidden: Vec<PathBuf>,
) -> Result<(Arc<dyn domain::ports::sandbox::Sandboxes>, Rung), Fault> {
    let own =
        Sandboxes::start(sandbox::Options { hidden: hidden.clone(), ..sandbox::Options::from_env(home.to_owned()) })?;
    match config.runner {
        Runner::Namespaces => {
            let rung = if own.probe().layers { Rung::Overlay } else { Rung::probe_copy(home) };
            Ok((own, rung))
        }
        Runner::Container => {
            let image = config.image.clone().ok_or_else(|| {
                Fault::input("config.toml: sandboxes in containers need an image")
                    .hint("name one that the engine has: `image = \"…\"` below [sandbox]")
            })?;
            let options = ContainerOptions {
                engine: config.engine.0.clone(),
                image,
                program: "/proc/self/exe".into(),
                state: home.to_owned(),
                hidden,
            };
            Ok((Containers::start(options, own).await?, Rung::probe_copy(home)))
        }
    }
}

fn word(rung: Rung) -> &'static str {
    match rung {
        Rung::Overlay => "overlay",
        Rung::Reflink => "reflink",
        Rung::Copy => "copy",
    }
}
