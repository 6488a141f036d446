//! The keeper: the first process of a sandbox, forked from the zygote. It makes the sandbox's namespaces, forks an init for
//! every command, and takes everything with it when the daemon lets go of it or dies.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    process::exit,
};

use domain::ports::sandbox::WORKSPACE_DIR;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags},
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{DumpableBehavior, WaitOptions},
};

use crate::{
    groups, init,
    landlock::{self, Outside},
    lock, network,
    order::{Ground, KeeperSpec, View},
    root, sys, syscalls,
    tree::{self, Scope},
    wire::{self, Report, Request},
    zygote::Identity,
};

/// Why a sandbox could not be made.
struct Failure {
    stage: u8,
    mount: u16,
    error: io::Error,
}

fn at(stage: u8) -> impl Fn(io::Error) -> Failure {
    move |error| Failure { stage, mount: 0, error }
}

/// What the keeper and the inits that it forks share.
#[derive(Debug)]
pub struct Keeper {
    pub spec: KeeperSpec,
    pub signals: OwnedFd,
    /// Of landlock.
    pub rules: Option<OwnedFd>,
    /// Held locked for as long as this process or one of its inits lives.
    #[expect(dead_code, reason = "it is held, not read")]
    pub lock: OwnedFd,
}

impl Keeper {
    /// How it tells what is its own.
    fn scope(&self) -> Scope {
        match self.spec.ground {
            Ground::Own(_) | Ground::Container => Scope::Namespace,
            Ground::Host => Scope::Descendants,
        }
    }

    /// What its inits put around commands, besides the group.
    fn walls(&self) -> u32 {
        let filtered = self.spec.ground != Ground::Host && syscalls::filter().is_some();
        let files = if self.rules.is_some() { groups::FILES_TWICE } else { 0 };
        (if filtered { groups::SYSTEM_CALLS } else { 0 }) | files
    }
}

/// What the zygote gives to a keeper.
#[derive(Debug)]
pub struct Ordered {
    pub link: OwnedFd,
    pub lock: OwnedFd,
    pub spec: OwnedFd,
    /// What bounds its control group.
    pub bounds: u32,
    /// The one that bounds its memory.
    pub group: Option<OwnedFd>,
}

/// Is the keeper until the daemon is gone or lets go of `link`.
pub fn run(identity: Identity, ordered: Ordered) -> ! {
    let Ordered { link, lock, spec, bounds, group } = ordered;
    let (keeper, lent) = match prepare(identity, lock, &spec) {
        Ok(prepared) => prepared,
        Err(Failure { stage, mount, error }) => {
            let errno = error.raw_os_error().unwrap_or_default();
            drop(wire::send(&link, &Report::Failed { stage, errno, mount }.encode(), &[], SendFlags::empty()));
            exit(1)
        }
    };
    drop(spec);
    let walls = bounds | keeper.walls();
    // Where the daemon is gone already, serving ends at once.
    let fds: Vec<_> = lent.iter().chain(&group).map(AsFd::as_fd).collect();
    drop(wire::send(&link, &Report::Ready(walls).encode(), &fds, SendFlags::empty()));
    drop((lent, group));
    serve(keeper, link)
}

/// Also what the daemon is lent: the workspace of a confined sandbox and its listening sockets.
fn prepare(identity: Identity, lock: OwnedFd, spec: &OwnedFd) -> Result<(Keeper, Vec<OwnedFd>), Failure> {
    let bytes = wire::read_memory_file(spec).map_err(at(wire::START))?;
    let spec = KeeperSpec::decode(&bytes).ok_or_else(|| at(wire::START)(io::ErrorKind::InvalidData.into()))?;
    rustix::thread::set_name(c"overnight-keep").map_err(|error| at(wire::START)(error.into()))?;
    let (lent, rules) = match &spec.ground {
        Ground::Host => {
            lock::write_holder(&lock, "self").map_err(at(wire::START))?;
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|error| at(wire::START)(error.into()))?;
            (Vec::new(), None)
        }
        Ground::Own(view) => {
            // While the host's /proc is still there to tell this process's number on the host.
            lock::write_holder(&lock, "self").map_err(at(wire::START))?;
            make_namespaces(identity, &spec, view)?
        }
        // The daemon has written who holds the lock: here this process is number 1.
        Ground::Container => {
            let lent = lend(network::listen_on(&spec.ports).map_err(at(wire::NETWORK))?)?;
            give_up_privileges().map_err(|error| at(wire::PRIVILEGES)(error.into()))?;
            (lent, landlock::rules(Outside::Neighbours).map_err(at(wire::PRIVILEGES))?)
        }
    };
    let signals = sys::signal_fd().map_err(at(wire::START))?;
    Ok((Keeper { spec, signals, rules, lock }, lent))
}

