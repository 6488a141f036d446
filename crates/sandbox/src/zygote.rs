//! The zygote: one small process with one thread, from which every sandbox's keeper is forked.
//!
//! The daemon has many threads and a large memory, so that forking it is unsafe and executing it anew for every command is
//! slow. It executes itself once, as this.

use std::{io, os::fd::OwnedFd, process::exit};

use rustix::{
    fs::{Mode, OFlags},
    net::{RecvFlags, SendFlags},
};

use crate::{
    keeper, sys,
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
    sys::set_children(sys::Children::Forgotten);
    let identity = Identity { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() };
    if identity.user == 0 {
        sys::drop_groups();
    }
    rustix::thread::set_name(c"overnight-zygote")?;
    loop {
        let mut order = [0; 1];
        let (length, fds) = match wire::receive(&socket, &mut order, RecvFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            got => got?,
        };
        if length == 0 {
            return Ok(());
        }
        let Ok([link, lock, spec]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(io::Error::other("an order without its descriptors"));
        };
        let flags = match order[0] {
            0 => 0,
            _ => libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS,
        };
        match sys::fork(flags) {
            Ok(None) => {
                drop(socket);
                keeper::run(identity, link, lock, spec)
            }
            Ok(Some(_)) => {}
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or_default();
                let report = Report::Failed { stage: wire::NAMESPACES, errno, mount: 0 };
                // The daemon may have given up on it; nothing else is to be told.
                drop(wire::send(&link, &report.encode(), &[], SendFlags::empty()));
            }
        }
    }
}
