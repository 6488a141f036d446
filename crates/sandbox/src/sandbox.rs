//! One sandbox as the daemon sees it.

use std::{
    ffi::OsString,
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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
        sandbox::{
            self, Confinement, Conversation, Exec, Limits, Network, SandboxSpec, Tree, WORKSPACE_DIR, WindowSize,
        },
    },
};
use rustix::{
    io::Errno,
    net::Shutdown,
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::Interest,
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{
    conversation::{Input, Lines},
    files::Files,
    groups::Memory,
    init,
    link::Link,
    lock::{self, Holder},
    masked::Masked,
    order::{Command, Ground, KeeperSpec},
    probe,
    process::{Keeping, Process, Terms},
    quota::{Notice, Quota},
    running::Running,
    sys,
    terminal::Terminal,
    wire::{self, Family, Report, Request},
};

/// In place of a time that the clock cannot tell.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long a kill waits for what the kernel does at once.
pub const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a service may let a connection wait.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Where keepers come from.
pub trait Nursery: fmt::Debug + Send + Sync {
    /// Has a keeper made that holds the spec's lock and does as it is `told`. It reports on the link once it is ready.
    fn keeper<'a>(self: Arc<Self>, spec: &'a SandboxSpec, told: &'a [u8]) -> BoxFuture<'a, Result<Link, Fault>>;
}

/// Dropping it closes the link to its keeper, which kills everything in it.
#[derive(Debug)]
pub struct Sandbox {
    nursery: Arc<dyn Nursery>,
    spec: SandboxSpec,
    /// What its keepers are told, written down: a tenth of the size.
    keeper_spec: Vec<u8>,
    /// What every command's environment starts from, the spec's own variables included.
    env: Vec<(OsString, OsString)>,
    files: Arc<Files>,
    /// There is none before the first command and after a kill.
    keeper: Mutex<Option<Arc<Keeper>>>,
    /// What the control group of the last keeper bounds.
    bounds: AtomicU32,
    running: Running,
    quota: Option<Arc<Quota>>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Others may hold on to the files: the workspace must not stay in use for them.
        self.files.withdraw();
    }
}

/// A keeper that is ready, and what listens in its network.
#[derive(Debug)]
struct Keeper {
    link: Link,
    listeners: Vec<OwnedFd>,
    /// The group that bounds its memory.
    group: Option<Arc<OwnedFd>>,
    /// Itself, of a confined sandbox: alone in having the lock, it had written itself into it before it was ready.
    holder: Option<Holder>,
}

/// A command that runs.
#[derive(Debug)]
struct Launched {
    init: Link,
    /// What its init lends.
    lent: Vec<OwnedFd>,
    terms: Terms,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Ends those who accept on it; they hold descriptors of their own.
            let _ = rustix::net::shutdown(listener, Shutdown::Both);
        }
    }
}

impl Sandbox {
    pub fn new(
        nursery: Arc<dyn Nursery>,
        spec: SandboxSpec,
        keeper: &KeeperSpec,
        env: Vec<(OsString, OsString)>,
    ) -> Self {
        let quota = Quota::new(&spec);
        Self {
            nursery,
            spec,
            keeper_spec: keeper.encode(),
            env,
            files: Arc::default(),
            keeper: Mutex::new(None),
            bounds: AtomicU32::new(0),
            running: Running::default(),
            quota,
        }
    }

    /// What its processes are bounded in together; nothing before the first command.
    pub fn bounds(&self) -> u32 {
        self.bounds.load(Ordering::Relaxed)
    }

    /// The keeper, started when there is none.
    async fn keeper(&self) -> Result<Arc<Keeper>, Fault> {
        let mut slot = self.keeper.lock().await;
        if let Some(keeper) = slot.as_ref() {
            return Ok(keeper.clone());
        }
        // Again where the zygote died with the order in its hands, or a name of the host's was replaced while it was veiled.
        for _ in 0..3 {
            let link = self.nursery.clone().keeper(&self.spec, &self.keeper_spec).await?;
            match link.receive().await {
                Some((Report::Ready(bounds), lent)) => {
                    self.bounds.store(bounds, Ordering::Relaxed);
                    let keeper = self.take(link, lent).inspect_err(|_| self.files.withdraw())?;
                    return Ok(slot.insert(Arc::new(keeper)).clone());
                }
                Some((Report::Failed { errno: libc::EAGAIN, stage: wire::BUILD_ROOT, .. }, _)) => {}
                Some((Report::Failed { stage, errno, mount }, _)) => return Err(self.explain(stage, errno, mount)),
                _ => {}
            }
        }
        Err(Fault::transient("the sandbox's first process did not become ready in three tries"))
    }

