//! The lock file of a sandbox: locked for as long as a process tree of it lives, and telling who holds it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use domain::Fault;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Opens the lock file and takes it together with the sandbox's other process trees. The lock lasts until every copy of the
/// descriptor is closed.
pub fn share(path: &Path) -> Result<OwnedFd, Fault> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(file.into()),
        Err(Errno::WOULDBLOCK) => Err(Fault::transient(format!(
            "the sandbox of {} is being cleared of an earlier life's processes",
            path.display()
        ))),
        Err(errno) => Err(unusable(path, &errno.into())),
    }
}

/// The same for the one keeper of a confined sandbox, which lets no other in: the kernel would mount one upper directory twice.
/// Blocks up to `patience` until the one before is gone.
pub fn own(path: &Path, patience: Duration) -> Result<OwnedFd, Fault> {
    let file = open(path)?;
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if holder(&file).is_none() => return Ok(file.into()),
            Ok(()) => {
                // It has let go, and the kernel has not killed the last of its namespace yet.
                flock(&file, FlockOperation::Unlock).map_err(|errno| unusable(path, &errno.into()))?;
            }
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(unusable(path, &errno.into())),
        }
        if begun.elapsed() >= patience {
            return Err(Fault::transient(format!("another sandbox is at work in the workspace of {}", path.display()))
                .hint("it is free once the turn, or the person's shell, has ended"));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn open(path: &Path) -> Result<File, Fault> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> Fault {
    Fault::environment(format!("cannot use the sandbox's lock file {}: {error}", path.display()))
        .hint("make sure that Overnight's home can be written to")
}

/// Writes who holds the lock: a process by its name in `/proc`, with its number on the host and the time it started, in clock
/// ticks since boot.
pub fn write_holder(lock: &OwnedFd, process: &str) -> io::Result<()> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let pid = stat.split(' ').next().unwrap_or_default();
    let holder = format!("{pid} {}\n", start_time(&stat).unwrap_or_default());
    rustix::fs::ftruncate(lock, 0)?;
    rustix::io::pwrite(lock, holder.as_bytes(), 0)?;
    Ok(())
}

/// Field 22 of `/proc/<pid>/stat`.
fn start_time(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)
}

/// The number on the host of the keeper that holds the lock, if one does.
pub fn holder_number(path: &Path) -> Option<Pid> {
    Some(holder(&File::open(path).ok()?)?.0)
}

/// The process that wrote itself into the lock file, if it still is the same one and not a zombie.
fn holder(lock: &File) -> Option<(Pid, OwnedFd)> {
    let mut told = [0; 64];
    let length = lock.read_at(&mut told, 0).ok()?;
    let (pid, start) = std::str::from_utf8(&told[..length]).ok()?.trim_end().split_once(' ')?;
    let number = Pid::from_raw(pid.parse().ok()?)?;
    let open = pidfd_open(number, PidfdFlags::empty()).ok()?;
    let mut stat = String::new();
    File::open(format!("/proc/{pid}/stat")).ok()?.read_to_string(&mut stat).ok()?;
    let dead = stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X']));
    (!dead && start_time(&stat) == Some(start)).then_some((number, open))
}

/// The process that holds a lock at some moment: known, it can be waited for without harm to whoever takes the lock next.
#[derive(Debug)]
pub struct Holder(OwnedFd);

impl Holder {
    pub fn of(path: &Path) -> Option<Self> {
        Some(Self(holder(&File::open(path).ok()?)?.1))
    }

    /// Blocks until it is gone, and with it all of the PID namespace that it is the first of; kills it halfway to the deadline.
    pub fn wait_gone(&self, deadline: Duration) -> Result<(), Fault> {
        for signal in [Some(Signal::KILL), None] {
            let mut process = [PollFd::new(&self.0, PollFlags::IN)];
            let patience = Timespec::try_from(deadline / 2).ok();
            if matches!(poll(&mut process, patience.as_ref()), Ok(ended) if ended > 0) {
                return Ok(());
            }
            if let Some(signal) = signal {
                // One that is gone by now is what was asked for.
                let _ = pidfd_send_signal(&self.0, signal);
            }
        }
        Err(Fault::environment(format!("the first process of a sandbox still runs {deadline:?} after it was let go")))
    }
}

/// Blocks until no process tree holds the lock, asking them to end first, and killing them halfway to the deadline.
pub fn wait_free(path: &Path, deadline: Duration) -> Result<(), Fault> {
    let lock = match File::open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Fault::environment(format!("cannot open the sandbox's lock file {}: {error}", path.display())));
        }
    };
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    let mut asked = false;
    loop {
        let free = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        // A holder that was killed lets go of the lock a moment before the kernel has killed the last of its namespace; it is
        // gone itself only after that.
        let alive = holder(&lock);
        if free {
            if alive.is_none() {
                return Ok(());
            }
            // Its closing is the unlock; take no lock while it may be waited for.
            let _ = flock(&lock, FlockOperation::Unlock);
        }
        if let Some((_, alive)) = alive {
            let signal =
                if begun.elapsed() * 2 > deadline { Some(Signal::KILL) } else { (!asked).then_some(Signal::TERM) };
            asked = true;
            if let Some(signal) = signal {
                // One that is gone by now is what was asked for.
                let _ = pidfd_send_signal(&alive, signal);
            }
        }
        if begun.elapsed() >= deadline {
            return Err(Fault::environment(format!(
                "processes of an earlier life still run in the sandbox of {} after {deadline:?}",
                path.display()
            ))
            .hint(format!("find them with `fuser -v {}` and end them", path.display())));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
