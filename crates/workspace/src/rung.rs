//! How a workspace gets its files: by an overlay over layers, or by copies that share their blocks with the layers, or by plain
//! copies. Which of them this machine has is found by doing.

use std::{
    ffi::OsStr,
    fs::{self, File, FileTimes, Metadata, Permissions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use domain::Fault;
use rustix::{
    fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, ioctl_ficlone, lgetxattr, lsetxattr, utimensat},
    io::Errno,
};

use crate::{
    git::io_fault,
    home::{make_dir, remove_tree},
    upper::OPAQUE,
};

/// Kinds of file systems, as `statfs(2)` numbers them.
const OVERLAYFS: rustix::fs::FsWord = 0x794c_7630;
const NFS: rustix::fs::FsWord = 0x6969;

/// From the best to the one that works everywhere. All yield the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The sandbox can mount overlays (with `userxattr`) on the file system of the home.
    Overlay,
    /// Copies share their blocks (btrfs, xfs).
    Reflink,
    Copy,
}

impl Rung {
    /// [`Self::Reflink`] or [`Self::Copy`], whichever works on the file system of `home`. The overlay is for the one to try who mounts.
    pub fn probe_copy(home: &Path) -> Self {
        let (from, to) = (home.join("tmp-probe-from"), home.join("tmp-probe-to"));
        let cloned = make_dir(home).is_ok()
            && fs::write(&from, [b'x'; 4096]).is_ok()
            && File::create(&to).is_ok_and(|to| File::open(&from).is_ok_and(|from| ioctl_ficlone(to, from).is_ok()));
        for file in [&from, &to] {
            // What stays is written over by the next probe.
            let _ = fs::remove_file(file);
        }
        if cloned { Self::Reflink } else { Self::Copy }
    }
}

/// What a person should know of the file system that a home is on, one sentence each, with what to do.
pub fn home_notes(home: &Path) -> Vec<String> {
    let kind = rustix::fs::statfs(home).map_or(0, |stat| stat.f_type);
    let place = home.display();
    let note = match kind {
        OVERLAYFS => format!(
            "{place} is on an overlay (a container's own file system), which cannot hold another one: workspaces are copies. Put the \
             home on a volume."
        ),
        NFS => format!(
            "{place} is on NFS, which cannot hold overlays: workspaces are copies. Put the home on a local disk with OVERNIGHT_HOME."
        ),
        _ => return Vec::new(),
    };
    vec![note]
}

/// Lays a layer over the plain directory `to` as an overlay would show it, keeping times and modes. What is named `except` at its
/// top is left out. Devices, pipes and sockets are, too.
pub(crate) fn lay_over(layer: &Path, to: &Path, except: &OsStr) -> Result<(), Fault> {
    let mut directories = Vec::new();
    walk(layer, &mut |path, entry| {
        if path.as_os_str() == except {
            return Ok(Enter::No);
        }
        let (from, to) = (layer.join(path), to.join(path));
        let enter = lay_one(&from, &to, entry).map_err(|error| io_fault("make", &to, &error))?;
        if enter == Enter::Yes {
            directories.push((to, times(entry), entry.mode()));
        }
        Ok(enter)
    })?;
    // What is made in a directory changes its time.
    for (directory, times, mode) in directories.into_iter().rev() {
        fs::set_permissions(&directory, Permissions::from_mode(mode & 0o777))
            .and_then(|()| Ok(utimensat(CWD, &directory, &times, AtFlags::SYMLINK_NOFOLLOW)?))
            .map_err(|error| io_fault("set the time of", &directory, &error))?;
    }
    Ok(())
}

fn lay_one(from: &Path, to: &Path, entry: &Metadata) -> io::Result<Enter> {
    let kind = entry.file_type();
    let there = fs::symlink_metadata(to).ok();
    if kind.is_dir() && there.as_ref().is_some_and(Metadata::is_dir) && !is_opaque(from)? {
        return Ok(Enter::Yes);
    }
    if there.is_some() && (kind.is_file() || kind.is_symlink() || kind.is_dir() || is_whiteout(entry)) {
        remove_tree(to).map_err(|fault| io::Error::other(fault.what))?;
    }
    if kind.is_dir() {
        fs::create_dir(to)?;
        return Ok(Enter::Yes);
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        utimensat(CWD, to, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
    } else if kind.is_file() {
        let source = File::open(from)?;
        let mut new = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        if ioctl_ficlone(&new, &source).is_err() {
            io::copy(&mut &source, &mut new)?;
        }
        new.set_permissions(Permissions::from_mode(entry.mode() & 0o777))?;
        new.set_times(FileTimes::new().set_modified(entry.modified()?).set_accessed(entry.modified()?))?;
    }
    Ok(Enter::No)
}

fn times(entry: &Metadata) -> Timestamps {
    let modified = Timespec { tv_sec: entry.mtime(), tv_nsec: entry.mtime_nsec() as _ };
    Timestamps { last_access: modified, last_modification: modified }
}

/// Whether an entry of an upper directory or a layer says that there is nothing of its name.
pub(crate) fn is_whiteout(entry: &Metadata) -> bool {
    entry.file_type().is_char_device() && entry.rdev() == 0
}

/// Whether a directory of an upper directory or a layer hides what lies under it.
pub(crate) fn is_opaque(directory: &Path) -> io::Result<bool> {
    let mut value = [0; 2];
    match lgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        // Longer than any value that overlayfs writes.
        Err(Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Hides what lies under a directory.
pub(crate) fn make_opaque(directory: &Path) -> Result<(), Fault> {
    lsetxattr(directory, OPAQUE, b"y", XattrFlags::empty()).map_err(|errno| io_fault("mark", directory, &errno.into()))
}

/// Shows again what lies under a directory.
pub(crate) fn clear_opaque(directory: &Path) -> Result<(), Fault> {
    match rustix::fs::lremovexattr(directory, OPAQUE) {
        Err(errno) if !matches!(errno, Errno::NODATA | Errno::NOTSUP) => {
            Err(io_fault("unmark", directory, &errno.into()))
        }
        _ => Ok(()),
    }
}

/// Whether a walk goes into the directory that it has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enter {
    Yes,
    No,
}

/// Visits everything below `root`, each directory before what is in it, by paths from the root. Links are not followed.
pub(crate) fn walk(root: &Path, visit: &mut dyn FnMut(&Path, &Metadata) -> Result<Enter, Fault>) -> Result<(), Fault> {
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let full = root.join(&directory);
        let fault = |error: io::Error| io_fault("read", &full, &error);
        for entry in fs::read_dir(&full).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let metadata = entry.metadata().map_err(fault)?;
            let path = directory.join(entry.file_name());
            if visit(&path, &metadata)? == Enter::Yes && metadata.is_dir() {
                open.push(path);
            }
        }
    }
    Ok(())
}

/// What a directory and everything in it hold on disk.
pub(crate) fn disk_bytes(root: &Path) -> Result<u64, Fault> {
    let own = fs::symlink_metadata(root).map_err(|error| io_fault("look at", root, &error))?;
    let mut bytes = own.blocks() * 512;
    walk(root, &mut |_, entry| {
        // A file with several names is counted by parts, which add up to it where all names are here.
        bytes += entry.blocks() * 512 / if entry.is_dir() { 1 } else { entry.nlink().max(1) };
        Ok(Enter::Yes)
    })?;
    Ok(bytes)
}
