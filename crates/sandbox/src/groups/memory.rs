//! Memory: how much of it a sandbox may use by default, and whether one was killed for it.

use std::{fs, io, os::fd::OwnedFd, path::Path, sync::Arc};

use rustix::fs::{Mode, OFlags};

use super::{
    MEMORY,
    places::{self, Place, Version},
};

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

/// What a sandbox may use that was given no bound: three quarters of what this process may.
pub(super) fn usual(places: &[Place]) -> u64 {
    let memory = places.iter().filter(|place| place.controllers & MEMORY != 0).filter_map(memory_above).min();
    memory.unwrap_or(u64::MAX).min(machine_memory(&places::table("/proc/meminfo"))) / 4 * 3
}

/// The same, for containers: their engine makes the group.
pub fn default_memory() -> u64 {
    usual(&places::own())
}

/// As a container shows it: the directory of the group that bounds its memory.
pub fn of_container() -> Option<OwnedFd> {
    let groups = [("/sys/fs/cgroup", "memory.events"), ("/sys/fs/cgroup/memory", "memory.oom_control")];
    let (group, _) = groups.into_iter().find(|(group, file)| Path::new(group).join(file).exists())?;
    rustix::fs::open(group, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(machine_memory("MemFree: 1 kB\nMemTotal:       24684444 kB\n"), 24_684_444 * 1024);
        assert_eq!(machine_memory("MemTotal: 5 kB\n"), 5120);
        assert_eq!(machine_memory(""), u64::MAX);
    }
}
