//! Control groups: what bounds all processes of a sandbox together, however many it starts.
//!
//! The zygote makes one directory below its own group, in each hierarchy that has one of the controllers (version 2, or the
//! separate ones of version 1), and in it a group for each keeper. Moving a process costs the kernel up to 15 ms, so nobody
//! waits for it: the zygote moves itself into the group of the next keeper ahead of time, and the keeper is born there. A
//! keeper's group goes when the keeper has gone; what a killed zygote left behind is removed by the next one. Where no group
//! can be made, sandboxes run without.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    process::Pid,
};

mod memory;
mod places;

pub use memory::{Memory, default_memory, of_container};
use places::{Place, Version};

/// What bounds a sandbox, as a set; told to the daemon.
pub const MEMORY: u32 = 1;
pub const PROCESSES: u32 = 2;
pub const PROCESSOR: u32 = 4;
/// Not by a group, but by the filter of `syscalls`.
pub const SYSTEM_CALLS: u32 = 8;
/// By `landlock`.
pub const FILES_TWICE: u32 = 16;
/// How much processor time there is, besides how it is shared.
pub const PROCESSOR_TIME: u32 = 32;

/// How each controller is called, in both versions.
const CONTROLLERS: [(&str, u32); 3] = [("memory", MEMORY), ("pids", PROCESSES), ("cpu", PROCESSOR)];
/// The directories of this program: followed by the process that made them.
const PREFIX: &str = "overnight-sandboxes-";
/// Where the daemon itself lives in version 2, whose groups hold either processes or further groups.
const DAEMON: &str = "overnight-daemon";
/// Over which processor time is counted, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;
/// How long the kernel may take to let the last process of a group go.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bounds of one sandbox. Zero is the default of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub memory: u64,
    pub processes: u64,
    /// In hundredths of one processor.
    pub processor: u32,
}

/// This zygote's directory in one hierarchy.
#[derive(Debug)]
struct Hierarchy {
    version: Version,
    controllers: u32,
    directory: PathBuf,
    /// The group that the zygote was started in.
    origin: PathBuf,
    /// Held locked by the zygote and its keepers: who can take it finds a directory left behind.
    #[expect(dead_code, reason = "it is held, not read")]
    lock: OwnedFd,
}

#[derive(Debug)]
pub struct Groups {
    hierarchies: Vec<Hierarchy>,
    /// What a sandbox may use that was given no bound: three quarters of what this process may.
    memory: u64,
    made: u64,
    /// Where this process is: the next keeper's.
    next: Vec<Part>,
}

/// A group in one hierarchy.
#[derive(Debug)]
struct Part {
    version: Version,
    controllers: u32,
    directory: PathBuf,
}

impl Groups {
    /// Finds out by doing what can be bounded here.
    pub fn find() -> Self {
        let places = places::own();
        let memory = memory::usual(&places);
        let hierarchies = places.into_iter().filter_map(|place| Hierarchy::make(&place)).collect();
        let mut groups = Self { hierarchies, memory, made: 0, next: Vec::new() };
        groups.advance();
        groups
    }

    /// Makes the group of a further keeper and moves this process there, as far as that can be done.
    pub fn advance(&mut self) {
        self.made += 1;
        let name = self.name();
        self.next = self.hierarchies.iter().filter_map(|hierarchy| hierarchy.enter(&name)).collect();
    }

    /// What the group is called that this process is in.
    pub fn name(&self) -> String {
        self.made.to_string()
    }

    /// Sets the bounds of the group that this process is in. What it is bounded in.
    pub fn bound(&self, bounds: Bounds) -> u32 {
        let memory = if bounds.memory == 0 { self.memory } else { bounds.memory };
        let bounds = Bounds { memory, ..bounds };
        self.next.iter().fold(0, |all, part| all | bound(&part.directory, part.version, part.controllers, bounds))
    }

