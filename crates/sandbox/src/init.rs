//! The init of one command: the first process of its PID namespace. It starts the command, reaps what is orphaned, tells the
//! daemon how the command ended, lives on while daemons of it do, and kills them all when the daemon lets go of it or dies.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{self, Stdio, exit},
};

use domain::ports::sandbox::WindowSize;
use rustix::{
    fs::Access,
    io::Errno,
    net::SendFlags,
    process::{Pid, Resource, Rlimit, WaitOptions},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
    thread::{CapabilitySet, CapabilitySets},
};

use crate::{
    keeper::{self, Keeper},
    order::{Command, Ground, ProcessLimits},
    root, sys, syscalls,
    terminal::window,
    tree::{self, Scope},
    wire::{self, Report, Request},
};

/// One command to run, as it arrives at the keeper.
#[derive(Debug)]
pub struct Order {
    control: OwnedFd,
    command: OwnedFd,
    standard: Standard,
}

/// A command's standard descriptors.
#[derive(Debug)]
enum Standard {
    /// Without an output of its own, what is printed goes where errors do.
    Given {
        errors: OwnedFd,
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
    },
    Terminal(Winsize),
}

impl Order {
    /// From a request to run something, and the descriptors that came with it.
    pub fn new(request: Request, fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let (control, command) = (fds.next()?, fds.next()?);
        let standard = match request {
            Request::Run => Standard::Given { errors: fds.next()?, input: fds.next(), output: None },
            Request::Converse => {
                Standard::Given { errors: fds.next()?, input: Some(fds.next()?), output: Some(fds.next()?) }
            }
            Request::RunOnTerminal { rows, columns } => Standard::Terminal(window(WindowSize { rows, columns })),
            Request::Connect { .. } => return None,
        };
        Some(Self { control, command, standard })
    }

    /// Tells the daemon that no process could be made for it.
    pub fn refuse(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or_default();
        report(&self.control, Report::Failed { stage: wire::START, errno, mount: 0 });
    }
}

fn report(control: &OwnedFd, report: Report) {
    lend(control, report, None);
}

fn lend(control: &OwnedFd, report: Report, fd: Option<&OwnedFd>) {
    let fds = fd.map(AsFd::as_fd);
    // A daemon that is gone is noticed where the control socket is polled.
    drop(wire::send(control, &report.encode(), fds.as_slice(), SendFlags::empty()));
}

/// Is the init of `order`'s command to its end.
pub fn run(keeper: &Keeper, order: Order) -> ! {
    let Order { control, command, standard } = order;
    let started = prepare(keeper, &command).and_then(|command| match standard {
        Standard::Given { errors, input, output } => Ok((start(&command, errors, input, output)?, None)),
        Standard::Terminal(size) => start_on_terminal(&command, size).map(|(first, master)| (first, Some(master))),
    });
    match started {
        Ok((first, master)) => {
            lend(&control, Report::Started, master.as_ref());
            // Only the daemon's is left: closing that one hangs up.
            drop(master);
            attend(keeper, &control, first)
        }
        Err(failure) => {
            report(&control, failure);
            exit(1)
        }
    }
}

fn failed(stage: u8) -> impl Fn(io::Error) -> Report {
    move |error| Report::Failed { stage, errno: error.raw_os_error().unwrap_or_default(), mount: 0 }
}

fn prepare(keeper: &Keeper, command: &OwnedFd) -> Result<Command, Report> {
    let refuse = |errno: Errno| failed(wire::PRIVILEGES)(errno.into());
    rustix::thread::set_name(c"overnight-init").map_err(refuse)?;
    limit(keeper.spec.limits, scope(keeper)).map_err(refuse)?;
    if let Ground::Own(view) = &keeper.spec.ground {
        root::veil_again(view).map_err(failed(wire::ENTER_ROOT))?;
        root::mount_proc().map_err(failed(wire::ENTER_ROOT))?;
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).map_err(refuse)?;
    } else {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(refuse)?;
    }
    // The last two, as they deny what was done above.
    if let Some(rules) = &keeper.rules {
        sys::landlock_restrict(rules).map_err(failed(wire::PRIVILEGES))?;
    }
    if keeper.spec.ground != Ground::Host
        && let Some(filter) = syscalls::filter()
    {
        sys::filter_calls(filter).map_err(failed(wire::PRIVILEGES))?;
    }
    rustix::process::setsid().map_err(refuse)?;
    let bytes = wire::read_memory_file(command).map_err(failed(wire::START))?;
    let command = Command::decode(&bytes).ok_or_else(|| failed(wire::START)(io::ErrorKind::InvalidData.into()))?;
    rustix::process::chdir(&command.cwd).map_err(|errno| Report::NoDirectory(errno.raw_os_error()))?;
    Ok(command)
}

/// How an init tells what is its own: below a container's first process they all share its namespace.
fn scope(keeper: &Keeper) -> Scope {
    match keeper.spec.ground {
        Ground::Own(_) => Scope::Namespace,
        Ground::Host | Ground::Container => Scope::Descendants,
    }
}

