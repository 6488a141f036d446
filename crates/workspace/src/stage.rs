//! Copying files out of a directory that an agent can write, without following any link of it.
//!
//! Git looks at files by name, and a name can be made to point elsewhere between two looks. So what changed is first copied,
//! directory by directory with no-follow opens, to a place that only the host writes; git reads it there.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{OpenOptionsExt, symlink},
        },
    },
    path::{Component, Path, PathBuf},
};

use domain::Fault;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat},
    io::Errno,
};

use crate::{
    git::io_fault,
    given::Given,
    redaction::{Content, Redaction},
    upper::is_gone,
};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that an agent can write, and where its files are copied to.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    tree: PathBuf,
    to: PathBuf,
    redaction: &'a Redaction<'a>,
    given: &'a Given,
    root: OwnedFd,
    /// The directory looked at last: paths come sorted, so mostly it is the next one's too.
    parent: Option<Parent>,
}

#[derive(Debug)]
struct Parent {
    path: PathBuf,
    fd: OwnedFd,
    /// Whether it, or one on the way to it, may be another one than was laid out.
    touched: bool,
}

/// What became of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    Copied,
    /// As the environment has it.
    Given,
    /// Gone, or nothing that git keeps (directory, socket, device, pipe).
    Absent,
}

impl<'a> Stage<'a> {
    pub fn open(tree: &Path, to: &Path, redaction: &'a Redaction<'a>, given: &'a Given) -> Result<Self, Fault> {
        let root = openat(rustix::fs::CWD, tree, DIRECTORY, Mode::empty())
            .map_err(|errno| io_fault("open", tree, &errno.into()))?;
        Ok(Self { tree: tree.to_owned(), to: to.to_owned(), redaction, given, root, parent: None })
    }

    /// Copies one file or symlink.
    pub fn copy(&mut self, path: &Path) -> Result<Staged, Fault> {
        let fault = |tried: &str, error: io::Error| io_fault(tried, &self.tree.join(path), &error);
        let (Some(name), Some(parent)) = (path.file_name().map(OsStr::to_owned), path.parent()) else {
            return Ok(Staged::Absent);
        };
        if self.parent.as_ref().is_none_or(|open| open.path != parent) {
            match self.directory(parent) {
                Ok((fd, touched)) => self.parent = Some(Parent { path: parent.to_owned(), fd, touched }),
                Err(error) if is_gone(error) => return Ok(Staged::Absent),
                Err(error) => return Err(fault("open", error.into())),
            }
        }
        let Some(Parent { fd: directory, touched, .. }) = &self.parent else { return Ok(Staged::Absent) };
        let stat = match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) if is_gone(error) => return Ok(Staged::Absent),
            Err(error) => return Err(fault("look at", error.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile
                if !touched
                    && !self.given.is_touched(&stat)
                    && self.given.has_copy(path.as_os_str().as_bytes(), &stat)? =>
            {
                Ok(Staged::Given)
            }
            FileType::RegularFile => self.copy_file(directory, &name, path),
            FileType::Symlink => self.copy_symlink(directory, &name, path),
            _ => Ok(Staged::Absent),
        }
    }

    /// Paths of all files and symlinks below `path`, but nothing named `.git`.
    pub fn below(&self, path: &Path) -> Result<Vec<PathBuf>, Fault> {
        let mut found = Vec::new();
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            let fault = |errno: Errno| io_fault("read", &self.tree.join(&path), &errno.into());
            let directory = match self.directory(&path) {
                Ok((fd, _)) => fd,
                Err(error) if is_gone(error) => continue,
                Err(error) => return Err(fault(error)),
            };
            for entry in Dir::read_from(&directory).map_err(fault)? {
                let entry = entry.map_err(fault)?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." || name == b".git" {
                    continue;
                }
                let child = path.join(OsStr::from_bytes(name));
                match statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => open.push(child),
                    Ok(_) => found.push(child),
                    Err(error) if is_gone(error) => {}
                    Err(error) => return Err(fault(error)),
                }
            }
        }
        Ok(found)
    }

    /// Opens a directory below the root, one name at a time; and whether one of them may have been put in the place of another.
    fn directory(&self, path: &Path) -> Result<(OwnedFd, bool), Errno> {
        let mut fd = openat(&self.root, ".", DIRECTORY, Mode::empty())?;
        let mut touched = false;
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(Errno::NOENT) };
            fd = openat(&fd, name, DIRECTORY, Mode::empty())?;
            touched = touched || !self.given.is_empty() && self.given.is_touched(&fstat(&fd)?);
        }
        Ok((fd, touched))
    }

    fn copy_file(&self, directory: &OwnedFd, name: &OsStr, path: &Path) -> Result<Staged, Fault> {
        // Not blocking: it may have become a pipe by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fault = |errno: Errno| io_fault("open", &self.tree.join(path), &errno.into());
        let fd = match openat(directory, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            // Swapped or removed between two looks.
            Err(errno) if is_gone(errno) => return Ok(Staged::Absent),
            Err(errno) => return Err(fault(errno)),
        };
        if FileType::from_raw_mode(fstat(&fd).map_err(fault)?.st_mode) != FileType::RegularFile {
            return Ok(Staged::Absent);
        }
        let (file, name) = (File::from(fd), path.as_os_str().as_bytes());
        if self.given.has_file(name, &file)? {
            return Ok(Staged::Given);
        }
        let (is_program, content) = self.redaction.read(file, name)?;
        write_file(&self.to.join(path), is_program, content)?;
        Ok(Staged::Copied)
    }

    fn copy_symlink(&self, directory: &OwnedFd, name: &OsStr, path: &Path) -> Result<Staged, Fault> {
        let target = match readlinkat(directory, name, Vec::new()) {
            Ok(target) if self.given.has_link(path.as_os_str().as_bytes(), target.as_bytes())? => {
                return Ok(Staged::Given);
            }
            Ok(target) => self.redaction.pass(target.into_bytes())?,
            Err(errno) if is_gone(errno) => return Ok(Staged::Absent),
            Err(errno) => return Err(io_fault("read", &self.tree.join(path), &errno.into())),
        };
        let place = self.to.join(path);
        make_parent(&place)
            .and_then(|()| symlink(OsStr::from_bytes(&target), &place))
            .map_err(|error| io_fault("write", &place, &error))?;
        Ok(Staged::Copied)
    }
}

/// Writes a new file to a place that only the host writes, with its parent directories.
pub(crate) fn write_file(place: &Path, is_program: bool, content: Content) -> Result<(), Fault> {
    let mode = if is_program { 0o700 } else { 0o600 };
    let write = || -> io::Result<()> {
        make_parent(place)?;
        let mut to = File::options().write(true).create_new(true).mode(mode).open(place)?;
        match content {
            Content::Bytes(bytes) => to.write_all(&bytes),
            Content::Spool(mut from, _) => io::copy(&mut from, &mut to).map(drop),
        }
    };
    write().map_err(|error| io_fault("write", place, &error))
}

fn make_parent(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), fs::create_dir_all)
}