    /// The directory of the group that bounds this process's memory, to be read by the daemon.
    pub fn memory(&self) -> Option<OwnedFd> {
        let part = self.next.iter().find(|part| part.controllers & MEMORY != 0)?;
        rustix::fs::open(&part.directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Removes a group whose keeper has gone. `false` where processes of it are left.
    pub fn remove(&self, name: &str) -> bool {
        // Every one is tried, whatever became of those before.
        self.hierarchies
            .iter()
            .map(|hierarchy| remove(&hierarchy.directory.join(name)))
            .fold(true, |all, one| all & one)
    }

    /// Removes everything, waiting for keepers that are ending.
    pub fn bury(self) {
        let begun = Instant::now();
        for hierarchy in &self.hierarchies {
            // Where this fails, the next zygote sweeps.
            drop(fs::write(hierarchy.origin.join("cgroup.procs"), "0"));
        }
        let directories: Vec<PathBuf> = self.hierarchies.into_iter().map(|hierarchy| hierarchy.directory).collect();
        while !directories.iter().map(|directory| remove_all(directory)).fold(true, |all, one| all & one) {
            if begun.elapsed() > PATIENCE {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Hierarchy {
    /// `None` where this process may not make groups, or none of the controllers works in them.
    fn make(place: &Place) -> Option<Self> {
        let own = if place.directory.ends_with(DAEMON) { place.directory.parent()? } else { &place.directory };
        sweep(own);
        let pid = rustix::process::getpid().as_raw_nonzero();
        let directory = own.join(format!("{PREFIX}{pid}-{}", now()));
        fs::create_dir(&directory).ok()?;
        let controllers = Self::try_out(place, own, &directory);
        let lock = rustix::fs::open(&directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        match lock {
            Ok(lock) if controllers != 0 && flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() => {
                let moved = own.join(DAEMON);
                let inside = |group: &Path| {
                    let me = rustix::process::getpid().as_raw_pid().to_string();
                    fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| pids.lines().any(|pid| pid == me))
                };
                let origin =
                    if place.version == Version::Two && inside(&moved) { moved } else { place.directory.clone() };
                Some(Self { version: place.version, controllers, directory, origin, lock })
            }
            _ => {
                remove(&directory);
                None
            }
        }
    }

    /// Which bounds can really be written below `directory`.
    fn try_out(place: &Place, own: &Path, directory: &Path) -> u32 {
        if place.version == Version::Two {
            for group in [own, directory] {
                delegate(group, place.controllers);
            }
        } else if place.controllers & PROCESSOR != 0 {
            // As much as all cores' worth of single processes beside it; by default it would be as much as one.
            let cores = thread::available_parallelism().map_or(1, usize::from);
            drop(set(directory, "cpu.shares", 1024 * cores as u64));
        }
        let trial = directory.join("trial");
        if fs::create_dir(&trial).is_err() {
            return 0;
        }
        let bounds = Bounds { memory: 1 << 30, processes: 64, processor: 100 };
        let bounded = bound(&trial, place.version, place.controllers, bounds);
        remove(&trial);
        bounded
    }

    fn enter(&self, name: &str) -> Option<Part> {
        let directory = self.directory.join(name);
        fs::create_dir(&directory).ok()?;
        if fs::write(directory.join("cgroup.procs"), "0").is_err() {
            remove(&directory);
            return None;
        }
        Some(Part { version: self.version, controllers: self.controllers, directory })
    }
}

fn set(group: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    // Never made where it is missing: these are the kernel's.
    io::Write::write_all(&mut fs::OpenOptions::new().write(true).open(group.join(file))?, value.to_string().as_bytes())
}

/// Writes the bounds of a group; those that hold.
fn bound(group: &Path, version: Version, controllers: u32, bounds: Bounds) -> u32 {
    let mut bounded = controllers & PROCESSOR;
    if bounded != 0 {
        // Sandboxes share what they get equally, by the kernel's own default: only that the controller is there is asked.
        let file = if version == Version::One { "cpu.shares" } else { "cpu.weight" };
        bounded = if group.join(file).exists() { PROCESSOR } else { 0 };
    }
    if bounded != 0 && bounds.processor != 0 {
        // In microseconds, of which the kernel wants a thousand at least.
        let time = u64::from(bounds.processor) * PERIOD / 100;
        let done = match version {
            Version::One => set(group, "cpu.cfs_period_us", PERIOD).and_then(|()| set(group, "cpu.cfs_quota_us", time)),
            Version::Two => set(group, "cpu.max", format!("{time} {PERIOD}")),
        };
        bounded |= if done.is_ok() { PROCESSOR_TIME } else { 0 };
    }
    if controllers & MEMORY != 0 {
        // The second is about swap, which not every kernel accounts for.
        let (memory, swap, most) = match version {
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bounds.memory),
            Version::Two => ("memory.max", "memory.swap.max", 0),
        };
        if set(group, memory, bounds.memory).is_ok() {
            drop(set(group, swap, most));
            bounded |= MEMORY;
        }
    }
    if controllers & PROCESSES != 0 && bounds.processes != 0 && set(group, "pids.max", bounds.processes).is_ok() {
        bounded |= PROCESSES;
    }
    bounded
}

/// Hands controllers down to the groups below (version 2). A group that does so may hold no process itself: where only this
/// process and the daemon are in it, they go to one of their own.
fn delegate(group: &Path, controllers: u32) {
    let hand_down = |name: &str| fs::write(group.join("cgroup.subtree_control"), format!("+{name}"));
    for (name, _) in CONTROLLERS.iter().filter(|(_, bit)| controllers & bit != 0) {
        let Err(error) = hand_down(name) else { continue };
        if error.raw_os_error() != Some(libc::EBUSY) || !make_room(group) {
            return;
        }
        // The trial tells.
        drop(hand_down(name));
    }
}

fn make_room(group: &Path) -> bool {
    let ours = [Some(rustix::process::getpid()), rustix::process::getppid()].map(|pid| pid.map(Pid::as_raw_pid));
    let Ok(inside) = fs::read_to_string(group.join("cgroup.procs")) else { return false };
    let inside: Vec<Option<i32>> = inside.lines().map(|pid| pid.parse().ok()).collect();
    if !inside.iter().all(|pid| ours.contains(pid)) {
        return false;
    }
    let room = group.join(DAEMON);
    let made = fs::create_dir(&room);
    if made.is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        return false;
    }
    inside.iter().flatten().all(|pid| fs::write(room.join("cgroup.procs"), pid.to_string()).is_ok())
}

/// Removes what zygotes that were killed have left in this group.
fn sweep(own: &Path) {
    let Ok(entries) = fs::read_dir(own) else { return };
    for entry in entries.flatten().filter(|entry| is_ours(&entry.file_name().to_string_lossy())) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(directory) = rustix::fs::open(entry.path(), flags, Mode::empty()) else { continue };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_all(&entry.path());
        }
    }
}

/// `overnight-sandboxes-PID-TIME`.
fn is_ours(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(pid, time)| number(pid) && number(time))
}

/// Nanoseconds: tells apart two processes that had the same number.
fn now() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos())
}

/// A group and those in it. `false` where a process is left in one.
fn remove_all(group: &Path) -> bool {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    remove(group)
}

/// One group without further ones. `false` where a process is left in it.
fn remove(group: &Path) -> bool {
    let gone = |done: io::Result<()>| match done {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if gone(fs::remove_dir(group)) {
        return true;
    }
    // Its keeper is gone: nobody else looks after what is left. Only version 2 has this file.
    drop(set(group, "cgroup.kill", 1));
    gone(fs::remove_dir(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_directories_are_swept() {
        assert!(is_ours("overnight-sandboxes-12-345"));
        for name in ["overnight-daemon", "overnight-sandboxes-12", "overnight-sandboxes-12-", "overnight-12-1", "x-1-2"]
        {
            assert!(!is_ours(name), "{name}");
        }
    }
}
