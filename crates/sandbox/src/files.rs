//! Files of a workspace, read and written from the host's side without ever following a link out of it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Component, Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use domain::{
    Fault,
    ports::sandbox::{self, Entry, EntryKind, WORKSPACE_DIR},
};
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat, fchmod, mkdirat, openat, openat2,
        renameat, statat, unlinkat,
    },
    io::Errno,
};

/// What is told of one directory.
const MOST_ENTRIES: usize = 10_000;

/// Works on a descriptor of the workspace, which a confined sandbox's keeper opens in its own namespace and lends: this shows
/// what commands see. While there is none, every call is refused.
#[derive(Debug, Default)]
pub struct Files {
    root: RwLock<Option<OwnedFd>>,
}

impl Files {
    pub fn lend(&self, root: OwnedFd) {
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Some(root);
    }

    /// For plain processes: their workspace as the host has it.
    pub fn open(&self, root: &Path) -> Result<(), Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())
            .map_err(|errno| Fault::environment(format!("cannot open the workspace {}: {errno}", root.display())))?;
        self.lend(root);
        Ok(())
    }

    /// Closes the descriptor, once calls that are under way are done: nothing of the daemon's holds the workspace then.
    pub fn withdraw(&self) {
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn at_root<T>(&self, act: impl FnOnce(&OwnedFd) -> Result<T, Fault>) -> Result<T, Fault> {
        match &*self.root.read().unwrap_or_else(PoisonError::into_inner) {
            Some(root) => act(root),
            None => Err(Fault::transient("the sandbox of these files was killed")),
        }
    }
}