    /// Takes what a keeper lends, and has the bridges served.
    fn take(&self, link: Link, lent: Vec<OwnedFd>) -> Result<Keeper, Fault> {
        let bridges = match &self.spec.network {
            Network::Host => &[][..],
            Network::Own(bridges) => bridges,
        };
        let confined = self.spec.confinement == Confinement::Confined;
        if lent.len() < bridges.len() + usize::from(confined) {
            // The kernel closes those that this process has no room for.
            return Err(no_process(&Errno::MFILE.into()));
        }
        let mut lent = lent.into_iter();
        if let Some(workspace) = confined.then(|| lent.next()).flatten() {
            self.files.lend(workspace);
        }
        let holder = confined.then(|| Holder::of(&self.spec.lock)).flatten();
        let mut keeper = Keeper { link, listeners: Vec::new(), group: None, holder };
        for (bridge, listener) in bridges.iter().zip(lent.by_ref()) {
            keeper.listeners.push(listener.try_clone().map_err(|error| no_process(&error))?);
            bridge.door.serve(listener.into());
        }
        keeper.group = lent.next().map(Arc::new);
        Ok(keeper)
    }

    fn explain(&self, stage: u8, errno: i32, mount: u16) -> Fault {
        let error = io::Error::from_raw_os_error(errno);
        let stage = wire::STAGES.get(usize::from(stage)).copied().unwrap_or("set up");
        let ground = KeeperSpec::decode(&self.keeper_spec).map(|spec| spec.ground);
        let mounts = match &ground {
            Some(Ground::Own(view)) => &view.mounts[..],
            Some(Ground::Host | Ground::Container) | None => &[],
        };
        let place = match usize::from(mount).checked_sub(1).and_then(|index| mounts.get(index)) {
            Some(mount) => format!(" at {mount}"),
            None => String::new(),
        };
        let fault = Fault::environment(format!("the sandbox could not {stage}{place}: {error}"));
        let denied = matches!(errno, libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS | libc::EINVAL);
        match (denied && ground != Some(Ground::Container)).then(probe::mend).flatten() {
            Some(mend) => fault.hint(mend),
            None => fault,
        }
    }

    async fn start(&self, exec: Exec) -> Result<Process, Fault> {
        let stdin = match exec.stdin.is_empty() {
            true => None,
            false => Some(wire::memory_file(&exec.stdin).map_err(|error| no_process(&error))?),
        };
        self.start_kept(&exec, Request::Run, stdin.into_iter().collect()).await
    }

    async fn start_talking(&self, exec: Exec) -> Result<Conversation, Fault> {
        if !exec.stdin.is_empty() {
            return Err(Fault::input("a command that is talked with takes no other standard input"));
        }
        let ((stdin, input), (lines, stdout)) = (pipe()?, pipe()?);
        let input = Input::new(input).map_err(|error| no_process(&error))?;
        let lines = Lines::new(lines, self.spec.redactor.clone()).map_err(|error| no_process(&error))?;
        // The ends of one that was not found are closed by now, and so are its lines.
        let process = self.start_kept(&exec, Request::Converse, vec![stdin, stdout]).await?;
        Ok(Conversation { process: Box::new(process), input: Box::new(input), lines: Box::new(lines) })
    }

    /// Starts a command and keeps what it prints, on standard error at least. `rest`: its further descriptors.
    async fn start_kept(&self, exec: &Exec, request: Request, rest: Vec<OwnedFd>) -> Result<Process, Fault> {
        let (output, write) = pipe()?;
        let fds: Vec<BorrowedFd<'_>> = [&write].into_iter().chain(&rest).map(AsFd::as_fd).collect();
        let process = match self.launch(exec, request, &fds).await? {
            None => Process::not_started(),
            Some(Launched { init, terms, .. }) => {
                let Limits { output_bytes: limit, .. } = self.spec.limits;
                let keeping = Keeping { spill: self.spec.spill.clone(), limit, redactor: self.spec.redactor.clone() };
                Process::attend(init, output, keeping, terms).map_err(|error| no_process(&error))?
            }
        };
        self.running.enter(&exec.argv, process.life());
        Ok(process)
    }

