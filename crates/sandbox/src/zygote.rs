//! The zygote: one small process with one thread, from which every sandbox's keeper is forked.
//!
//! The daemon has many threads and a large memory, so that forking it is unsafe and executing it anew for every command is
//! slow. It executes itself once, as this.

use std::{collections::HashMap, io, os::fd::OwnedFd, process::exit};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{Pid, WaitOptions},
};

use crate::{
    groups::{Bounds, Groups},
    keeper, sys, syscalls,
    wire::{self, Report},
};

/// The first argument by which the daemon's program is told to be the zygote.
pub const ZYGOTE_ARGUMENT: &str = "sandbox-zygote";

/// Who the daemon is, and therefore who sandboxed processes are. Read before any user namespace hides it.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub user: u32,
    pub group: u32,
}

impl Identity {
    pub fn own() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }
}

/// Serves as the zygote until the daemon closes the socket on standard input. Call it first of all in `main`, while the
/// process has one thread, when the first argument is [`ZYGOTE_ARGUMENT`].
pub fn zygote_main() -> ! {
    match serve() {
        Ok(()) => exit(0),
        Err(error) => {
            eprintln!("sandbox zygote: {error}; it is started by the daemon, not by hand");
            exit(1)
        }
    }
}

fn serve() -> io::Result<()> {
    sys::start_afresh()?;
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    drop(null);
    // A Ctrl-C in the daemon's terminal is for the daemon, which then stops its sandboxes in its own order.
    rustix::process::setsid()?;
    let signals = sys::signal_fd()?;
    let identity = Identity::own();
    if identity.user == 0 {
        sys::drop_groups();
    }
    rustix::thread::set_name(c"overnight-zygote")?;
    // A machine that is out of memory is to end what runs in sandboxes before the daemon. Inherited; everybody may raise it.
    drop(std::fs::write("/proc/self/oom_score_adj", "500"));
    // Made here, to be shared by all that come from here.
    syscalls::filter();
    let mut nursery = Nursery { groups: Groups::find(), living: HashMap::new(), dying: Vec::new() };
    loop {
        let (ordered, signaled) = match keeper::wait(&socket, &signals) {
            Err(Errno::INTR) => continue,
            ready => ready?,
        };
        if signaled {
            if sys::drain_signals(&signals) {
                break;
            }
            nursery.reap();
        }
        if !ordered {
            continue;
        }
        let mut packet = [0; Order::LENGTH];
        let (length, fds) = match wire::receive(&socket, &mut packet, RecvFlags::DONTWAIT) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => continue,
            got => got?,
        };
        if length == 0 {
            break;
        }
        let Ok([link, lock, spec]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(io::Error::other("an order without its descriptors"));
        };
        // Only the child is bounded by it.
        if let Some(bounds) = nursery.fork(Order::decode(packet), &link) {
            drop((socket, signals));
            let group = nursery.groups.memory();
            keeper::run(identity, keeper::Ordered { link, lock, spec, bounds, group })
        }
    }
    drop(socket);
    nursery.close()
}

/// What a keeper is ordered with, besides its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub namespaces: Namespaces,
    pub bounds: Bounds,
}

/// Whether a keeper gets namespaces of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespaces {
    Own,
    Hosts,
}

impl Order {
    const LENGTH: usize = 21;

    pub fn encode(self) -> [u8; Self::LENGTH] {
        let mut packet = [0; Self::LENGTH];
        packet[0] = u8::from(self.namespaces == Namespaces::Own);
        packet[1..9].copy_from_slice(&self.bounds.memory.to_le_bytes());
        packet[9..17].copy_from_slice(&self.bounds.processes.to_le_bytes());
        packet[17..].copy_from_slice(&self.bounds.processor.to_le_bytes());
        packet
    }

    fn decode(packet: [u8; Self::LENGTH]) -> Self {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| packet[at + index]));
        let processor = u32::from_le_bytes(std::array::from_fn(|index| packet[17 + index]));
        Self {
            namespaces: if packet[0] == 0 { Namespaces::Hosts } else { Namespaces::Own },
            bounds: Bounds { memory: number(1), processes: number(9), processor },
        }
    }
}

/// The keepers, and the groups that are theirs.
struct Nursery {
    groups: Groups,
    living: HashMap<Pid, String>,
    /// Groups whose keeper has gone and in which something is left: plain processes of a keeper that was killed.
    dying: Vec<String>,
}

impl Nursery {
    /// Makes a keeper. In the keeper itself: what it is bounded in.
    fn fork(&mut self, order: Order, link: &OwnedFd) -> Option<u32> {
        let flags = match order.namespaces {
            Namespaces::Hosts => 0,
            Namespaces::Own => {
                libc::CLONE_NEWUSER
                    | libc::CLONE_NEWNS
                    | libc::CLONE_NEWPID
                    | libc::CLONE_NEWNET
                    | libc::CLONE_NEWCGROUP
                    | libc::CLONE_NEWIPC
                    | libc::CLONE_NEWUTS
            }
        };
        let bounded = self.groups.bound(order.bounds);
        match sys::fork(flags) {
            Ok(None) => return Some(bounded),
            Ok(Some(keeper)) => {
                self.living.insert(keeper, self.groups.name());
                self.groups.advance();
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or_default();
                let report = Report::Failed { stage: wire::NAMESPACES, errno, mount: 0 };
                // The daemon may have given up on it; nothing else is to be told.
                drop(wire::send(link, &report.encode(), &[], SendFlags::empty()));
            }
        }
        None
    }

    fn reap(&mut self) {
        while let Ok(Some((keeper, _))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.dying.extend(self.living.remove(&keeper));
        }
        self.dying.retain(|name| !self.groups.remove(name));
    }

    /// The daemon does not wait for this: keepers end when it lets go of them, which may be later.
    fn close(self) -> io::Result<()> {
        if sys::fork(0)?.is_none() {
            rustix::thread::set_name(c"overnight-sweep")?;
            self.groups.bury();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_back_as_they_were() {
        for namespaces in [Namespaces::Own, Namespaces::Hosts] {
            let order = Order { namespaces, bounds: Bounds { memory: u64::MAX - 1, processes: 7, processor: 150 } };
            assert_eq!(Order::decode(order.encode()), order);
        }
    }
}
