//! Removing what an agent made: nested deeper than a stack or the descriptors of a process go, longer than any path, and locked.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use domain::Fault;
use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, chmod, fchmod, fstat, openat, renameat, unlinkat},
    io::Errno,
    path::Arg,
};

use crate::git::io_fault;

/// Removes a directory and everything in it, unlocking directories that their owner has locked; or a file. Nothing there: nothing
/// to do. No process may write there any more.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Fault> {
    let removed = match unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::ISDIR) => open(CWD, path).and_then(|top| empty(&top)).and_then(|()| {
            unlinkat(CWD, path, AtFlags::REMOVEDIR)?;
            Ok(())
        }),
        other => other.map_err(io::Error::from),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_fault("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Removes what is in a directory. Directories two levels down are moved up, and are emptied in their turn: so no more than two
/// are open, however deep they lie.
fn empty(top: &OwnedFd) -> io::Result<()> {
    let mut number = 0_u64;
    loop {
        let mut directories = 0_u64;
        for entry in Dir::read_from(top)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_gone(top, name)? {
                continue;
            }
            directories += 1;
            let below = open(top, name)?;
            for entry in Dir::read_from(&below)? {
                let entry = entry?;
                if !is_gone(&below, entry.file_name())? {
                    move_up(&below, entry.file_name(), top, &mut number)?;
                }
            }
            unlinkat(top, name, AtFlags::REMOVEDIR)?;
        }
        // Whether those that were moved up meanwhile were read is for the file system to say.
        if directories == 0 {
            return Ok(());
        }
    }
}

/// Whether a name is gone now: `false` for a directory that is not empty.
fn is_gone(directory: &OwnedFd, name: &CStr) -> io::Result<bool> {
    if matches!(name.to_bytes(), b"." | b"..") {
        return Ok(true);
    }
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => match unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => Ok(false),
            removed => Ok(removed.map(|()| true)?),
        },
        removed => Ok(removed.map(|()| true)?),
    }
}

fn move_up(from: &OwnedFd, name: &CStr, top: &OwnedFd, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        match renameat(from, name, top, format!("up-{number}")) {
            // The name is taken. An empty directory of this name may go.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            // Where a directory lies stands in it: to move it is to write to it.
            Err(Errno::ACCESS) => drop(open(from, name)?),
            moved => return Ok(moved?),
        }
    }
}

/// Opens a directory to read and to write in it, also one whose owner has denied that to himself.
fn open<P: Arg + Copy>(parent: impl AsFd, name: P) -> io::Result<OwnedFd> {
    let open =
        |access| openat(&parent, name, access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let directory = match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let place = open(OFlags::PATH)?;
            chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU)?;
            open(OFlags::RDONLY)?
        }
        opened => opened?,
    };
    if !Mode::from_raw_mode(fstat(&directory)?.st_mode).contains(Mode::RWXU) {
        fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use rustix::fs::mkdirat;

    use super::*;

    /// With a call for each level, [`STACK`] would not do.
    const DEEP: usize = 4_000;
    const STACK: usize = 128 << 10;

    #[test]
    fn what_is_nested_without_end_goes() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("wide/up-1/kept-open")).unwrap();
        fs::write(tree.join("up-2"), "taken").unwrap();
        let mut at = open(CWD, &tree).unwrap();
        for _ in 0..DEEP {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open(&at, "d").unwrap();
        }
        let remove = move || remove_tree(&tree).unwrap();
        std::thread::Builder::new().stack_size(STACK).spawn(remove).unwrap().join().unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_locked_goes_and_what_links_lead_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let (tree, other) = (place.path().join("tree"), place.path().join("other"));
        fs::create_dir_all(tree.join("a/b/c/d")).unwrap();
        fs::create_dir_all(other.join("kept")).unwrap();
        symlink(&other, tree.join("a/link")).unwrap();
        for (directory, mode) in [("a/b/c/d", 0), ("a/b/c", 0o500), ("a/b", 0), ("a", 0o300)] {
            fs::set_permissions(tree.join(directory), Permissions::from_mode(mode)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && other.join("kept").exists());
        symlink(&other, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(fs::symlink_metadata(&tree).is_err() && other.join("kept").exists());
        remove_tree(&tree).unwrap();
    }
}
