//! Opens sandboxes, and keeps the zygote that their keepers are forked from.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use domain::{
    Fault,
    ports::{
        BoxFuture,
        sandbox::{self, Confinement, Layers, Network, Probe, SandboxSpec, Tree},
    },
};
use rustix::net::SendFlags;

use crate::{
    groups::Bounds,
    link::Link,
    lock,
    order::{Ground, KeeperSpec, ProcessLimits},
    probe,
    sandbox::{KILL_DEADLINE, Nursery, Sandbox, no_process},
    view::Host,
    wire,
    zygote::{Namespaces, Order, ZYGOTE_ARGUMENT},
};

/// What the room needs to know of the machine and the program.
#[derive(Clone, Debug)]
pub struct Options {
    /// Program and arguments that end up in [`crate::zygote_main`].
    pub zygote: Vec<OsString>,
    /// The daemon's user's home. Hidden, except for the compilers and package caches in it.
    pub home: Option<PathBuf>,
    /// The daemon's PATH; a sandbox's is the part of it that is seen inside.
    pub path: OsString,
    /// Where cargo and rustup keep their things; `None` is below `home`.
    pub cargo_home: Option<PathBuf>,
    pub rustup_home: Option<PathBuf>,
    /// Where workspaces and layers are kept (made if absent): what a sandbox can be given there is found out by doing it.
    pub state: PathBuf,
    /// Host paths that no sandbox may see, besides the state directory and those of each spec.
    pub hidden: Vec<PathBuf>,
}

impl Options {
    /// As this process's environment has it, with this program's own executable as the zygote.
    pub fn from_env(state: PathBuf) -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            zygote: vec!["/proc/self/exe".into(), ZYGOTE_ARGUMENT.into()],
            home: path("HOME"),
            path: env::var_os("PATH").unwrap_or_default(),
            cargo_home: path("CARGO_HOME"),
            rustup_home: path("RUSTUP_HOME"),
            state,
            hidden: Vec::new(),
        }
    }
}

/// Implements the port. The zygote ends when this and every sandbox are dropped.
#[derive(Debug)]
pub struct Sandboxes {
    zygote: Arc<Zygote>,
    host: Host,
    state: PathBuf,
    probe: OnceLock<Probe>,
}

impl Sandboxes {
    /// Starts the zygote and looks at what the host has to show. `Environment` when the zygote cannot be executed.
    pub fn start(options: Options) -> Result<Arc<Self>, Fault> {
        let host = Host::look(&options);
        let zygote = Arc::new(Zygote { argv: options.zygote, running: Mutex::new(None) });
        zygote.ready()?;
        Ok(Arc::new(Self { zygote, host, state: options.state, probe: OnceLock::new() }))
    }

    /// Where workspaces are kept.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Opens without asking whether the machine can confine.
    pub(crate) fn open_untested(&self, mut spec: SandboxSpec) -> Result<Arc<Sandbox>, Fault> {
        let (ports, limits) = furnish(&mut spec)?;
        let ground = match spec.confinement {
            Confinement::Confined => Ground::Own(self.host.view(&spec)?),
            Confinement::Unconfined => Ground::Host,
        };
        let env = self.host.environment(&spec);
        Ok(Arc::new(Sandbox::new(self.zygote.clone(), spec, &KeeperSpec { ground, ports, limits }, env)))
    }

    fn open_tested(&self, spec: SandboxSpec) -> Result<Arc<dyn sandbox::Sandbox>, Fault> {
        if spec.confinement == Confinement::Confined {
            let probe = self.probe.get_or_init(|| probe::probe(self));
            if let Some(wall) = probe.walls.iter().find(|_| !probe.confined) {
                return Err(Fault::environment(format!("this machine cannot confine processes: {}", wall.note))
                    .hint("mend that, or say --unconfined to run the agent with all of your own user's rights"));
            }
        }
        let sandbox: Arc<dyn sandbox::Sandbox> = self.open_untested(spec)?;
        Ok(sandbox)
    }
}

/// Makes what is to be there and names it by its real path. What a keeper is told besides: ports and limits.
pub fn furnish(spec: &mut SandboxSpec) -> Result<(Vec<u16>, ProcessLimits), Fault> {
    let ports = ports(spec)?;
    settle(&mut spec.root, "workspace")?;
    if let Tree::Directory(home) = &spec.home {
        make(home, "home")?;
    }
    settle(&mut spec.home, "home")?;
    make(&spec.scratch, "scratch directory")?;
    spec.scratch = absolute(&spec.scratch, "scratch directory")?;
    let limits = ProcessLimits {
        memory_bytes: spec.limits.memory_bytes,
        processes: spec.limits.processes,
        open_files: spec.limits.open_files,
        file_bytes: spec.limits.file_bytes,
    };
    Ok((ports, limits))
}

