//! The second wall for files, and for Unix sockets with abstract names, which belong to a network (landlock(7)).
//!
//! The keeper makes the rules once, in the sandbox's own root; each init applies them, as the kernel lets nobody under such rules
//! mount the process table that a command gets. Sockets with abstract names therefore join processes of one command only.

use std::{io, os::fd::OwnedFd};

use domain::ports::sandbox::{HOME_DIR, WORKSPACE_DIR};
use rustix::fs::{Mode, OFlags};

use crate::sys;

/// Where commands may write: all that is mounted so, and the devices.
const WRITABLE: [&str; 5] = [WORKSPACE_DIR, HOME_DIR, "/tmp", "/dev", "/run"];

/// Writing (bit 1), removing and making of every kind (4 to 12), linking and renaming to elsewhere (13), truncating (14).
const WRITE: u64 = 1 << 1 | ((1 << 9) - 1) << 4 | 1 << 13 | 1 << 14;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET.
const ABSTRACT_SOCKETS: u64 = 1;
/// LANDLOCK_SCOPE_SIGNAL.
const SIGNALS: u64 = 2;

/// The first versions of the kernel's interface that know renaming and truncating, and scopes.
const FILES: i64 = 3;
const SCOPES: i64 = 6;

/// What a command sees of processes that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    Unseen,
    /// Those of the sandbox's other commands. They may not be signaled.
    Neighbours,
}

/// For the root that this process is in. `None` where the kernel has no landlock, or one that would forbid renaming.
pub fn rules(outside: Outside) -> io::Result<Option<OwnedFd>> {
    let version = sys::landlock_version();
    if version < FILES {
        return Ok(None);
    }
    let scoped = match outside {
        _ if version < SCOPES => 0,
        Outside::Unseen => ABSTRACT_SOCKETS,
        Outside::Neighbours => ABSTRACT_SOCKETS | SIGNALS,
    };
    let rules = sys::landlock_rules(WRITE, scoped)?;
    for path in WRITABLE {
        let below = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::landlock_allow(&rules, WRITE, &below)?;
    }
    Ok(Some(rules))
}
