//! Where the groups of this process are: the kernel's two tables, read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CONTROLLERS, MEMORY, PROCESSES, PROCESSOR};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Where this process is in one hierarchy, and which controllers it might use there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub version: Version,
    pub controllers: u32,
    pub directory: PathBuf,
    /// Where the hierarchy is mounted: `directory` or above it.
    pub top: PathBuf,
}

pub(super) fn own() -> Vec<Place> {
    places(&table("/proc/self/cgroup"), &table("/proc/self/mountinfo"))
}

/// One of the kernel's; empty where it has none.
pub(super) fn table(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// In the file system, by cgroups(7) and proc(5).
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
}
