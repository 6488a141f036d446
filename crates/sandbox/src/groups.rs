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
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    process::Pid,
};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// Where this process is in one hierarchy, and which controllers it might use there.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    version: Version,
    controllers: u32,
    directory: PathBuf,
    /// Where the hierarchy is mounted: `directory` or above it.
    top: PathBuf,
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

/// What a sandbox's group tells of its memory: whether some of its processes were killed for it since this was made.
#[derive(Debug)]
pub struct Memory {
    group: Arc<OwnedFd>,
    killed: u64,
}

impl Memory {
    /// From the directory of the group. `None` where the kernel does not count.
    pub fn watch(group: &Arc<OwnedFd>) -> Option<Self> {
        Some(Self { group: group.clone(), killed: killed(group)? })
    }

    /// One line to tell so.
    pub fn exhausted(&self) -> Option<String> {
        killed(&self.group).filter(|now| *now > self.killed)?;
        let limit = ["memory.max", "memory.limit_in_bytes"].into_iter().find_map(|file| content(&self.group, file));
        let limit: u64 = limit?.trim().parse().ok()?;
        let gibibytes = limit as f64 / f64::from(1 << 30);
        Some(format!(
            "\n[a process was killed: all that runs in the sandbox may use {gibibytes:.1} GiB of memory together]\n"
        ))
    }
}

/// How many processes of the group the kernel has killed for its memory.
fn killed(group: &OwnedFd) -> Option<u64> {
    let counts = ["memory.events", "memory.oom_control"].into_iter().find_map(|file| content(group, file))?;
    counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()
}

fn content(group: &OwnedFd, file: &str) -> Option<String> {
    let file = rustix::fs::openat(group, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    io::read_to_string(fs::File::from(file)).ok()
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
        let places = own_places();
        let memory = usual_memory(&places);
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

fn own_places() -> Vec<Place> {
    places(&table("/proc/self/cgroup"), &table("/proc/self/mountinfo"))
}

fn table(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What a sandbox may use that was given no bound: three quarters of what this process may.
fn usual_memory(places: &[Place]) -> u64 {
    let memory = places.iter().filter(|place| place.controllers & MEMORY != 0).filter_map(memory_above).min();
    memory.unwrap_or(u64::MAX).min(machine_memory(&table("/proc/meminfo"))) / 4 * 3
}

/// The same, for containers: their engine makes the group.
pub fn default_memory() -> u64 {
    usual_memory(&own_places())
}

/// As a container shows it: the directory of the group that bounds its memory.
pub fn of_container() -> Option<OwnedFd> {
    let groups = [("/sys/fs/cgroup", "memory.events"), ("/sys/fs/cgroup/memory", "memory.oom_control")];
    let (group, _) = groups.into_iter().find(|(group, file)| Path::new(group).join(file).exists())?;
    rustix::fs::open(group, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
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

/// The bound that this process is under itself, in bytes.
fn memory_above(place: &Place) -> Option<u64> {
    let file = if place.version == Version::One { "memory.limit_in_bytes" } else { "memory.max" };
    let groups = place.directory.ancestors().take_while(|group| group.starts_with(&place.top));
    groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn machine_memory(table: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: Option<u64> = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
    kibibytes.map_or(u64::MAX, |kibibytes| kibibytes * 1024)
}

/// Where the groups of this process are in the file system, from the kernel's two tables (cgroups(7), proc(5)).
fn places(groups: &str, mounts: &str) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut found = 0;
    // Version 1 first: a controller is in one hierarchy only, and version 2 tells itself what it has.
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let has = |name: &str| names.split(',').any(|one| one == name);
        let controllers = CONTROLLERS.iter().filter(|(name, _)| has(name)).fold(0, |all, (_, bit)| all | bit);
        if controllers == 0 {
            continue;
        }
        found |= controllers;
        let mounted = |kind: &str, options: &str| {
            kind == "cgroup" && names.split(',').all(|name| options.split(',').any(|one| one == name))
        };
        places.extend(place(Version::One, controllers, path, mounts, mounted));
    }
    if let Some(path) = groups.lines().find_map(|line| line.strip_prefix("0::")) {
        let rest = (MEMORY | PROCESSES | PROCESSOR) & !found;
        let unified = place(Version::Two, rest, path, mounts, |kind, _| kind == "cgroup2");
        places.extend(unified.filter(|_| rest != 0));
    }
    places
}

fn place(
    version: Version,
    controllers: u32,
    path: &str,
    mounts: &str,
    mounted: impl Fn(&str, &str) -> bool,
) -> Option<Place> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let kind = right.next()?;
        if !mounted(kind, right.nth(1).unwrap_or_default()) {
            return None;
        }
        let mut left = left.split(' ').skip(3);
        let (root, top) = (left.next()?, PathBuf::from(left.next()?));
        // In a container the mount may show only the container's own part of the hierarchy.
        let below = Path::new(path).strip_prefix(root).ok()?;
        let directory = if below == Path::new("") { top.clone() } else { top.join(below) };
        Some(Place { version, controllers, directory, top })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: Version, controllers: u32, directory: &str, top: &str) -> Place {
        Place { version, controllers, directory: directory.into(), top: top.into() }
    }

    #[test]
    fn groups_are_found_in_the_unified_hierarchy() {
        let groups = "0::/user.slice/user-1000.slice/user@1000.service/run-7.scope\n";
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let directory = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/run-7.scope";
        let all = MEMORY | PROCESSES | PROCESSOR;
        assert_eq!(places(groups, mounts), [at(Version::Two, all, directory, "/sys/fs/cgroup")]);
    }

    #[test]
    fn groups_are_found_in_separate_and_shared_hierarchies() {
        let groups = "9:name=systemd:/\n8:pids:/a\n4:memory:/docker/7/b\n1:cpu,cpuacct:/\n0::/\n";
        let mounts = "\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            31 31 0:29 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
            35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let expected = [
            at(Version::One, PROCESSES, "/sys/fs/cgroup/pids/a", "/sys/fs/cgroup/pids"),
            at(Version::One, MEMORY, "/sys/fs/cgroup/memory/b", "/sys/fs/cgroup/memory"),
            at(Version::One, PROCESSOR, "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
        ];
        assert_eq!(places(groups, mounts), expected);
    }

    #[test]
    fn a_machine_without_groups_has_no_places() {
        assert_eq!(places("", ""), []);
        assert_eq!(places("4:memory:/x\n0::/\n", "1 1 0:1 / / rw - ext4 /dev/vda rw\n"), []);
    }

    #[test]
    fn only_its_own_directories_are_swept() {
        assert!(is_ours("overnight-sandboxes-12-345"));
        for name in ["overnight-daemon", "overnight-sandboxes-12", "overnight-sandboxes-12-", "overnight-12-1", "x-1-2"]
        {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(machine_memory("MemFree: 1 kB\nMemTotal:       24684444 kB\n"), 24_684_444 * 1024);
        assert_eq!(machine_memory("MemTotal: 5 kB\n"), 5120);
        assert_eq!(machine_memory(""), u64::MAX);
    }
}
