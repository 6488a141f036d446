//! The file system of a sandbox, made by its keeper inside its own mount namespace: nothing of it can leak to the host.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, symlinkat, unlinkat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
        unmount,
    },
};

use crate::{
    order::{Access, Hidden, Mount, View},
    sys,
};

/// The directory of an attempt's HOME that is the sandbox's own: its `/tmp`, and what it writes over shared caches.
pub const OWN_DIRECTORY: &str = ".overnight";

const PLAIN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const READ_ONLY: MountAttrFlags = PLAIN.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Builds the root over the current one and returns it. The error names the mount of the view it was at, from 1, or 0.
///
/// `memory_bytes` is what the sandbox's processes may use together, which counts what they keep in memory as files.
pub fn build(view: &View, memory_bytes: Option<u64>) -> Result<OwnedFd, (u16, io::Error)> {
    let general = |error: io::Error| (0, error);
    let root = frame(memory_bytes).map_err(general)?;
    let home = open_directory(CWD, &view.home).map_err(|errno| general(errno.into()))?;
    let mut veils = Vec::new();
    for (index, mount) in view.mounts.iter().enumerate() {
        let veil = put(&root, &home, mount).map_err(|error| (u16::try_from(index + 1).unwrap_or(u16::MAX), error))?;
        veils.extend(veil);
    }
    // Only now, as mount points were made in them.
    for veil in veils.iter().chain([&root]) {
        sys::set_mount_attributes(veil, READ_ONLY.bits().into(), 0).map_err(general)?;
    }
    Ok(root)
}

/// The empty root with what every sandbox has and no host lends.
fn frame(memory_bytes: Option<u64>) -> io::Result<OwnedFd> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = memory("0755", TINY)?;
    // Over the old root, which stays this process's root until `enter`.
    move_mount(&root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for (path, mode, percent) in [("dev/shm", "1777", 40), ("run", "0755", 10)] {
        let size = memory_bytes.map_or_else(|| format!("{percent}%"), |most| (most / 100 * percent).to_string());
        attach(&memory(mode, &size)?, &place(&root, Path::new(path), Hidden::Directory)?)?;
    }
    let terminals = fsopen(c"devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&terminals, c"ptmxmode", c"0666")?;
    fsconfig_create(&terminals)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let terminals = fsmount(&terminals, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    attach(&terminals, &place(&root, Path::new("dev/pts"), Hidden::Directory)?)?;
    // The kernel lets a namespace mount a further /proc only while it sees one whole.
    attach(&process_table()?, &place(&root, Path::new("proc"), Hidden::Directory)?)?;
    Ok(root)
}

/// Makes the built root this process's only one.
pub fn enter(root: &OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")?;
    Ok(())
}

/// Puts the process table of the current PID namespace at `/proc`.
pub fn mount_proc() -> io::Result<()> {
    let at = openat(CWD, c"/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(&process_table()?, &at)
}

/// Read-only, because a daemon that runs as root would otherwise lend its power over `/proc/sys`.
fn process_table() -> io::Result<OwnedFd> {
    let table = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&table)?;
    let flags = READ_ONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&table, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

/// Holds mount points only.
const TINY: &str = "1m";

/// A new file system in memory.
fn memory(mode: &str, size: &str) -> io::Result<OwnedFd> {
    let tmpfs = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&tmpfs, c"mode", mode)?;
    fsconfig_set_string(&tmpfs, c"size", size)?;
    fsconfig_create(&tmpfs)?;
    Ok(fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, PLAIN)?)
}

/// Puts one thing into the root. Returns a veil that is to be made read-only in the end.
fn put(root: &OwnedFd, home: &OwnedFd, mount: &Mount) -> io::Result<Option<OwnedFd>> {
    let at = |target: &Path, what| place(root, target.strip_prefix("/").unwrap_or(target), what);
    match mount {
        Mount::Bind { source, target, access } => {
            let tree = clone_tree(CWD, source)?;
            let what = if is_directory(&tree)? { Hidden::Directory } else { Hidden::File };
            let attributes = match access {
                Access::ReadOnly => READ_ONLY,
                Access::ReadWrite => PLAIN,
                Access::Device => MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            };
            sys::set_mount_attributes(&tree, attributes.bits().into(), libc::AT_RECURSIVE)?;
            attach(&tree, &at(target, what)?)?;
        }
        Mount::Overlay { lower, target, upper } => {
            let place = at(target, Hidden::Directory)?;
            match overlay(home, lower, upper) {
                Ok(tree) => attach(&tree, &place)?,
                // The state directory's file system cannot carry one (it is an overlay itself, or has no extended
                // attributes): the cache can then be read, not added to.
                Err(_) => {
                    let tree = clone_tree(CWD, lower)?;
                    sys::set_mount_attributes(&tree, READ_ONLY.bits().into(), libc::AT_RECURSIVE)?;
                    attach(&tree, &place)?;
                }
            }
        }
        Mount::Scratch { name, target } => {
            let own = own_directory(home, &[OWN_DIRECTORY, name])?;
            fchmod(&own, Mode::from_raw_mode(0o1777))?;
            let tree = clone_tree(&own, Path::new(""))?;
            sys::set_mount_attributes(&tree, PLAIN.bits().into(), 0)?;
            attach(&tree, &at(target, Hidden::Directory)?)?;
        }
        Mount::Hide { target, what: Hidden::Directory } => {
            let veil = memory("0555", TINY)?;
            attach(&veil, &at(target, Hidden::Directory)?)?;
            return Ok(Some(veil));
        }
        Mount::Hide { target, what: Hidden::File } => {
            let veil = clone_tree(CWD, Path::new("/dev/null"))?;
            sys::set_mount_attributes(&veil, READ_ONLY.bits().into(), 0)?;
            attach(&veil, &at(target, Hidden::File)?)?;
        }
        Mount::Symlink { target, to } => {
            let relative = target.strip_prefix("/").unwrap_or(target);
            let parent = place(root, relative.parent().unwrap_or(Path::new("")), Hidden::Directory)?;
            symlinkat(to, parent, relative.file_name().unwrap_or_default())?;
        }
    }
    Ok(None)
}

fn clone_tree(directory: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(directory, path, flags)?)
}

