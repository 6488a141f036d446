//! Everything a daemon starts, told apart by a control group where the machine lets us make one, else by descent.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::LOOK_AGAIN;

/// Where a group is made, and the file with its processor time: version 2, then version 1.
const PLACES: [(&str, &str); 2] = [("/sys/fs/cgroup", "cpu.stat"), ("/sys/fs/cgroup/cpuacct", "cpuacct.usage")];

/// How often a group is looked at before it is left behind.
const LAST_LOOKS: usize = 100;

#[derive(Debug)]
pub struct Group {
    /// The directory and its file with the processor time.
    place: Option<(PathBuf, &'static str)>,
    enter: String,
}

impl Group {
    pub(super) fn make() -> Result<Self> {
        let name = format!("overnight-{}-{:x}", std::process::id(), super::nanos());
        for (parent, time) in PLACES {
            let directory = Path::new(parent).join(&name);
            if fs::create_dir(&directory).is_err() {
                continue;
            }
            if directory.join("cgroup.procs").exists() && directory.join(time).exists() {
                let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", directory.display());
                return Ok(Self { place: Some((directory, time)), enter });
            }
            fs::remove_dir(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        Ok(Self { place: None, enter: "exec \"$@\"".to_owned() })
    }

    /// For `sh -c`: joins, then becomes the program.
    pub(super) fn enter(&self) -> &str {
        &self.enter
    }

    /// How processor time is told, for the report.
    pub fn is_exact(&self) -> bool {
        self.place.is_some()
    }

    /// Processes that live now; `root` is the daemon.
    pub fn processes(&self, root: u32) -> Vec<u32> {
        match &self.place {
            Some((directory, _)) => members(directory),
            None => descendants(root),
        }
    }

    /// Proportional set size of all of them, in bytes.
    pub fn memory(&self, root: u32) -> u64 {
        self.processes(root).into_iter().map(memory).sum()
    }

    /// Processor time of all that ever were in the group; without one, of those that live and what they waited for.
    pub fn processor_time(&self, root: u32) -> Duration {
        let Some((directory, file)) = &self.place else {
            return descendants(root).into_iter().map(processor_time).sum();
        };
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        match text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            Some(micros) => Duration::from_micros(micros.trim().parse().unwrap_or(0)),
            None => Duration::from_nanos(text.trim().parse().unwrap_or(0)),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some((directory, _)) = &self.place else { return };
        // Refused while a process is still on its way out; an empty group that stays costs nothing.
        for _ in 0..LAST_LOOKS {
            if fs::remove_dir(directory).is_ok() {
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Processes of a group and of those that were made below it.
fn members(directory: &Path) -> Vec<u32> {
    let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
    let below = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    found.extend(below.filter(|path| path.is_dir()).flat_map(|path| members(&path)));
    found
}

/// Proportional set size of one process in bytes; 0 once it is gone.
fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Fields of `/proc/PID/stat` after the name, which may hold anything.
fn stat(pid: u32) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect()
}

fn processor_time(pid: u32) -> Duration {
    // utime, stime, cutime, cstime, in hundredths of a second on every Linux.
    let ticks: u64 = stat(pid).get(11..15).unwrap_or_default().iter().sum();
    Duration::from_millis(ticks * 10)
}

fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return vec![root] };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = stat(pid).get(1).and_then(|parent| u32::try_from(*parent).ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found
}
