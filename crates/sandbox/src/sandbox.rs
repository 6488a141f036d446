//! One sandbox as the daemon sees it.

use std::{
    ffi::OsString,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{
    Fault,
    ports::{
        BoxFuture,
        sandbox::{self, Confinement, Exec, Exit, SandboxSpec, WORKSPACE_DIR},
    },
};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    files::Files,
    groups::Bounds,
    init,
    link::Link,
    lock,
    order::{Command, KeeperSpec},
    probe,
    process::{Keeping, Process},
    sandboxes::Zygote,
    wire::{self, Report},
    zygote::{Namespaces, Order},
};

/// In place of a time that the clock cannot tell.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long a kill waits for what the kernel does at once.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Dropping it closes the link to its keeper, which kills everything in it.
#[derive(Debug)]
pub struct Sandbox {
    zygote: Arc<Zygote>,
    spec: SandboxSpec,
    /// What its keepers are told, written down: a tenth of the size.
    keeper_spec: Vec<u8>,
    /// What every command's environment starts from, the spec's own variables included.
    env: Vec<(OsString, OsString)>,
    files: Files,
    /// There is none before the first command and after a kill.
    keeper: Mutex<Option<Arc<Link>>>,
    /// What the control group of the last keeper bounds.
    bounds: AtomicU32,
}

impl Sandbox {
    pub fn new(zygote: Arc<Zygote>, spec: SandboxSpec, keeper: &KeeperSpec, env: Vec<(OsString, OsString)>) -> Self {
        let files = Files::new(spec.root.clone());
        Self {
            zygote,
            spec,
            keeper_spec: keeper.encode(),
            env,
            files,
            keeper: Mutex::new(None),
            bounds: AtomicU32::new(0),
        }
    }

    /// What its processes are bounded in together; nothing before the first command.
    pub fn bounds(&self) -> u32 {
        self.bounds.load(Ordering::Relaxed)
    }

    /// The keeper, started when there is none.
    async fn keeper(&self) -> Result<Arc<Link>, Fault> {
        let mut slot = self.keeper.lock().await;
        if let Some(keeper) = slot.as_ref() {
            return Ok(keeper.clone());
        }
        // A second time where the zygote died with the order in its hands.
        for _ in 0..2 {
            let keeper = self.order_keeper().await?;
            match keeper.report().await {
                Some(Report::Ready(bounds)) => {
                    self.bounds.store(bounds, Ordering::Relaxed);
                    return Ok(slot.insert(Arc::new(keeper)).clone());
                }
                Some(Report::Failed { stage, errno, mount }) => return Err(self.explain(stage, errno, mount)),
                _ => {}
            }
        }
        Err(Fault::transient("the sandbox's first process was killed twice before it was ready"))
    }

    async fn order_keeper(&self) -> Result<Link, Fault> {
        let (ours, theirs) = wire::pair().map_err(|error| no_process(&error))?;
        let zygote = self.zygote.clone();
        let path = self.spec.lock.clone();
        let spec = self.keeper_spec.clone();
        let limits = self.spec.limits;
        let ordered = Order {
            namespaces: match self.spec.confinement {
                Confinement::Confined => Namespaces::Own,
                Confinement::Unconfined => Namespaces::Hosts,
            },
            bounds: Bounds { memory: limits.memory_bytes.unwrap_or(0), processes: limits.processes.unwrap_or(0) },
        };
        let order = move || -> Result<(), Fault> {
            let lock = lock::share(&path)?;
            let spec = wire::memory_file(&spec).map_err(|error| no_process(&error))?;
            zygote.order(ordered, &[theirs.as_fd(), lock.as_fd(), spec.as_fd()])
        };
        tokio::task::spawn_blocking(order).await.map_err(|error| Fault::bug(error.to_string()))??;
        Link::new(ours).map_err(|error| no_process(&error))
    }

    fn explain(&self, stage: u8, errno: i32, mount: u16) -> Fault {
        let error = io::Error::from_raw_os_error(errno);
        let stage = wire::STAGES.get(usize::from(stage)).copied().unwrap_or("set up");
        let view = KeeperSpec::decode(&self.keeper_spec).and_then(|spec| spec.view);
        let mounts = view.as_ref().map_or(&[][..], |view| &view.mounts);
        let place = match usize::from(mount).checked_sub(1).and_then(|index| mounts.get(index)) {
            Some(mount) => format!(" at {mount}"),
            None => String::new(),
        };
        let fault = Fault::environment(format!("the sandbox could not {stage}{place}: {error}"));
        let denied = matches!(errno, libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS | libc::EINVAL);
        match denied.then(probe::mend).flatten() {
            Some(mend) => fault.hint(mend),
            None => fault,
        }
    }

