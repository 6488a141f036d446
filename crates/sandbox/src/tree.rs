//! What descends from a process; killing all that descends from this one, and waiting until it is gone.

use std::{collections::HashMap, fs, iter};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions},
};

use crate::sys;

/// How this process tells its descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They are all others of its PID namespace.
    Namespace,
    /// It adopts orphans, so that they are its children's children, and so on.
    Descendants,
}

/// Returns when no descendant is left.
pub fn end(scope: Scope) {
    loop {
        match scope {
            Scope::Namespace => sys::kill_namespace(),
            Scope::Descendants => kill_descendants(),
        }
        // One that is waited for blocks; those that ended with it do not need another round of killing.
        let mut options = WaitOptions::empty();
        loop {
            match rustix::process::wait(options) {
                Ok(Some(_)) => options = WaitOptions::NOHANG,
                Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn kill_descendants() {
    for pid in descendants(rustix::process::getpid()) {
        // It may be gone by now; the next round looks again.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// All processes that come from this one, as far as they are seen here.
pub fn descendants(of: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let parents: HashMap<i32, i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let comes_from = |pid: i32| {
        let above = iter::successors(Some(pid), |pid| parents.get(pid).copied());
        // Bounded, as the numbers were read one by one and may form a ring by reuse.
        above.skip(1).take(parents.len()).any(|above| above == of.as_raw_pid())
    };
    parents.keys().copied().filter(|pid| comes_from(*pid)).filter_map(Pid::from_raw).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the parent may hold spaces and parentheses; the last one closes it.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