/// Fills the namespaces that this process was forked into. What it lends, and the rules for files.
fn make_namespaces(
    identity: Identity,
    spec: &KeeperSpec,
    view: &View,
) -> Result<(Vec<OwnedFd>, Option<OwnedFd>), Failure> {
    map_user(identity).map_err(at(wire::USER_MAP))?;
    // The host's own name tells of the host; this one is found without asking a name server.
    rustix::system::sethostname(b"localhost").map_err(|errno| at(wire::NETWORK)(errno.into()))?;
    let listeners = network::set_up(&spec.ports).map_err(at(wire::NETWORK))?;
    limit_processes(identity, spec.limits.processes).map_err(at(wire::PRIVILEGES))?;
    // No user namespace below this one: it is how a process without privileges would reach the kernel's mount code.
    // A kernel without this switch (or a read-only /proc/sys) leaves that door as it is on the host.
    drop(fs::write("/proc/sys/user/max_user_namespaces", "0"));
    // Counted for the daemon's user too, who often has no more than 128.
    drop(fs::write("/proc/sys/user/max_inotify_instances", "64"));
    let new = root::build(view, spec.limits.memory_bytes).map_err(|(mount, error)| Failure {
        stage: wire::BUILD_ROOT,
        mount,
        error,
    })?;
    root::enter(&new).map_err(at(wire::ENTER_ROOT))?;
    let lent = lend(listeners)?;
    give_up_privileges().map_err(|error| at(wire::PRIVILEGES)(error.into()))?;
    Ok((lent, landlock::rules(Outside::Unseen).map_err(at(wire::PRIVILEGES))?))
}

/// The workspace, then the listening sockets.
fn lend(listeners: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let workspace = rustix::fs::open(WORKSPACE_DIR, flags, Mode::empty());
    let mut lent = vec![workspace.map_err(|errno| at(wire::ENTER_ROOT)(errno.into()))?];
    lent.extend(listeners);
    Ok(lent)
}

/// Maps the daemon's user to itself: files of the workspace keep their owner, and git's index stays warm.
fn map_user(Identity { user, group }: Identity) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Whether the number of processes of a PID namespace can be limited: `kernel.pid_max` is the namespace's own since Linux 6.14.
/// On an older kernel, writing it would change the host's.
pub fn can_limit_namespace() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= (6, 14)
}

/// The inits' resource limit does not bind the user 0; this binds everybody, if up to 300 processes later.
fn limit_processes(identity: Identity, most: Option<u64>) -> io::Result<()> {
    /// Once all numbers were used, the kernel gives out none below this any more (RESERVED_PIDS).
    const RESERVED: u64 = 300;
    let Some(most) = most.filter(|_| can_limit_namespace()) else { return Ok(()) };
    // The kernel's own limit for it is 2^22.
    let highest = most.saturating_add(RESERVED).min(1 << 22);
    match fs::write("/proc/sys/kernel/pid_max", highest.to_string()) {
        // The resource limit is there.
        Err(_) if identity.user != 0 => Ok(()),
        done => done,
    }
}

/// Everything that commands must not inherit, except the capabilities which the keeper itself needs to fork their inits.
fn give_up_privileges() -> rustix::io::Result<()> {
    sys::empty_bounding_set();
    sys::leave_session_keyring();
    rustix::thread::set_no_new_privs(true)?;
    // The inits run as the same user as the commands: without this a command could trace its init.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn serve(keeper: Keeper, link: OwnedFd) -> ! {
    loop {
        let (ordered, signaled) = match wait(&link, &keeper.signals) {
            Ok(ready) => ready,
            Err(Errno::INTR) => continue,
            Err(_) => break,
        };
        if signaled {
            if sys::drain_signals(&keeper.signals) {
                break;
            }
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        }
        if ordered {
            let mut packet = [0; Request::LENGTH];
            let (length, fds) = match wire::receive(&link, &mut packet, RecvFlags::DONTWAIT) {
                Ok((0, _)) => break,
                Ok(got) => got,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                    continue;
                }
                Err(_) => break,
            };
            let Some(request) = Request::decode(&packet[..length]) else { break };
            match request {
                Request::Run | Request::RunOnTerminal { .. } | Request::Converse => {
                    let Some(order) = init::Order::new(request, fds) else { break };
                    if let Forked::Child = fork(&keeper, &order) {
                        drop(link);
                        init::run(&keeper, order)
                    }
                }
                Request::Connect { port, family } => {
                    let Some(control) = fds.first() else { break };
                    network::answer(control, port, family);
                }
            }
        }
    }
    tree::end(keeper.scope());
    exit(0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forked {
    Child,
    /// In the parent; also where there is no child, which the daemon was told.
    Parent,
}

/// Forks an init.
fn fork(keeper: &Keeper, order: &init::Order) -> Forked {
    let flags = match keeper.spec.ground {
        Ground::Own(_) => libc::CLONE_NEWPID | libc::CLONE_NEWNS,
        Ground::Host | Ground::Container => 0,
    };
    match sys::fork(flags) {
        Ok(None) => return Forked::Child,
        Ok(Some(_)) => {}
        Err(error) => order.refuse(&error),
    }
    Forked::Parent
}

/// Waits until the first or the second can be read.
pub fn wait(first: impl AsFd, second: impl AsFd) -> rustix::io::Result<(bool, bool)> {
    let mut fds = [PollFd::new(&first, PollFlags::IN), PollFd::new(&second, PollFlags::IN)];
    poll(&mut fds, None)?;
    Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
}
