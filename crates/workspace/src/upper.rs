//! Reading an overlay's upper directory from the host, with what lies under it, while the overlay may be mounted and written.
//!
//! No name is trusted between two looks: every file is opened beneath its directory, no link of any kind is followed on the way,
//! and what has become something else meanwhile counts as gone.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use domain::Fault;
use rustix::{
    fs::{
        Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, accessat, chmodat, fgetxattr, fstat, openat,
        openat2, readlinkat, statat,
    },
    io::Errno,
};

use crate::git::io_fault;

/// Overlayfs's marks, with `userxattr`.
pub(crate) const OPAQUE: &str = "user.overlay.opaque";
const WHITEOUT: &str = "user.overlay.whiteout";

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Not blocking: it may have become a pipe by now.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// One directory of an overlay: its upper, or one that lies under it.
#[derive(Debug)]
pub(crate) struct Side {
    path: PathBuf,
    root: OwnedFd,
}

/// An open directory of a side.
#[derive(Debug)]
pub(crate) struct Open {
    fd: OwnedFd,
    /// What it hides of the directories under it.
    hides: Hides,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hides {
    Nothing,
    /// Nothing, but files in it may be whiteouts by their attribute.
    Marked,
    All,
}

/// What is at a name of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nothing,
    /// Nothing, and nothing of what lies under it is seen either.
    Whiteout,
    File,
    Link,
    Directory,
    /// Pipe, socket, device.
    Other,
}

impl Side {
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let root =
            openat(CWD, path, DIRECTORY, Mode::empty()).map_err(|errno| io_fault("open", path, &errno.into()))?;
        Ok(Self { path: path.to_owned(), root })
    }

    /// A directory by its path from the root (empty: the root itself). `None`: there is none.
    pub fn directory(&self, path: &[u8]) -> Result<Option<Open>, Fault> {
        let name = if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) };
        // What is in it is asked for by its descriptor.
        let enter = |fd: OwnedFd| accessat(&fd, c".", Access::EXEC_OK, AtFlags::empty()).map(|()| fd);
        let open = || openat2(&self.root, name, DIRECTORY, Mode::empty(), BENEATH).and_then(enter);
        let fd = match self.unlocked(path, open) {
            Ok(fd) => fd,
            Err(errno) if is_gone(errno) => return Ok(None),
            Err(errno) => return Err(self.fault("open", path, errno)),
        };
        let mut value = [0; 1];
        let hides = match fgetxattr(&fd, OPAQUE, &mut value) {
            Ok(1) if value == *b"y" => Hides::All,
            Ok(1) if value == *b"x" => Hides::Marked,
            // Longer than any value that overlayfs writes, or no such attribute.
            Ok(_) | Err(Errno::RANGE | Errno::NODATA | Errno::NOTSUP) => Hides::Nothing,
            Err(errno) => return Err(self.fault("look at", path, errno)),
        };
        Ok(Some(Open { fd, hides }))
    }

    /// Calls `visit` with every entry of a directory. What vanishes meanwhile is left out.
    pub fn entries(
        &self,
        path: &[u8],
        open: &Open,
        visit: &mut dyn FnMut(&[u8], Kind) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let fault = |errno| self.fault("read", path, errno);
        for entry in Dir::read_from(&open.fd).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile if open.hides != Hides::Marked => Kind::File,
                FileType::Symlink => Kind::Link,
                FileType::Directory => Kind::Directory,
                FileType::Fifo | FileType::Socket | FileType::BlockDevice => Kind::Other,
                FileType::RegularFile | FileType::CharacterDevice | FileType::Unknown => {
                    open.kind(name).map_err(fault)?
                }
            };
            if kind != Kind::Nothing {
                visit(name.to_bytes(), kind)?;
            }
        }
        Ok(())
    }

    /// A regular file by its path from the root. `None`: there is none.
    pub fn file(&self, path: &[u8]) -> Result<Option<File>, Fault> {
        match self.unlocked(path, || openat2(&self.root, OsStr::from_bytes(path), FILE, Mode::empty(), BENEATH)) {
            Ok(fd) => only_regular(fd).map_err(|errno| self.fault("look at", path, errno)),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(self.fault("open", path, errno)),
        }
    }

    /// Where a link points. `None`: there is no link.
    pub fn link(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let read = openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), BENEATH)
            .and_then(|fd| readlinkat(fd, c"", Vec::new()));
        match read {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(self.fault("read", path, errno)),
        }
    }

    /// Opens something. What was locked away from its owner, who is the one that reads here too, is unlocked first: it is work like
    /// any other, and git does not keep who may read it.
    fn unlocked(&self, path: &[u8], open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
        match open() {
            Err(Errno::ACCESS) => {
                let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
                let mut here = Vec::new();
                for name in std::iter::once(&b"."[..]).chain(names) {
                    here.extend_from_slice(name);
                    self.unlock(&here)?;
                    here.push(b'/');
                }
                open()
            }
            opened => opened,
        }
    }

    fn unlock(&self, path: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), BENEATH)?;
        let stat = fstat(&found)?;
        let needed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Mode::RWXU,
            FileType::RegularFile => Mode::RUSR,
            _ => return Ok(()),
        };
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        if mode.contains(needed) {
            return Ok(());
        }
        // By the descriptor: the name may be another's by now.
        chmodat(CWD, format!("/proc/self/fd/{}", found.as_raw_fd()), mode | needed, AtFlags::empty())
    }

    pub fn fault(&self, tried: &str, path: &[u8], errno: Errno) -> Fault {
        io_fault(tried, &self.path.join(OsStr::from_bytes(path)), &errno.into())
    }
}

impl Open {
    pub fn is_opaque(&self) -> bool {
        self.hides == Hides::All
    }

    pub fn kind(&self, name: &CStr) -> Result<Kind, Errno> {
        let stat = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) if is_gone(errno) => return Ok(Kind::Nothing),
            Err(errno) => return Err(errno),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if self.is_marked(name, stat.st_size)? => Kind::Whiteout,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            FileType::Directory => Kind::Directory,
            FileType::CharacterDevice if stat.st_rdev == 0 => Kind::Whiteout,
            _ => Kind::Other,
        })
    }

    /// A regular file in it. `None`: there is none.
    pub fn file(&self, name: &CStr) -> Result<Option<File>, Errno> {
        match openat(&self.fd, name, FILE, Mode::empty()) {
            Ok(fd) => only_regular(fd),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a file is a whiteout of the form without a device.
    fn is_marked(&self, name: &CStr, size: i64) -> Result<bool, Errno> {
        if self.hides != Hides::Marked || size != 0 {
            return Ok(false);
        }
        let Some(file) = self.file(name)? else { return Ok(false) };
        match fgetxattr(&file, WHITEOUT, &mut [0; 0]) {
            Ok(_) | Err(Errno::RANGE) => Ok(true),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn only_regular(fd: OwnedFd) -> Result<Option<File>, Errno> {
    let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
    Ok((kind == FileType::RegularFile).then(|| File::from(fd)))
}

/// Whether an error says that there is nothing at a name, or that a link or file is in the way to it.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::INVAL)
}
