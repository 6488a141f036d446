//! What the daemon and its sandboxes' own processes say to each other: packets on SOCK_SEQPACKET sockets with descriptors.
//!
//! Both ends are the same binary of the same start, so that the form needs no version.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// The most descriptors that one packet carries.
pub const MAX_FDS: usize = 34;
/// With what else a keeper lends in one packet.
pub const MAX_BRIDGES: usize = MAX_FDS - 2;
const ANCILLARY: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// A connected pair of packet sockets, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); ANCILLARY];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet into `buffer`: its length (0 at the end of the connection) and its descriptors, closed on exec.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); ANCILLARY];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)?;
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((got.bytes, fds))
}

/// A file in memory that holds `content` and is read from its start. Carries what may be larger than a packet.
pub fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"overnight", MemfdFlags::CLOEXEC)?;
    let mut at = 0;
    while at < content.len() {
        at += rustix::io::pwrite(&fd, &content[at..], at as u64)?;
    }
    Ok(fd)
}

/// The whole content of a [`memory_file`].
pub fn read_memory_file(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let size = rustix::fs::fstat(fd)?.st_size;
    let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut at = 0;
    while at < content.len() {
        match rustix::io::pread(fd, &mut content[at..], at as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => at += n,
        }
    }
    Ok(content)
}

/// What the daemon asks of a keeper. The answer comes on the control socket, the first of the descriptors that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run a command. Further descriptors: the command, its output pipe, its standard input unless that is empty.
    Run,
    /// Run a command on a terminal of this many rows and columns. Further descriptor: the command.
    RunOnTerminal { rows: u16, columns: u16 },
    /// Connect to a port of the sandbox's loopback.
    Connect { port: u16, family: Family },
    /// Run a command that is talked with. Further descriptors: the command, and its standard error, input and output.
    Converse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Request {
    pub const LENGTH: usize = 5;

    pub fn encode(self) -> [u8; Self::LENGTH] {
        let (kind, first, second) = match self {
            Self::Run => (0, 0, 0),
            Self::Connect { port, family } => (1, port, u16::from(family == Family::V6)),
            Self::RunOnTerminal { rows, columns } => (2, rows, columns),
            Self::Converse => (3, 0, 0),
        };
        let ([f0, f1], [s0, s1]) = (first.to_le_bytes(), second.to_le_bytes());
        [kind, f0, f1, s0, s1]
    }

    /// `None` for bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[kind, f0, f1, s0, s1] = bytes else { return None };
        let (first, second) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([s0, s1]));
        Some(match kind {
            0 => Self::Run,
            1 => Self::Connect { port: first, family: if second == 0 { Family::V4 } else { Family::V6 } },
            2 => Self::RunOnTerminal { rows: first, columns: second },
            3 => Self::Converse,
            _ => return None,
        })
    }
}

/// What a keeper or an init tells the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A keeper is ready for commands; what bounds its group (`groups::MEMORY` and its like). With the descriptors of its
    /// workspace, where it is confined, of the sockets that listen for the bridges, and of the group that bounds its memory,
    /// where there is one.
    Ready(u32),
    /// A keeper's answer to [`Request::Connect`], with a socket that is connecting.
    Connecting,
    /// An init has executed its command. With the daemon's side of its terminal, where it has one.
    Started,
    /// The command's first process ended.
    Exited(i32),
    Signaled(i32),
    /// argv[0] was not found or cannot be executed (errno).
    NotStarted(i32),
    /// The working directory cannot be entered (errno).
    NoDirectory(i32),
    /// The sandbox could not be set up: where (an index into [`STAGES`]), errno, and the mount it was at.
    Failed {
        stage: u8,
        errno: i32,
        mount: u16,
    },
}

/// Where setting up can fail.
pub const STAGES: [&str; 8] = [
    "make namespaces",
    "map the user",
    "build the root file system",
    "enter the root file system",
    "give up privileges",
    "start the command",
    "set up the network",
    "make a terminal",
];
pub const NAMESPACES: u8 = 0;
pub const USER_MAP: u8 = 1;
pub const BUILD_ROOT: u8 = 2;
pub const ENTER_ROOT: u8 = 3;
pub const PRIVILEGES: u8 = 4;
pub const START: u8 = 5;
pub const NETWORK: u8 = 6;
pub const TERMINAL: u8 = 7;

impl Report {
    pub fn encode(self) -> [u8; 8] {
        let (kind, stage, mount, value) = match self {
            Self::Started => (0, 0, 0, 0),
            Self::Exited(code) => (1, 0, 0, code),
            Self::Signaled(signal) => (2, 0, 0, signal),
            Self::NotStarted(errno) => (3, 0, 0, errno),
            Self::NoDirectory(errno) => (4, 0, 0, errno),
            Self::Failed { stage, errno, mount } => (5, stage, mount, errno),
            Self::Ready(bounds) => (6, 0, 0, bounds.cast_signed()),
            Self::Connecting => (7, 0, 0, 0),
        };
        let [m0, m1] = mount.to_le_bytes();
        let [v0, v1, v2, v3] = value.to_le_bytes();
        [kind, stage, m0, m1, v0, v1, v2, v3]
    }

    /// `None` for bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[kind, stage, m0, m1, v0, v1, v2, v3] = bytes else { return None };
        let value = i32::from_le_bytes([v0, v1, v2, v3]);
        Some(match kind {
            0 => Self::Started,
            1 => Self::Exited(value),
            2 => Self::Signaled(value),
            3 => Self::NotStarted(value),
            4 => Self::NoDirectory(value),
            5 => Self::Failed { stage, errno: value, mount: u16::from_le_bytes([m0, m1]) },
            6 => Self::Ready(value.cast_unsigned()),
            7 => Self::Connecting,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_back_as_they_were() {
        let all = [
            Report::Started,
            Report::Ready(5),
            Report::Connecting,
            Report::Exited(-1),
            Report::Signaled(9),
            Report::NotStarted(2),
            Report::NoDirectory(20),
            Report::Failed { stage: BUILD_ROOT, errno: 13, mount: 300 },
        ];
        for report in all {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(b"short"), None);
        for request in [
            Request::Run,
            Request::Converse,
            Request::Connect { port: 65_535, family: Family::V4 },
            Request::Connect { port: 80, family: Family::V6 },
            Request::RunOnTerminal { rows: 24, columns: 300 },
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        assert_eq!(Request::decode(&[9; Request::LENGTH]), None);
    }
}
