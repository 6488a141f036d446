//! The network of a sandbox as its keeper makes it: a loopback device and nothing else. Sockets that are made here and passed to
//! the daemon belong to the sandbox's network for good, so that the daemon serves and reaches it without a process in it.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt},
};

use crate::{
    sys,
    wire::{self, Family, Report},
};

/// As many connections as may wait for the daemon to take them.
const BACKLOG: i32 = 1024;

/// Brings the loopback device up, and listens on these ports of it.
pub fn set_up(ports: &[u16]) -> io::Result<Vec<OwnedFd>> {
    sys::bring_up_loopback()?;
    // It is theirs alone: a development server may have port 80. Where it cannot be set, it may not.
    drop(fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"));
    listen_on(ports)
}

/// Where the loopback device is up already.
pub fn listen_on(ports: &[u16]) -> io::Result<Vec<OwnedFd>> {
    ports.iter().map(|port| listener(*port)).collect()
}

/// On both kinds of address at once where the kernel has the newer one.
fn listener(port: u16) -> io::Result<OwnedFd> {
    let socket = match socket(Family::V6) {
        Ok(socket) => {
            sockopt::set_ipv6_v6only(&socket, false)?;
            bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
            socket
        }
        Err(Errno::AFNOSUPPORT) => {
            let socket = socket(Family::V4)?;
            bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
            socket
        }
        Err(errno) => return Err(errno.into()),
    };
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Sends the daemon a socket that is connecting to a port. Never waits: who does not answer holds up nothing but this.
pub fn answer(control: &OwnedFd, port: u16, family: Family) {
    let address = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let connecting = socket(family).and_then(|socket| match connect(&socket, &SocketAddr::from((address, port))) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    });
    let told = match &connecting {
        Ok(socket) => wire::send(control, &Report::Connecting.encode(), &[socket.as_fd()], SendFlags::empty()),
        Err(errno) => {
            let report = Report::Failed { stage: wire::NETWORK, errno: errno.raw_os_error(), mount: 0 };
            wire::send(control, &report.encode(), &[], SendFlags::empty())
        }
    };
    // One who does not wait for the answer any more needs none.
    drop(told);
}

fn socket(family: Family) -> rustix::io::Result<OwnedFd> {
    let family = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}