fn limit(limits: ProcessLimits, scope: Scope) -> rustix::io::Result<()> {
    let set = |resource, most: Option<u64>| {
        let Some(most) = most else { return Ok(()) };
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |already| already.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    // No file is so small, and a program of the host that takes crashes from the kernel is called for every other limit (core(5)).
    set(Resource::Core, Some(1))?;
    // What is on its way through sockets is counted for the daemon too, as of the same user: enough must be left for it.
    let half = rustix::process::getrlimit(Resource::Nofile).maximum.map(|most| most / 2);
    set(Resource::Nofile, limits.open_files.into_iter().chain(half).min())?;
    set(Resource::Fsize, limits.file_bytes)?;
    match scope {
        // Counted within the user namespace, that is for this sandbox alone.
        Scope::Namespace => set(Resource::Nproc, limits.processes),
        // Would count every process of the user on the host.
        Scope::Descendants => Ok(()),
    }
}

fn start(command: &Command, errors: OwnedFd, input: Option<OwnedFd>, output: Option<OwnedFd>) -> Result<Pid, Report> {
    let output = output.map_or_else(|| errors.try_clone(), Ok).map_err(failed(wire::START))?;
    // The program is a path, the directory is entered and the limits are set: the library can then start it without copying
    // this process's page tables (posix_spawn).
    let mut child = child(command)?;
    child.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(output).stderr(errors).process_group(0);
    spawn(child)
}

/// On a new terminal of the sandbox's own, whose other side is returned.
fn start_on_terminal(command: &Command, size: Winsize) -> Result<(Pid, OwnedFd), Report> {
    let open = || -> rustix::io::Result<(OwnedFd, OwnedFd)> {
        // Not yet this process's own terminal.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        tcsetwinsize(&master, size)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        Ok((master, slave))
    };
    let refuse = |error: io::Error| failed(wire::TERMINAL)(error);
    let (master, slave) = open().map_err(|errno| refuse(errno.into()))?;
    let mut child = child(command)?;
    child.stdin(slave.try_clone().map_err(refuse)?).stdout(slave.try_clone().map_err(refuse)?).stderr(slave);
    sys::lead_terminal_session(&mut child);
    Ok((spawn(child)?, master))
}

fn child(command: &Command) -> Result<process::Command, Report> {
    let path = command.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str());
    let (name, arguments) = command.argv.split_first().ok_or(Report::NotStarted(libc::ENOENT))?;
    let program = find(name, path.unwrap_or_default()).map_err(|errno| not_started(errno.into()))?;
    let mut child = process::Command::new(program);
    child.arg0(name).args(arguments).env_clear().envs(command.env.iter().map(|(name, value)| (name, value)));
    Ok(child)
}

/// The library gives the signals their defaults.
fn spawn(mut child: process::Command) -> Result<Pid, Report> {
    let child = sys::with_signals_open(|| child.spawn()).map_err(not_started)?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Report::NotStarted(libc::ENOENT))
}

fn not_started(error: io::Error) -> Report {
    match error.raw_os_error() {
        Some(errno @ (libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::ENOTDIR | libc::ELOOP | libc::EISDIR)) => {
            Report::NotStarted(errno)
        }
        _ => failed(wire::START)(error),
    }
}

/// As a shell finds it: a name with a slash is a path, others are looked for in PATH.
fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Errno> {
    if name.is_empty() {
        return Err(Errno::NOENT);
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let mut missing = Errno::NOENT;
    for directory in std::env::split_paths(path) {
        // An empty entry is the working directory.
        let candidate = if directory == Path::new("") { Path::new(".").join(name) } else { directory.join(name) };
        match rustix::fs::access(&candidate, Access::EXEC_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Err(Errno::ACCESS) => missing = Errno::ACCESS,
            _ => {}
        }
    }
    Err(missing)
}

/// Reaps until nothing is left, or kills what is left once the daemon is gone.
fn attend(keeper: &Keeper, control: &OwnedFd, first: Pid) -> ! {
    loop {
        // At first too: a command may have ended while its start was still being seen to.
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == first => report(
                    control,
                    match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Report::Exited(code),
                        (None, Some(signal)) => Report::Signaled(signal),
                        // Stops are not asked for.
                        (None, None) => continue,
                    },
                ),
                Ok(Some(_)) => {}
                Ok(None) | Err(Errno::INTR) => break,
                Err(_) => exit(0),
            }
        }
        let (let_go, signaled) = match keeper::wait(control, &keeper.signals) {
            Ok(ready) => ready,
            Err(Errno::INTR) => continue,
            Err(_) => (true, false),
        };
        if signaled {
            // A SIGTERM can only come from the command itself: it is not for the init.
            sys::drain_signals(&keeper.signals);
        }
        // The daemon never writes to the control socket: that it can be read is its end.
        if let_go {
            tree::end(scope(keeper));
            exit(0)
        }
    }
}

/// The names of an environment's variables must be unique: the last of each wins.
pub fn merge(layers: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let mut merged: Vec<(OsString, OsString)> = Vec::new();
    for (name, value) in layers {
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => merged.push((name, value)),
        }
    }
    merged
}