impl sandbox::Files for Files {
    fn read(&self, path: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault> {
        self.at_root(|root| read(root, path, offset, max))
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), Fault> {
        self.at_root(|root| write(root, path, content))
    }

    fn list(&self, directory: &str) -> Result<Vec<Entry>, Fault> {
        self.at_root(|root| list(root, directory))
    }
}

fn read(root: &OwnedFd, path: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault> {
    let relative = relative(path)?;
    let told = |error| refuse(path, "read", error);
    // Not blocking: a FIFO without a writer would keep the daemon waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::from(open_beneath(root, relative, flags).map_err(told)?);
    let metadata = file.metadata().map_err(told)?;
    if !metadata.is_file() {
        return Err(not_a_file(path));
    }
    let length = metadata.len();
    let wanted = usize::try_from(length.saturating_sub(offset)).map_or(max, |left| left.min(max));
    let mut content = Vec::with_capacity(wanted);
    file.seek(SeekFrom::Start(offset)).map_err(told)?;
    file.take(wanted as u64).read_to_end(&mut content).map_err(told)?;
    Ok((content.into(), length))
}

fn write(root: &OwnedFd, path: &str, content: &[u8]) -> Result<(), Fault> {
    let relative = relative(path)?;
    if relative.file_name().is_none() {
        return Err(not_a_file(path));
    }
    let told = |error| refuse(path, "write", error);
    let place = match open_beneath(root, relative, OFlags::PATH) {
        Ok(existing) => {
            let metadata = File::from(existing.try_clone().map_err(told)?).metadata().map_err(told)?;
            if !metadata.is_file() {
                return Err(not_a_file(path));
            }
            behind_links(root, &existing).map(|(parent, name)| (parent, name, Some(metadata.mode())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_parent(root, relative),
        Err(error) => Err(error),
    };
    let (parent, name, mode) = place.map_err(told)?;
    replace(&parent, &name, content, mode).map_err(told)
}

fn list(root: &OwnedFd, path: &str) -> Result<Vec<Entry>, Fault> {
    let relative = relative(path)?;
    let told = |error| refuse(path, "list", error);
    let directory = match open_beneath(root, relative, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(told)?,
    };
    let mut entries = Vec::new();
    for entry in Dir::read_from(&directory).map_err(|errno| told(errno.into()))? {
        let entry = entry.map_err(|errno| told(errno.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It was removed meanwhile.
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(|errno| told(errno.into()))?,
        };
        entries.push(Entry {
            name: name.to_owned(),
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            },
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: modified(&stat),
        });
        if entries.len() == MOST_ENTRIES {
            break;
        }
    }
    Ok(entries)
}

fn modified(stat: &Stat) -> SystemTime {
    let since = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    let whole = match stat.st_mtime {
        before @ ..0 => SystemTime::UNIX_EPOCH.checked_sub(since(before)),
        after => SystemTime::UNIX_EPOCH.checked_add(since(after)),
    };
    let nanoseconds = Duration::from_nanos(stat.st_mtime_nsec);
    // A command can set any time; one that the clock cannot tell is none.
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The path from the workspace's root.
fn relative(path: &str) -> Result<&Path, Fault> {
    let inside = Path::new(path);
    let relative = if inside.is_absolute() {
        inside.strip_prefix(WORKSPACE_DIR).map_err(|_| {
            Fault::input(format!("{path} is not in the workspace"))
                .hint(format!("name a file below {WORKSPACE_DIR}, or one relative to it"))
        })?
    } else {
        inside
    };
    if path.contains('\0') {
        return Err(Fault::input(format!("a path cannot contain a NUL character: {path:?}")));
    }
    Ok(if relative == Path::new("") { Path::new(".") } else { relative })
}

fn refuse(path: &str, verb: &str, error: io::Error) -> Fault {
    let what = format!("cannot {verb} {path}: {error}");
    match error.raw_os_error() {
        Some(libc::ENOENT) => Fault::not_found(what),
        Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::EIO | libc::EMFILE | libc::ENFILE) => {
            Fault::environment(what)
        }
        _ => Fault::input(what),
    }
}

fn not_a_file(path: &str) -> Fault {
    Fault::input(format!("{path} is not a regular file"))
}

/// Links are followed as if the workspace were the whole file system.
fn open_beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A directory was moved while `..` was followed; the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return Ok(opened?),
        }
    }
}

type Place = (OwnedFd, PathBuf, Option<RawMode>);

/// The directory and name of an open file, which a link may have led to.
fn behind_links(root: &OwnedFd, file: &OwnedFd) -> io::Result<(OwnedFd, PathBuf)> {
    let real = |fd: &OwnedFd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let path = real(file)?;
    let outside = || io::Error::from_raw_os_error(libc::ENOENT);
    let relative = path.strip_prefix(real(root)?).map_err(|_| outside())?;
    let name = relative.file_name().ok_or_else(outside)?;
    let parent = relative.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    // The path may have changed meanwhile: it is resolved again from the root, and no link is followed any more.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok((openat2(root, parent, flags, Mode::empty(), resolve)?, name.into()))
}

/// The directory for a new file, made with those above it where they are missing.
fn make_parent(root: &OwnedFd, path: &Path) -> io::Result<Place> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.into();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    match open_beneath(root, parent, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        there => return Ok((there?, name, None)),
    }
    let mut made = PathBuf::new();
    let mut at = open_beneath(root, Path::new("."), flags)?;
    for component in parent.components() {
        made.push(component);
        if let Component::Normal(name) = component {
            match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        at = open_beneath(root, &made, flags)?;
    }
    Ok((at, name, None))
}

/// Writes beside the file, then renames over it: a reader sees the old or the new content.
fn replace(parent: &OwnedFd, name: &Path, content: &[u8], mode: Option<RawMode>) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mut file, temporary) = loop {
        let temporary = format!(".overnight-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        match openat(parent, &temporary, flags, Mode::from_raw_mode(0o666)) {
            Err(Errno::EXIST) => {}
            file => break (File::from(file?), temporary),
        }
    };
    let mut fill = || -> io::Result<()> {
        file.write_all(content)?;
        if let Some(mode) = mode {
            fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        }
        Ok(renameat(parent, &temporary, parent, name)?)
    };
    fill().inspect_err(|_| {
        // What failed is told; that it leaves nothing behind is an effort.
        let _ = unlinkat(parent, &temporary, AtFlags::empty());
    })
}
