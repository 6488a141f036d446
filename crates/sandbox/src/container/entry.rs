//! The first process of a container: finds its daemon, and becomes its keeper.

use std::{
    convert::Infallible,
    fs, io,
    os::fd::OwnedFd,
    process::{self, exit},
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};

use super::SOCKET;
use crate::{groups, keeper, sys, wire, zygote::Identity};

/// The first argument by which the daemon's program is told to be a container's keeper.
pub const KEEPER_ARGUMENT: &str = "sandbox-keeper";

/// Serves as the keeper of the container whose first process this is. Call it first of all in `main`, while the process has one
/// thread, when the first argument is [`KEEPER_ARGUMENT`].
pub fn keeper_main() -> ! {
    let Err(error) = serve();
    eprintln!("sandbox keeper: {error}; it is started in a container by the daemon, not by hand");
    exit(1)
}

fn serve() -> io::Result<Infallible> {
    if process::id() != 1 {
        // It would end everything that it may signal.
        return Err(io::Error::other("this is not a container's first process"));
    }
    sys::start_afresh()?;
    let link = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&link, &SocketAddrUnix::new(SOCKET)?)?;
    let (_, fds) = wire::receive(&link, &mut [0], RecvFlags::empty())?;
    let [lock, spec] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| io::Error::other("an order without descriptors"))?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    // As the zygote has it: what runs here is to end before the daemon when the machine is out of memory.
    drop(fs::write("/proc/self/oom_score_adj", "500"));
    let ordered = keeper::Ordered { link, lock, spec, bounds: 0, group: groups::of_container() };
    keeper::run(Identity::own(), ordered)
}