/// The ports of a sandbox's own network. A confined one has nothing else; plain processes have none and see no layers.
fn ports(spec: &SandboxSpec) -> Result<Vec<u16>, Fault> {
    let layered = [&spec.root, &spec.home].iter().any(|tree| matches!(tree, Tree::Layers(_)));
    match (spec.confinement, &spec.network) {
        (Confinement::Confined, Network::Own(bridges)) if bridges.len() <= wire::MAX_BRIDGES => {
            let mut ports: Vec<u16> = bridges.iter().map(|bridge| bridge.port).collect();
            let listed = ports.clone();
            ports.sort_unstable();
            ports.dedup();
            match ports.len() == listed.len() && !ports.contains(&0) {
                true => Ok(listed),
                false => Err(Fault::bug(format!("a sandbox cannot have these bridges: {:?}", spec.network))),
            }
        }
        (Confinement::Confined, Network::Own(bridges)) => {
            Err(Fault::bug(format!("a sandbox can have {} bridges, not {}", wire::MAX_BRIDGES, bridges.len())))
        }
        (Confinement::Confined, Network::Host) => Err(Fault::bug("a confined sandbox has a network of its own")),
        (Confinement::Unconfined, Network::Host) if !layered => Ok(Vec::new()),
        (Confinement::Unconfined, _) => Err(Fault::bug("plain processes have the host's network and no layers")),
    }
}

/// Makes a tree's paths what they are without links; all of them exist.
fn settle(tree: &mut Tree, what: &str) -> Result<(), Fault> {
    match tree {
        Tree::Directory(path) => *path = absolute(path, what)?,
        Tree::Layers(Layers { lower, upper, work }) => {
            for path in lower.iter_mut().chain([upper, work]) {
                *path = absolute(path, what)?;
            }
        }
    }
    Ok(())
}

fn absolute(path: &Path, what: &str) -> Result<PathBuf, Fault> {
    fs::canonicalize(path)
        .map_err(|error| Fault::environment(format!("cannot find the sandbox's {what} {}: {error}", path.display())))
}

pub fn make(path: &Path, what: &str) -> Result<(), Fault> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Fault::environment(format!("cannot make the sandbox's {what} {}: {error}", path.display())))
}

impl sandbox::Sandboxes for Sandboxes {
    fn probe(&self) -> Probe {
        self.probe.get_or_init(|| probe::probe(self)).clone()
    }

    fn open(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Arc<dyn sandbox::Sandbox>, Fault>> {
        // A few file system calls, except for the first time, when the machine is tried out (some milliseconds).
        Box::pin(async move { self.open_tested(spec) })
    }

    fn ensure_dead(&self, lock: PathBuf, deadline: Duration) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            tokio::task::spawn_blocking(move || lock::wait_free(&lock, deadline))
                .await
                .map_err(|error| Fault::bug(error.to_string()))?
        })
    }
}

impl Nursery for Zygote {
    fn keeper<'a>(self: Arc<Self>, spec: &'a SandboxSpec, told: &'a [u8]) -> BoxFuture<'a, Result<Link, Fault>> {
        Box::pin(async move {
            let (ours, theirs) = wire::pair().map_err(|error| no_process(&error))?;
            let (path, told) = (spec.lock.clone(), told.to_vec());
            let ordered = Order {
                namespaces: match spec.confinement {
                    Confinement::Confined => Namespaces::Own,
                    Confinement::Unconfined => Namespaces::Hosts,
                },
                bounds: Bounds {
                    memory: spec.limits.memory_bytes.unwrap_or(0),
                    processes: spec.limits.processes.unwrap_or(0),
                    processor: spec.limits.processor_percent.unwrap_or(0),
                },
            };
            let order = move || -> Result<(), Fault> {
                let lock = match ordered.namespaces {
                    Namespaces::Own => lock::own(&path, KILL_DEADLINE)?,
                    Namespaces::Hosts => lock::share(&path)?,
                };
                let told = wire::memory_file(&told).map_err(|error| no_process(&error))?;
                self.order(ordered, &[theirs.as_fd(), lock.as_fd(), told.as_fd()])
            };
            tokio::task::spawn_blocking(order).await.map_err(|error| Fault::bug(error.to_string()))??;
            Link::new(ours).map_err(|error| no_process(&error))
        })
    }
}

/// The zygote, started anew when it has died.
#[derive(Debug)]
pub struct Zygote {
    argv: Vec<OsString>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    socket: Option<OwnedFd>,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It ends when its socket closes, and is reaped here.
        self.socket = None;
        drop(self.child.wait());
    }
}

impl Zygote {
    /// Makes sure that it runs. Blocks for as long as executing a program takes.
    fn ready(&self) -> Result<(), Fault> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = Some(self.execute()?);
        }
        Ok(())
    }

    fn execute(&self) -> Result<Running, Fault> {
        let (program, arguments) =
            self.argv.split_first().ok_or_else(|| Fault::bug("no zygote program is configured"))?;
        let fault = |error: io::Error| {
            Fault::environment(format!("cannot start the sandbox zygote {}: {error}", program.display()))
        };
        let (socket, theirs) = wire::pair().map_err(fault)?;
        // Its environment would be every keeper's: it gets none.
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()
            .map_err(fault)?;
        Ok(Running { socket: Some(socket), child })
    }

    /// Orders a keeper. Blocks while the zygote has many orders before this one.
    fn order(&self, order: Order, fds: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = None;
        // A second time where the one that ran has died meanwhile.
        for _ in 0..2 {
            let zygote = match running.as_ref() {
                Some(zygote) => zygote,
                None => running.insert(self.execute()?),
            };
            let Some(socket) = &zygote.socket else { continue };
            match wire::send(socket, &order.encode(), fds, SendFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            *running = None;
        }
        let why = last.map_or_else(String::new, |error| error.to_string());
        Err(Fault::transient(format!("the sandbox zygote died twice: {why}")))
    }
}
