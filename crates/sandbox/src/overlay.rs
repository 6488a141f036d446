//! Overlay file systems: immutable directories under a writable one. Every directory is named by descriptor, as a path could be
//! led elsewhere by a link that an agent left.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use domain::ports::sandbox::Layers;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, chmodat, openat, unlinkat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
        fsopen,
    },
};

/// The longest text that the kernel takes as one value of a mount, without its closing zero.
const LONGEST: usize = 255;

/// What overlayfs leaves in its work directory while a volatile one is mounted, innermost first.
const MARKER: [(&str, AtFlags); 3] = [
    ("work/incompat/volatile/dirty", AtFlags::empty()),
    ("work/incompat/volatile", AtFlags::REMOVEDIR),
    ("work/incompat", AtFlags::REMOVEDIR),
];

/// Mounts layers, attached nowhere yet.
pub fn layers(layers: &Layers, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let open = |path: &Path| open_directory(CWD, path);
    let lower = layers.lower.iter().map(|layer| open(layer)).collect::<Result<Vec<_>, _>>()?;
    mount(&lower, &open(&layers.upper)?, &open(&layers.work)?, attributes)
}

/// Mounts directories, the topmost of the lower ones first, attached nowhere yet.
///
/// Volatile: nothing is synced when it goes, which would cost up to a second. The kernel refuses to mount such an overlay again
/// unless it is told that nothing was lost; and nothing was, but for a power cut, after which every file without an fsync is as
/// uncertain in any other directory.
pub fn mount(lower: &[OwnedFd], upper: &OwnedFd, work: &OwnedFd, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    forget(work)?;
    let overlay = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let named = |directory: &OwnedFd| format!("/proc/self/fd/{}", directory.as_raw_fd());
    let all = lower.iter().map(named).collect::<Vec<_>>().join(":");
    if all.len() <= LONGEST {
        fsconfig_set_string(&overlay, c"lowerdir", all)?;
    } else {
        // One by one since Linux 6.5.
        for layer in lower {
            fsconfig_set_string(&overlay, c"lowerdir+", named(layer))?;
        }
    }
    fsconfig_set_string(&overlay, c"upperdir", named(upper))?;
    fsconfig_set_string(&overlay, c"workdir", named(work))?;
    // Whatever the kernel was built with: an upper that came to lie over other layers must not be refused.
    fsconfig_set_string(&overlay, c"index", c"off")?;
    fsconfig_set_flag(&overlay, c"userxattr")?;
    fsconfig_set_flag(&overlay, c"volatile")?;
    fsconfig_create(&overlay)?;
    let mounted = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // At once, to spare the blocks of its directories.
    forget(work)?;
    // Overlayfs makes it nobody's; whoever removes the workspace, without privileges maybe, must get in.
    chmodat(work, "work", Mode::RWXU, AtFlags::empty())?;
    Ok(mounted)
}

/// Removes the marker of an earlier mount.
fn forget(work: &OwnedFd) -> io::Result<()> {
    for (path, flags) in MARKER {
        match unlinkat(work, path, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

pub fn open_directory(directory: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(directory, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
