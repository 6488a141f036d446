//! How much directories hold, counted so that nothing an agent made in them can mislead or delay it for long: no link is
//! followed, no file opened, and counting stops once the answer is known.

use std::{
    collections::HashSet,
    ffi::CStr,
    fs,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, fstat, openat, statx},
    io::Errno,
};

use crate::{lock, tree};

/// Of `stat`, whatever the file system.
const BLOCK: u64 = 512;
/// So many directories are open at once on the way down; and as many that lie deeper wait for their turn.
const DEPTH: usize = 256;
/// The most descriptors of a sandbox's processes that are looked at.
const DESCRIPTORS: usize = 100_000;

/// What the directories hold together, in bytes: allocated blocks, or `bytes_per_file` for every file, whichever is more. With
/// them count the removed files that processes of the sandbox with this `lock` keep open. Any sum above `enough` may be told for
/// one that is larger still. Blocks.
pub fn count(directories: &[PathBuf], lock: &Path, bytes_per_file: u64, enough: u64) -> u64 {
    let mut sum = Sum { bytes: 0, files: 0, bytes_per_file, enough };
    for directory in directories {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // One that is not there, as nothing was put into it yet, holds nothing.
        if let Ok(directory) = openat(CWD, directory, flags, Mode::empty()) {
            let mut roots = vec![directory];
            while let Some(root) = roots.pop().filter(|_| !sum.is_enough()) {
                sum.add_below(root, &mut roots);
            }
        }
    }
    if !sum.is_enough() {
        sum.bytes = sum.bytes.saturating_add(removed(lock));
    }
    sum.total()
}

#[derive(Debug)]
struct Sum {
    bytes: u64,
    /// In bytes, so that one of several names counts as its part of a file.
    files: u64,
    bytes_per_file: u64,
    enough: u64,
}

impl Sum {
    fn total(&self) -> u64 {
        self.bytes.max(self.files)
    }

    fn is_enough(&self) -> bool {
        self.total() > self.enough
    }

    /// Adds what is below a directory. Directories that are nested too deeply are added to `later`.
    fn add_below(&mut self, root: OwnedFd, later: &mut Vec<OwnedFd>) {
        let mut levels: Vec<Dir> = Dir::new(root).into_iter().collect();
        while let Some(level) = levels.last_mut() {
            let Some(Ok(entry)) = level.read() else {
                levels.pop();
                continue;
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            // What is gone meanwhile holds nothing.
            let Ok(directory) = level.fd() else { continue };
            let Ok(stat) = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) else { continue };
            self.add(&stat);
            if self.is_enough() {
                return;
            }
            if !is_directory(&stat) {
                continue;
            }
            let Some(below) = list(directory, name) else { continue };
            if levels.len() < DEPTH {
                levels.extend(Dir::new(below));
            } else if later.len() < DEPTH {
                later.push(below);
            } else {
                // Nothing that a build makes is so deep and so wide. Who hides something there gains nothing.
                self.bytes = u64::MAX;
            }
        }
    }

    fn add(&mut self, stat: &Statx) {
        let names = if is_directory(stat) { 1 } else { u64::from(stat.stx_nlink).max(1) };
        self.bytes = self.bytes.saturating_add(stat.stx_blocks.saturating_mul(BLOCK) / names);
        self.files = self.files.saturating_add(self.bytes_per_file / names);
    }
}

fn is_directory(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()).is_dir()
}

/// Opens a directory to list it. One whose owner, who is the daemon's user too, has denied that to himself is opened all the same.
fn list(parent: impl AsFd, name: &CStr) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&parent, name, flags | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => {}
        opened => return opened.ok(),
    }
    let place = openat(&parent, name, flags | OFlags::PATH, Mode::empty()).ok()?;
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let mode = Mode::from_raw_mode(fstat(&place).ok()?.st_mode);
    rustix::fs::chmod(&path, mode | Mode::RWXU).ok()?;
    let opened = openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // It is the same directory, and was just changed.
    let _ = rustix::fs::chmod(&path, mode);
    opened.ok()
}

/// What removed files hold that processes of the sandbox still have open.
fn removed(lock: &Path) -> u64 {
    let Some(keeper) = lock::holder_number(lock) else { return 0 };
    let mut seen = HashSet::new();
    let descriptors = tree::descendants(keeper).into_iter().flat_map(|pid| {
        // Inits, which nobody may look into, have none open.
        fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten()
    });
    descriptors
        .take(DESCRIPTORS)
        .filter_map(|descriptor| Some((fs::metadata(descriptor.path()).ok()?, descriptor.path())))
        .filter(|(file, _)| file.is_file() && file.nlink() == 0)
        .filter(|(_, path)| rustix::fs::statfs(path).is_ok_and(|told| told.f_type != libc::TMPFS_MAGIC))
        .filter(|(file, _)| seen.insert((file.dev(), file.ino())))
        .map(|(file, _)| file.blocks().saturating_mul(BLOCK))
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::symlink};

    use super::*;

    fn held(directory: &Path, bytes_per_file: u64) -> u64 {
        count(&[directory.to_owned()], &directory.join("no-lock"), bytes_per_file, u64::MAX)
    }

    #[test]
    fn blocks_count_and_not_lengths_or_what_links_lead_to() {
        let place = tempfile::tempdir().unwrap();
        let empty = held(place.path(), 0);
        File::create(place.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        symlink("/usr", place.path().join("link")).unwrap();
        symlink(".", place.path().join("ring")).unwrap();
        assert!(held(place.path(), 0) - empty < 1 << 20);
        fs::write(place.path().join("full"), vec![7; 3 << 20]).unwrap();
        let full = held(place.path(), 0);
        assert!((3 << 20..4 << 20).contains(&full), "{full}");
        fs::hard_link(place.path().join("full"), place.path().join("again")).unwrap();
        assert!(held(place.path(), 0).abs_diff(full) <= 4096);
    }

    #[test]
    fn files_count_as_their_share() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..50 {
            File::create(place.path().join(number.to_string())).unwrap();
        }
        assert_eq!(held(place.path(), 1 << 20), 50 << 20);
        let enough = count(&[place.path().to_owned()], place.path(), 1 << 20, 10 << 20);
        assert_eq!(enough, 11 << 20, "counting stops");
    }

    #[test]
    fn nothing_is_hidden_by_depth_or_by_rights() {
        let place = tempfile::tempdir().unwrap();
        let mut at = openat(CWD, place.path(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        // Longer than any path may be.
        for _ in 0..1000 {
            rustix::fs::mkdirat(&at, "directory", Mode::RWXU).unwrap();
            at = openat(&at, "directory", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let deep = File::from(openat(&at, "deep", flags, Mode::RUSR).unwrap());
        std::io::Write::write_all(&mut &deep, &vec![7; 1 << 20]).unwrap();
        rustix::fs::fchmod(&at, Mode::empty()).unwrap();
        let (bytes, mode) = (held(place.path(), 0), fstat(&at).unwrap().st_mode);
        rustix::fs::fchmod(&at, Mode::RWXU).unwrap();
        assert!(bytes >= 1 << 20, "{bytes}");
        assert_eq!(mode & 0o777, 0, "the mode is as it was");
    }
}