fn attach(tree: &OwnedFd, at: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", at, c"", flags)?)
}

/// A shared cache with the attempt's own layer over it. Every directory is named by descriptor: a path in HOME could be
/// redirected by a link which the agent left there.
fn overlay(home: &OwnedFd, lower: &Path, name: &str) -> io::Result<OwnedFd> {
    let upper = own_directory(home, &[OWN_DIRECTORY, name, "upper"])?;
    let work = own_directory(home, &[OWN_DIRECTORY, name, "work"])?;
    let lower = open_directory(CWD, lower)?;
    let layers = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, directory) in [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)] {
        fsconfig_set_string(&layers, key, format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    }
    fsconfig_set_flag(&layers, c"userxattr")?;
    fsconfig_create(&layers)?;
    Ok(fsmount(&layers, FsMountFlags::FSMOUNT_CLOEXEC, PLAIN)?)
}

fn open_directory(directory: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(directory, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn is_directory(fd: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

/// Opens a directory below HOME without following any link, making it where it is missing. What an agent put in its place
/// is removed.
fn own_directory(home: &OwnedFd, names: &[&str]) -> io::Result<OwnedFd> {
    let mut at = home.try_clone()?;
    for name in names {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || openat(&at, *name, flags, Mode::empty());
        at = match open() {
            Ok(there) => there,
            Err(errno) => {
                if matches!(errno, Errno::LOOP | Errno::NOTDIR) {
                    unlinkat(&at, *name, AtFlags::empty())?;
                } else if errno != Errno::NOENT {
                    return Err(errno.into());
                }
                mkdirat(&at, *name, Mode::RWXU)?;
                open()?
            }
        };
    }
    Ok(at)
}

/// The mount point at `path` below the new root, made where it is missing. Links (HOME and `/tmp` may hold some that an
/// agent left) lead at most to another place of the new root.
fn place(root: &OwnedFd, path: &Path, what: Hidden) -> io::Result<OwnedFd> {
    let open = |path: &Path| {
        let path = if path == Path::new("") { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    match open(path) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {}
        there => return Ok(there?),
    }
    let mut made = std::path::PathBuf::new();
    let mut parent = open(&made)?;
    let last = path.components().count();
    for (index, component) in path.components().enumerate() {
        let Component::Normal(name) = component else { return Err(io::ErrorKind::InvalidInput.into()) };
        made.push(name);
        let file = index + 1 == last && what == Hidden::File;
        let make = || {
            if file {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&parent, name, flags, Mode::RUSR).map(drop)
            } else {
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))
            }
        };
        let next = match make() {
            Ok(()) | Err(Errno::EXIST) => open(&made),
            Err(errno) => Err(errno),
        };
        parent = match next {
            // A link that leads nowhere, or a file: an agent left it in its HOME, and would lock itself out.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                unlinkat(&parent, name, AtFlags::empty())?;
                make()?;
                open(&made)?
            }
            next => next?,
        };
    }
    Ok(parent)
}