    async fn start_on_terminal(&self, exec: Exec, size: WindowSize) -> Result<Terminal, Fault> {
        if !exec.stdin.is_empty() {
            return Err(Fault::input("a command on a terminal is typed to: it takes no other standard input"));
        }
        let mut exec = exec;
        exec.env.insert(0, ("TERM".to_owned(), "xterm-256color".to_owned()));
        let request = Request::RunOnTerminal { rows: size.rows, columns: size.columns };
        let missing = || Fault::input(format!("{} was not found or is not executable", exec.argv[0]));
        let Launched { init, lent, terms } = self.launch(&exec, request, &[]).await?.ok_or_else(missing)?;
        // The kernel closes one that this process has no room for.
        let master = lent.into_iter().next().ok_or_else(|| no_process(&Errno::MFILE.into()))?;
        let terminal = Terminal::attend(init, master, terms).map_err(|error| no_process(&error))?;
        self.running.enter(&exec.argv, terminal.life());
        Ok(terminal)
    }

    /// Has a keeper start a command. `None` where its program cannot be executed.
    async fn launch(
        &self,
        exec: &Exec,
        request: Request,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Option<Launched>, Fault> {
        let begun = Instant::now();
        let deadline = begun.checked_add(exec.timeout).unwrap_or(begun + FOREVER);
        let refuse = |error: io::Error| no_process(&error);
        let command = wire::memory_file(&self.command(exec)?.encode()).map_err(refuse)?;
        let (control, theirs) = wire::pair().map_err(refuse)?;
        let fds: Vec<BorrowedFd<'_>> = [theirs.as_fd(), command.as_fd()].iter().chain(standard).copied().collect();
        let quota = match &self.quota {
            Some(quota) => quota.notice().await,
            None => Notice::default(),
        };
        let mut keeper = self.keeper().await?;
        if keeper.link.send(&request.encode(), &fds).await.is_err() {
            // Somebody killed the keeper (the machine was out of memory, say): its sandbox is gone with it, and is made anew.
            self.forget(&keeper).await;
            keeper = self.keeper().await?;
            keeper.link.send(&request.encode(), &fds).await.map_err(refuse)?;
        }
        let terms = Terms { deadline, quota, memory: keeper.group.as_ref().and_then(Memory::watch) };
        drop((theirs, command));
        let init = Link::new(control).map_err(refuse)?;
        match init.receive().await {
            Some((Report::Started, lent)) => Ok(Some(Launched { init, lent, terms })),
            Some((Report::NotStarted(_), _)) => Ok(None),
            Some((Report::NoDirectory(errno), _)) => {
                let cwd = exec.cwd.as_deref().unwrap_or(WORKSPACE_DIR);
                let error = io::Error::from_raw_os_error(errno);
                Err(Fault::input(format!("cannot run in directory {cwd}: {error}")))
            }
            Some((Report::Failed { errno: libc::E2BIG, .. }, _)) => {
                Err(Fault::input("the command is too long for the system (E2BIG)")
                    .hint("write the long part to a file, or give it on standard input"))
            }
            Some((Report::Failed { stage, errno, mount }, _)) => Err(self.explain(stage, errno, mount)),
            Some((Report::Ready(_) | Report::Connecting | Report::Exited(_) | Report::Signaled(_), _)) | None => {
                Err(Fault::transient("the sandbox was killed while a command was started in it"))
            }
        }
    }

    /// Connects in the sandbox's network; `None` where nothing listens.
    async fn connect_inside(&self, port: u16, family: Family) -> io::Result<Option<TcpStream>> {
        let Some(keeper) = self.keeper.lock().await.clone() else { return Ok(None) };
        let (control, theirs) = wire::pair()?;
        let request = Request::Connect { port, family };
        if keeper.link.send(&request.encode(), &[theirs.as_fd()]).await.is_err() {
            self.forget(&keeper).await;
            return Ok(None);
        }
        drop(theirs);
        let socket = match Link::new(control)?.receive().await {
            Some((Report::Connecting, fds)) => fds.into_iter().next(),
            // There is no such kind of address.
            Some((Report::Failed { errno: libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::ENETUNREACH, .. }, _)) => {
                None
            }
            Some((Report::Failed { errno, .. }, _)) => return Err(io::Error::from_raw_os_error(errno)),
            _ => None,
        };
        let Some(socket) = socket else { return Ok(None) };
        let connecting = sys::watch(socket, Interest::WRITABLE)?;
        // The guard keeps no descriptor.
        drop(connecting.writable().await?);
        let socket = connecting.into_inner();
        match rustix::net::sockopt::socket_error(&socket)? {
            Ok(()) => Ok(Some(socket.into())),
            Err(Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    async fn connect_to(&self, port: u16) -> Result<TcpStream, Fault> {
        let found = async {
            match self.spec.network {
                Network::Own(_) => match self.connect_inside(port, Family::V4).await? {
                    None => self.connect_inside(port, Family::V6).await,
                    found => Ok(found),
                },
                Network::Host => connect_on_host(port).await,
            }
        };
        match timeout(CONNECT_DEADLINE, found).await {
            Ok(Ok(Some(stream))) => Ok(stream),
            Ok(Ok(None)) => Err(Fault::not_found(format!("nothing listens on port {port} of the sandbox"))),
            Ok(Err(error)) => Err(Fault::transient(format!("cannot connect to port {port} of the sandbox: {error}"))),
            Err(_) => Err(Fault::transient(format!(
                "what listens on port {port} of the sandbox took no connection for {CONNECT_DEADLINE:?}"
            ))),
        }
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
        match (self.plain_root(), path.strip_prefix(WORKSPACE_DIR)) {
            (Some(root), Ok(relative)) => root.join(relative),
            _ => path,
        }
    }

    /// Where the workspace of plain processes is.
    fn plain_root(&self) -> Option<&Path> {
        match (self.spec.confinement, &self.spec.root) {
            (Confinement::Unconfined, Tree::Directory(root)) => Some(root),
            _ => None,
        }
    }

    /// Waits until nothing of a keeper that was let go holds the workspace: two overlays must not share one. Whoever
    /// has taken the workspace since is left alone.
    async fn clear_away(&self, keeper: Arc<Keeper>) {
        let (path, files, confinement) = (self.spec.lock.clone(), self.files.clone(), self.spec.confinement);
        let freed = tokio::task::spawn_blocking(move || {
            files.withdraw();
            match (confinement, &keeper.holder) {
                (Confinement::Confined, Some(holder)) => holder.wait_gone(KILL_DEADLINE),
                (Confinement::Confined, None) => Ok(()),
                // Plain processes of a keeper that was killed live on, and keep the lock.
                (Confinement::Unconfined, _) => lock::wait_free(&path, KILL_DEADLINE),
            }
        });
        if let Ok(Err(fault)) = freed.await {
            tracing::error!(%fault, "a sandbox outlived its end");
        }
    }

    async fn forget(&self, dead: &Arc<Keeper>) {
        let mut slot = self.keeper.lock().await;
        if slot.as_ref().is_some_and(|keeper| Arc::ptr_eq(keeper, dead)) {
            *slot = None;
            // Of a confined sandbox nothing outlives its keeper, and the next keeper waits for the lock; plain processes may live on.
            self.files.withdraw();
        }
    }
}

async fn connect_on_host(port: u16) -> io::Result<Option<TcpStream>> {
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    match tokio::net::TcpStream::connect(&addresses[..]).await {
        Ok(stream) => stream.into_std().map(Some),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}

/// The end to read from, and the one to write to.
fn pipe() -> Result<(OwnedFd, OwnedFd), Fault> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| no_process(&errno.into()))
}

pub fn no_process(error: &io::Error) -> Fault {
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

    fn converse(&self, exec: Exec) -> BoxFuture<'_, Result<Conversation, Fault>> {
        Box::pin(self.start_talking(exec))
    }

    fn terminal(&self, exec: Exec, size: WindowSize) -> BoxFuture<'_, Result<Box<dyn sandbox::Terminal>, Fault>> {
        Box::pin(async move {
            let terminal: Box<dyn sandbox::Terminal> = Box::new(self.start_on_terminal(exec, size).await?);
            Ok(terminal)
        })
    }

    fn files(&self) -> BoxFuture<'_, Result<Arc<dyn sandbox::Files>, Fault>> {
        Box::pin(async move {
            match self.plain_root() {
                Some(root) => self.files.open(root)?,
                None => drop(self.keeper().await?),
            }
            let (files, redactor) = (self.files.clone(), self.spec.redactor.clone());
            let files: Arc<dyn sandbox::Files> =
                if redactor.is_empty() { files } else { Arc::new(Masked { files, redactor }) };
            Ok(files)
        })
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<TcpStream, Fault>> {
        Box::pin(self.connect_to(port))
    }

    fn running(&self) -> Vec<String> {
        self.running.lines()
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Held to the end: whoever starts something meanwhile waits.
            let mut slot = self.keeper.lock().await;
            let Some(keeper) = slot.take() else { return self.files.withdraw() };
            keeper.link.let_go();
            keeper.link.gone().await;
            self.clear_away(keeper).await;
        })
    }
}