    async fn start(&self, exec: Exec) -> Result<Process, Fault> {
        let begun = Instant::now();
        let deadline = begun.checked_add(exec.timeout).unwrap_or(begun + FOREVER);
        let refuse = |error: io::Error| no_process(&error);
        let command = self.command(&exec)?;
        let (control, theirs) = wire::pair().map_err(refuse)?;
        let (output, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| refuse(errno.into()))?;
        let command = wire::memory_file(&command.encode()).map_err(refuse)?;
        let stdin = if exec.stdin.is_empty() { None } else { Some(wire::memory_file(&exec.stdin).map_err(refuse)?) };
        let mut fds = vec![theirs.as_fd(), write.as_fd(), command.as_fd()];
        fds.extend(stdin.as_ref().map(AsFd::as_fd));
        let keeper = self.keeper().await?;
        if keeper.send(&[0], &fds).await.is_err() {
            // Somebody killed the keeper (the machine was out of memory, say): its sandbox is gone with it, and is made anew.
            self.forget(&keeper).await;
            self.keeper().await?.send(&[0], &fds).await.map_err(refuse)?;
        }
        drop((theirs, write, command, stdin));
        let init = Link::new(control).map_err(refuse)?;
        let not_started = match init.report().await {
            Some(Report::Started) => None,
            Some(Report::NotStarted(_)) => Some(Exit::NotStarted),
            Some(Report::NoDirectory(errno)) => {
                let cwd = exec.cwd.as_deref().unwrap_or(WORKSPACE_DIR);
                let error = io::Error::from_raw_os_error(errno);
                return Err(Fault::input(format!("cannot run in directory {cwd}: {error}")));
            }
            Some(Report::Failed { errno: libc::E2BIG, .. }) => {
                return Err(Fault::input("the command is too long for the system (E2BIG)")
                    .hint("write the long part to a file, or give it on standard input"));
            }
            Some(Report::Failed { stage, errno, mount }) => return Err(self.explain(stage, errno, mount)),
            Some(Report::Ready(_) | Report::Exited(_) | Report::Signaled(_)) | None => {
                return Err(Fault::transient("the sandbox was killed while a command was started in it"));
            }
        };
        let keeping = Keeping { spill: self.spec.spill.clone(), limit: self.spec.limits.output_bytes };
        Process::attend(init, output, keeping, deadline, not_started).map_err(refuse)
    }

    fn command(&self, exec: &Exec) -> Result<Command, Fault> {
        if exec.argv.is_empty() {
            return Err(Fault::input("a command needs at least a program"));
        }
        let texts = exec.argv.iter().chain(&exec.cwd).chain(exec.env.iter().flat_map(|(name, value)| [name, value]));
        if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
            return Err(Fault::input(format!("a command cannot contain a NUL character: {text:?}")));
        }
        let cwd = Path::new(WORKSPACE_DIR).join(exec.cwd.as_deref().unwrap_or_default());
        let own = exec.env.iter().map(|(name, value)| (name.into(), value.into()));
        Ok(Command {
            argv: exec.argv.iter().map(OsString::from).collect(),
            env: init::merge(self.env.iter().cloned().chain(own)),
            cwd: self.locate(cwd),
        })
    }

    /// Where a path of the sandbox is for its processes: unconfined ones see the host's.
    fn locate(&self, path: PathBuf) -> PathBuf {
        match (self.spec.confinement, path.strip_prefix(WORKSPACE_DIR)) {
            (Confinement::Unconfined, Ok(relative)) => self.spec.root.join(relative),
            _ => path,
        }
    }

    async fn forget(&self, dead: &Arc<Link>) {
        let mut slot = self.keeper.lock().await;
        if slot.as_ref().is_some_and(|keeper| Arc::ptr_eq(keeper, dead)) {
            *slot = None;
        }
    }
}

fn no_process(error: &io::Error) -> Fault {
    let fault = Fault::environment(format!("no process could be made for a sandbox: {error}"));
    match error.raw_os_error() {
        Some(libc::EMFILE) => fault.hint("raise the limit on open files of the daemon (ulimit -n)"),
        _ => fault,
    }
}

impl sandbox::Sandbox for Sandbox {
    fn spawn(&self, exec: Exec) -> BoxFuture<'_, Result<Box<dyn sandbox::Process>, Fault>> {
        Box::pin(async move {
            let process: Box<dyn sandbox::Process> = Box::new(self.start(exec).await?);
            Ok(process)
        })
    }

    fn files(&self) -> &dyn sandbox::Files {
        &self.files
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut slot = self.keeper.lock().await;
            let Some(keeper) = slot.take() else { return };
            keeper.let_go();
            keeper.gone().await;
            let path = self.spec.lock.clone();
            let freed = tokio::task::spawn_blocking(move || lock::wait_free(&path, KILL_DEADLINE)).await;
            if let Ok(Err(fault)) = freed {
                tracing::error!(%fault, "a sandbox outlived its kill");
            }
        })
    }
}
