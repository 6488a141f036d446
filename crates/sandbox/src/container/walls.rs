//! What stands around a container's commands, for `doctor`.

use bollard::models::SystemInfo;
use domain::{Fault, ports::sandbox::Wall};

use crate::groups;

/// After a trial: what the keeper told of its walls, and what the engine says of its own.
pub fn walls(engine: &str, told: u32, info: &SystemInfo) -> Vec<Wall> {
    let wall = |name: &str, stands: bool, with: &str, without: &str| Wall {
        name: name.to_owned(),
        stands,
        note: if stands { with } else { without }.to_owned(),
    };
    let always = |name, note| wall(name, true, note, "");
    let limited = |name, can: Option<bool>, with| {
        let without =
            "not limited: this engine cannot; a rootless one needs control groups of version 2, delegated to it";
        wall(name, can == Some(true), with, without)
    };
    let raised = |bit| told & bit != 0;
    vec![
        always("container", engine),
        always("files", "only the workspace, HOME and what a task is shown of the host; the image is read-only"),
        always("processes", "no process outside of the sandbox is seen; those of its commands see each other"),
        always("network", "a loopback of its own, from which only what Overnight serves is reached"),
        always("privileges", "no capability, none gained by exec"),
        wall(
            "system calls",
            raised(groups::SYSTEM_CALLS),
            "no tracing, mounts, namespaces, keys, io_uring, bpf, raw sockets and the like (seccomp)",
            "the engine's own filter only: ours needs a kernel with seccomp filters, on x86-64 or ARM64",
        ),
        wall(
            "files, again",
            raised(groups::FILES_TWICE),
            "nothing outside of what a sandbox may write can be written, whatever is mounted (landlock)",
            "no second wall: needs landlock, Linux 6.2 or later",
        ),
        limited("process count", info.pids_limit, "limited for each sandbox (control group)"),
        limited("memory", info.memory_limit, "limited for each sandbox; what exceeds it is killed (control group)"),
        limited("processor time", info.cpu_cfs_quota, "limited for a sandbox that is given a limit (control group)"),
        always("disk", "looked at about once a second while commands run; who holds more than the quota is ended"),
        wall("layers", false, "", "every workspace is a copy: an engine cannot be given our overlays"),
    ]
}

/// The one wall to tell of where no container could be had.
pub fn none(fault: &Fault) -> Vec<Wall> {
    let hint = fault.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    vec![Wall { name: "container".to_owned(), stands: false, note: format!("{fault}{hint}") }]
}
