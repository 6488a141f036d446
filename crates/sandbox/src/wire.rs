//! What the daemon and its sandboxes' own processes say to each other: packets on SOCK_SEQPACKET sockets with descriptors.
//!
//! Both ends are the same binary of the same start, so that the form needs no version.

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// The most descriptors that one packet carries.
pub const MAX_FDS: usize = 4;
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

/// What one sandbox's keeper is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperSpec {
    /// The mounts of the sandbox, ancestors first; `None`: plain processes that see the host.
    pub view: Option<View>,
    pub limits: ProcessLimits,
}

/// The file system of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The attempt's HOME on the host; holds the sandbox's `/tmp` too, and the upper sides of overlays.
    pub home: PathBuf,
    pub mounts: Vec<Mount>,
}

/// One thing put into a sandbox's root, at a path inside that starts with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A host path with everything below it.
    Bind {
        source: PathBuf,
        target: PathBuf,
        access: Access,
    },
    /// A host directory, read-only, with the attempt's own writable layer over it, kept in its HOME under this name.
    Overlay {
        lower: PathBuf,
        target: PathBuf,
        upper: String,
    },
    /// A directory of the attempt's HOME.
    Scratch {
        name: String,
        target: PathBuf,
    },
    /// Something empty over what must not be seen.
    Hide {
        target: PathBuf,
        what: Hidden,
    },
    Symlink {
        target: PathBuf,
        to: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    /// A device node.
    Device,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    Directory,
    File,
}

impl Mount {
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. }
            | Self::Overlay { target, .. }
            | Self::Scratch { target, .. }
            | Self::Hide { target, .. }
            | Self::Symlink { target, .. } => target,
        }
    }
}

/// Resource limits, set before a command is executed; `None` leaves the daemon's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessLimits {
    pub processes: Option<u64>,
    pub open_files: Option<u64>,
    pub file_bytes: Option<u64>,
}

/// A command as its init is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
}

/// What a keeper or an init tells the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A keeper is ready for commands; an init has executed its command.
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
pub const STAGES: [&str; 6] = [
    "make namespaces",
    "map the user",
    "build the root file system",
    "enter the root file system",
    "give up privileges",
    "start the command",
];
pub const NAMESPACES: u8 = 0;
pub const USER_MAP: u8 = 1;
pub const BUILD_ROOT: u8 = 2;
pub const ENTER_ROOT: u8 = 3;
pub const PRIVILEGES: u8 = 4;
pub const START: u8 = 5;

impl Report {
    pub fn encode(self) -> [u8; 8] {
        let (kind, stage, mount, value) = match self {
            Self::Started => (0, 0, 0, 0),
            Self::Exited(code) => (1, 0, 0, code),
            Self::Signaled(signal) => (2, 0, 0, signal),
            Self::NotStarted(errno) => (3, 0, 0, errno),
            Self::NoDirectory(errno) => (4, 0, 0, errno),
            Self::Failed { stage, errno, mount } => (5, stage, mount, errno),
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
            _ => return None,
        })
    }
}

/// Writes the parts of a message one after the other.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn path(&mut self, path: &Path) {
        self.text(path.as_os_str().as_bytes());
    }

    /// A number that may be absent.
    fn option(&mut self, value: Option<u64>) {
        self.number(u64::from(value.is_some()));
        self.number(value.unwrap_or(0));
    }
}

/// Reads them back; `None` where the message is not what was written.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    fn text(&mut self) -> Option<OsString> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(OsString::from_vec(text.to_vec()))
    }

    fn path(&mut self) -> Option<PathBuf> {
        self.text().map(PathBuf::from)
    }

    fn option(&mut self) -> Option<Option<u64>> {
        let there = self.number()? == 1;
        let value = self.number()?;
        Some(there.then_some(value))
    }
}

