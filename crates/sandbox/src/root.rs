//! The file system of a sandbox, made by its keeper inside its own mount namespace: nothing of it can leak to the host.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path},
};

use domain::ports::sandbox::HOME_DIR;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, symlinkat, unlinkat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
    },
};

use crate::{
    order::{Access, Hidden, Mount, View},
    overlay::{self, open_directory},
    sys,
};

const PLAIN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const READ_ONLY: MountAttrFlags = PLAIN.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Builds the root over the current one and returns it. The error names the mount of the view it was at, from 1, or 0.
///
/// `memory_bytes` is what the sandbox's processes may use together, which counts what they keep in memory as files.
pub fn build(view: &View, memory_bytes: Option<u64>) -> Result<OwnedFd, (u16, io::Error)> {
    let at = |index: usize| move |error: io::Error| (u16::try_from(index).unwrap_or(u16::MAX), error);
    let root = frame(memory_bytes).map_err(at(0))?;
    let scratch = open_directory(CWD, &view.scratch).map_err(|errno| at(0)(errno.into()))?;
    // Before HOME's layers: overlayfs warns when it is given a part of what is mounted already.
    let caches = view.mounts.iter().enumerate().map(|(index, mount)| match mount {
        Mount::Cache { lower, target, name } => {
            Ok(Some(cache(view, &scratch, Cache { lower, target, name }).map_err(at(index + 1))?))
        }
        _ => Ok(None),
    });
    let caches = caches.collect::<Result<Vec<_>, _>>()?;
    let mut veils = Vec::new();
    for (index, (mount, cache)) in view.mounts.iter().zip(caches).enumerate() {
        veils.extend(put(&root, &scratch, mount, cache).map_err(at(index + 1))?);
    }
    // Only now, as mount points were made in them.
    for veil in &veils {
        sys::set_mount_attributes(veil, READ_ONLY.bits().into(), 0).map_err(|error| match error.raw_os_error() {
            // The kernel takes a mount away from a name that is removed or replaced on the host: it is to be looked at anew.
            Some(libc::EINVAL) => at(0)(Errno::AGAIN.into()),
            _ => at(0)(error),
        })?;
    }
    sys::set_mount_attributes(&root, READ_ONLY.bits().into(), 0).map_err(at(0))?;
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
    // The machine has some thousands for all.
    fsconfig_set_string(&terminals, c"max", c"256")?;
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

/// Of the kernel's tables those that tell of the host's memory and keys to its user 0, who has no power in a sandbox; the first
/// one tells everybody.
const TABLES: [&str; 8] =
    ["keys", "kpagecgroup", "kpagecount", "kpageflags", "pagetypeinfo", "slabinfo", "timer_list", "vmallocinfo"];

/// Puts the process table of the current PID namespace at `/proc`.
pub fn mount_proc() -> io::Result<()> {
    let place = |path: &str| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    attach(&process_table()?, &place("/proc")?)?;
    let veiled = if rustix::process::geteuid().is_root() { TABLES.len() } else { 1 };
    for name in &TABLES[..veiled] {
        match place(&format!("/proc/{name}")) {
            Ok(table) => attach(&clone_tree(CWD, Path::new("/dev/null"))?, &table)?,
            // Not every kernel has each.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// How often a name is looked at that keeps changing.
const MOST_LOOKS: u32 = 100;

/// Veils anew what lost its veil, which the kernel takes away with the name it was on: a host's program may have put another file
/// there. For this process and those that come of it.
pub fn veil_again(view: &View) -> io::Result<()> {
    let mut veiled: Option<&Path> = None;
    for mount in &view.mounts {
        let Mount::Hide { target, .. } = mount else { continue };
        // Ancestors come first: what lies below a veil is no part of the host's, but for what was put there on purpose.
        if veiled.is_some_and(|above| target.starts_with(above)) {
            continue;
        }
        veiled = Some(target);
        // Again where the name goes, or is replaced, between two looks.
        let mut looks = 0;
        while let Err(error) = veil_unless_veiled(target) {
            looks += 1;
            if looks == MOST_LOOKS || !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) {
                return Err(error);
            }
        }
    }
    Ok(())
}

fn veil_unless_veiled(target: &Path) -> io::Result<()> {
    let at = match openat(CWD, target, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(at) => at,
        // Not there any more, or nothing that a command could reach.
        Err(errno) if is_missing(errno) || errno == Errno::ACCESS => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let stat = rustix::fs::fstat(&at)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    if kind.is_dir() {
        let above = rustix::fs::stat(target.parent().unwrap_or(target))?;
        if stat.st_dev == above.st_dev {
            let veil = memory("0555", TINY)?;
            sys::set_mount_attributes(&veil, READ_ONLY.bits().into(), 0)?;
            attach(&veil, &at)?;
        }
    } else if !kind.is_char_device() {
        attach(&clone_tree(CWD, Path::new("/dev/null"))?, &at)?;
    }
    Ok(())
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
fn put(root: &OwnedFd, scratch: &OwnedFd, mount: &Mount, cache: Option<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    let at = |target: &Path, what| place(root, target.strip_prefix("/").unwrap_or(target), what);
    match mount {
        Mount::Bind { source, target, access } => {
            let tree = clone_tree(CWD, source)?;
            let what = if is_directory(&tree)? { Hidden::Directory } else { Hidden::File };
            let attributes = match access {
                Access::ReadOnly => READ_ONLY,
                Access::ReadWrite => PLAIN,
                // Read-only is the node, which may be the daemon's user's own, and not the device behind it.
                Access::Device => {
                    MountAttrFlags::MOUNT_ATTR_RDONLY
                        | MountAttrFlags::MOUNT_ATTR_NOSUID
                        | MountAttrFlags::MOUNT_ATTR_NOEXEC
                }
            };
            sys::set_mount_attributes(&tree, attributes.bits().into(), libc::AT_RECURSIVE)?;
            attach(&tree, &at(target, what)?)?;
        }
        Mount::Layers { layers, target } => {
            attach(&overlay::layers(layers, PLAIN)?, &at(target, Hidden::Directory)?)?;
        }
        Mount::Cache { target, .. } => {
            if let Some(cache) = cache {
                attach(&cache, &at(target, Hidden::Directory)?)?;
            }
        }
        Mount::Scratch { name, target } => {
            let own = own_directory(scratch, Path::new(name))?;
            fchmod(&own, Mode::from_raw_mode(0o1777))?;
            let tree = clone_tree(&own, Path::new(""))?;
            sys::set_mount_attributes(&tree, PLAIN.bits().into(), 0)?;
            attach(&tree, &at(target, Hidden::Directory)?)?;
        }
        Mount::Hide { target, what } => {
            let veil = match what {
                Hidden::Directory => memory("0555", TINY)?,
                Hidden::File => {
                    let veil = clone_tree(CWD, Path::new("/dev/null"))?;
                    sys::set_mount_attributes(&veil, READ_ONLY.bits().into(), 0)?;
                    veil
                }
            };
            let veiled = veil_over(root, target.strip_prefix("/").unwrap_or(target), &veil)?;
            return Ok(Some(veil).filter(|_| veiled && *what == Hidden::Directory));
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

/// Whether there is something to veil: it was there when the view was made, and may have gone since.
fn veil_over(root: &OwnedFd, path: &Path, veil: &OwnedFd) -> io::Result<bool> {
    loop {
        let at = match look(root, path) {
            Ok(at) => at,
            Err(errno) if is_missing(errno) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        match attach(veil, &at) {
            // It went just now. Another may have taken its name, as programs replace files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            attached => return attached.map(|()| true),
        }
    }
}

fn attach(tree: &OwnedFd, at: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", at, c"", flags)?)
}

#[derive(Clone, Copy)]
struct Cache<'a> {
    lower: &'a Path,
    target: &'a Path,
    name: &'a str,
}

/// A cache of the host under what HOME has at this place: what is added to it is HOME's, and goes into an environment's layer.
fn cache(view: &View, scratch: &OwnedFd, cache: Cache<'_>) -> io::Result<OwnedFd> {
    overlay_cache(view, scratch, cache).or_else(|_| {
        // The state directory's file system cannot carry one (it is an overlay itself, or has no extended attributes): the
        // cache can then be read, not added to.
        let tree = clone_tree(CWD, cache.lower)?;
        sys::set_mount_attributes(&tree, READ_ONLY.bits().into(), libc::AT_RECURSIVE)?;
        Ok(tree)
    })
}

fn overlay_cache(view: &View, scratch: &OwnedFd, cache: Cache<'_>) -> io::Result<OwnedFd> {
    let home = view.mounts.iter().find(|mount| mount.target() == Path::new(HOME_DIR));
    let (writable, layers) = match home {
        Some(Mount::Bind { source, .. }) => (source, &[][..]),
        Some(Mount::Layers { layers, .. }) => (&layers.upper, &layers.lower[..]),
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    let place = cache.target.strip_prefix(HOME_DIR).map_err(io::Error::other)?;
    let upper = own_directory(&open_directory(CWD, writable)?, place)?;
    let work = own_directory(scratch, Path::new(cache.name))?;
    let mut lower = Vec::new();
    for layer in layers {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        // A layer that has nothing there, or what an installation has put in its place.
        lower.extend(openat2(open_directory(CWD, layer)?, place, flags, Mode::empty(), resolve).ok());
    }
    lower.push(open_directory(CWD, cache.lower)?);
    overlay::mount(&lower, &upper, &work, PLAIN)
}

fn is_directory(fd: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

/// Opens a directory below HOME's writable side or the scratch directory without following any link, making it where it is
/// missing. What an agent put in its place is removed.
fn own_directory(above: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut at = above.try_clone()?;
    for name in path {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || openat(&at, name, flags, Mode::empty());
        at = match open() {
            Ok(there) => there,
            Err(errno) => {
                if matches!(errno, Errno::LOOP | Errno::NOTDIR) {
                    unlinkat(&at, name, AtFlags::empty())?;
                } else if errno != Errno::NOENT {
                    return Err(errno.into());
                }
                mkdirat(&at, name, Mode::RWXU)?;
                open()?
            }
        };
    }
    Ok(at)
}

/// What is at `path` below the new root. Links (HOME and `/tmp` may hold some that an agent left) lead at most to another place
/// of the new root.
fn look(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path == Path::new("") { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Nothing is there, or a link that leads nowhere, or a file where a directory should be.
fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::LOOP | Errno::NOTDIR)
}

/// The mount point at `path` below the new root, made where it is missing.
fn place(root: &OwnedFd, path: &Path, what: Hidden) -> io::Result<OwnedFd> {
    match look(root, path) {
        Err(errno) if is_missing(errno) => {}
        there => return Ok(there?),
    }
    let mut made = std::path::PathBuf::new();
    let mut parent = look(root, &made)?;
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
            Ok(()) | Err(Errno::EXIST) => look(root, &made),
            Err(errno) => Err(errno),
        };
        parent = match next {
            // An agent left it in its HOME, and would lock itself out.
            Err(errno) if is_missing(errno) => {
                unlinkat(&parent, name, AtFlags::empty())?;
                make()?;
                look(root, &made)?
            }
            next => next?,
        };
    }
    Ok(parent)
}
