//! The port over a container engine.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use domain::{
    Fault,
    ports::{
        BoxFuture,
        sandbox::{self, Confinement, Probe, SandboxSpec, Tree, Wall},
    },
};

use super::{
    engine::{Engine, OF_LOCK, OF_STATE},
    nursery::Nursery,
    program::Program,
    walls,
};
use crate::{
    order::{Ground, KeeperSpec},
    probe,
    sandbox::Sandbox,
    sandboxes::{Sandboxes, furnish, make},
    view::{Host, environment_in_image},
};

#[derive(Clone, Debug)]
pub struct Options {
    /// The path of the engine's Unix socket.
    pub engine: PathBuf,
    /// Its name, as the engine knows it. It is not fetched.
    pub image: String,
    /// This program, which ends up in [`crate::keeper_main`] where its first argument says so.
    pub program: PathBuf,
    /// Where workspaces are kept. Two daemons never share one: containers that are of it when this is started are removed.
    pub state: PathBuf,
    /// Host paths that no sandbox may see, besides those of each spec.
    pub hidden: Vec<PathBuf>,
}

/// Implements the port. Plain processes, for those who say `--unconfined`, stay what they are without containers.
#[derive(Debug)]
pub struct Containers {
    engine: Arc<Engine>,
    program: Arc<Program>,
    host: Host,
    state: PathBuf,
    plain: Arc<Sandboxes>,
    probe: OnceLock<Probe>,
}

impl Containers {
    /// Copies the program and removes what an earlier daemon left running. `Environment` where the state directory cannot be
    /// written; that the engine cannot be reached is told when it is needed, as it may come up later.
    pub async fn start(options: Options, plain: Arc<Sandboxes>) -> Result<Arc<Self>, Fault> {
        let Options { engine, image, program, state, hidden } = options;
        make(&state, "state directory")?;
        let directory = state.clone();
        let copied = tokio::task::spawn_blocking(move || Program::copy(&program, &directory)).await;
        let program = copied.map_err(|error| Fault::bug(error.to_string()))?.map_err(|error| {
            Fault::environment(format!("cannot copy this program to {}: {error}", state.display()))
                .hint("make sure that Overnight's home can be written to (OVERNIGHT_HOME)")
        })?;
        let engine = Arc::new(Engine::new(engine, image));
        if let Err(fault) = engine.remove_labeled(OF_STATE, &state).await {
            tracing::warn!(%fault, "containers of an earlier daemon, if there are any, are left as they are");
        }
        let host = Host::behind_image(hidden);
        Ok(Arc::new(Self { engine, program: Arc::new(program), host, state, plain, probe: OnceLock::new() }))
    }

    async fn open_contained(&self, mut spec: SandboxSpec) -> Result<Arc<Sandbox>, Fault> {
        if [&spec.root, &spec.home].iter().any(|tree| matches!(tree, Tree::Layers(_))) {
            return Err(Fault::environment("a container engine cannot be given a workspace of layers")
                .hint("its workspaces are copies; choose the runner \"namespaces\" in config.toml for layers"));
        }
        let (ports, limits) = furnish(&mut spec)?;
        make(&spec.scratch.join("tmp"), "directory for /tmp")?;
        let env = environment_in_image(&self.engine.facts().await?.env, &spec);
        let view = self.host.view(&spec)?;
        let nursery =
            Nursery { engine: self.engine.clone(), program: self.program.clone(), state: self.state.clone(), view };
        let told = KeeperSpec { ground: Ground::Container, ports, limits };
        Ok(Arc::new(Sandbox::new(Arc::new(nursery), spec, &told, env)))
    }

    async fn try_out(&self, directory: &Path) -> Result<Vec<Wall>, Fault> {
        let sandbox = self.open_contained(probe::spec(directory, Tree::Directory(directory.join("plain")))).await?;
        let bounds = probe::run(&sandbox, "true").await?;
        let facts = self.engine.facts().await?;
        Ok(walls::walls(&facts.told, bounds, &facts.info))
    }
}

impl sandbox::Sandboxes for Containers {
    fn probe(&self) -> Probe {
        let try_out = || {
            let tried = probe::attempt(&self.state, async |directory| self.try_out(directory).await);
            match tried.flatten() {
                Ok(walls) => Probe { confined: true, layers: false, walls },
                Err(fault) => Probe { confined: false, layers: false, walls: walls::none(&fault) },
            }
        };
        self.probe.get_or_init(try_out).clone()
    }

    fn open(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Arc<dyn sandbox::Sandbox>, Fault>> {
        Box::pin(async move {
            match spec.confinement {
                Confinement::Unconfined => self.plain.open(spec).await,
                Confinement::Confined => {
                    let sandbox: Arc<dyn sandbox::Sandbox> = self.open_contained(spec).await?;
                    Ok(sandbox)
                }
            }
        })
    }

    fn ensure_dead(&self, lock: PathBuf, deadline: Duration) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            // Where the engine does not answer, the lock tells still whether something lives, and who.
            if let Err(fault) = self.engine.remove_labeled(OF_LOCK, &lock).await {
                tracing::warn!(%fault, "the containers of a sandbox cannot be asked for");
            }
            self.plain.ensure_dead(lock, deadline).await
        })
    }
}