impl KeeperSpec {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.option(self.limits.processes);
        out.option(self.limits.open_files);
        out.option(self.limits.file_bytes);
        match &self.view {
            None => out.number(0),
            Some(view) => {
                out.number(1);
                out.path(&view.home);
                out.number(view.mounts.len() as u64);
                view.mounts.iter().for_each(|mount| mount.encode(&mut out));
            }
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let limits =
            ProcessLimits { processes: from.option()?, open_files: from.option()?, file_bytes: from.option()? };
        let view = match from.number()? {
            0 => None,
            _ => {
                let home = from.path()?;
                let count = from.number()?;
                let mounts = (0..count).map(|_| Mount::decode(&mut from)).collect::<Option<_>>()?;
                Some(View { home, mounts })
            }
        };
        Some(Self { view, limits })
    }
}

impl Mount {
    fn encode(&self, out: &mut Writer) {
        out.path(self.target());
        match self {
            Self::Bind { source, access, .. } => {
                out.number(match access {
                    Access::ReadOnly => 0,
                    Access::ReadWrite => 1,
                    Access::Device => 2,
                });
                out.path(source);
            }
            Self::Overlay { lower, upper, .. } => {
                out.number(3);
                out.path(lower);
                out.text(upper.as_bytes());
            }
            Self::Scratch { name, .. } => {
                out.number(4);
                out.text(name.as_bytes());
            }
            Self::Hide { what, .. } => out.number(match what {
                Hidden::Directory => 5,
                Hidden::File => 6,
            }),
            Self::Symlink { to, .. } => {
                out.number(7);
                out.path(to);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let target = from.path()?;
        Some(match from.number()? {
            0 => Self::Bind { source: from.path()?, target, access: Access::ReadOnly },
            1 => Self::Bind { source: from.path()?, target, access: Access::ReadWrite },
            2 => Self::Bind { source: from.path()?, target, access: Access::Device },
            3 => Self::Overlay { lower: from.path()?, target, upper: from.text()?.into_string().ok()? },
            4 => Self::Scratch { name: from.text()?.into_string().ok()?, target },
            5 => Self::Hide { target, what: Hidden::Directory },
            6 => Self::Hide { target, what: Hidden::File },
            7 => Self::Symlink { target, to: from.path()? },
            _ => return None,
        })
    }
}

impl Command {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.path(&self.cwd);
        out.number(self.argv.len() as u64);
        self.argv.iter().for_each(|argument| out.text(argument.as_bytes()));
        out.number(self.env.len() as u64);
        for (name, value) in &self.env {
            out.text(name.as_bytes());
            out.text(value.as_bytes());
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let cwd = from.path()?;
        let arguments = from.number()?;
        let argv = (0..arguments).map(|_| from.text()).collect::<Option<_>>()?;
        let variables = from.number()?;
        let env = (0..variables).map(|_| Some((from.text()?, from.text()?))).collect::<Option<_>>()?;
        Some(Self { argv, env, cwd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let mount = |target: &str| PathBuf::from(target);
        let spec = KeeperSpec {
            view: Some(View {
                home: OsString::from_vec(vec![b'/', 0xff]).into(),
                mounts: vec![
                    Mount::Bind { source: mount("/a"), target: mount("/b"), access: Access::Device },
                    Mount::Overlay { lower: mount("/c"), target: mount("/d"), upper: "u".into() },
                    Mount::Scratch { name: "tmp".into(), target: mount("/tmp") },
                    Mount::Hide { target: mount("/e"), what: Hidden::File },
                    Mount::Symlink { target: mount("/bin"), to: mount("usr/bin") },
                ],
            }),
            limits: ProcessLimits { processes: Some(7), open_files: None, file_bytes: Some(u64::MAX) },
        };
        assert_eq!(KeeperSpec::decode(&spec.encode()), Some(spec.clone()));
        let plain = KeeperSpec { view: None, ..spec };
        assert_eq!(KeeperSpec::decode(&plain.encode()), Some(plain));

        let command = Command {
            argv: vec!["sh".into(), String::new().into()],
            env: vec![("A".into(), "b=c".into())],
            cwd: "/workspace".into(),
        };
        assert_eq!(Command::decode(&command.encode()), Some(command.clone()));
        assert_eq!(Command::decode(&command.encode()[1..]), None);
    }

    #[test]
    fn reports_come_back_as_they_were() {
        let all = [
            Report::Started,
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
    }
}
