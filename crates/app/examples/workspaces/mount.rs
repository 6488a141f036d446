//! The mount alone: an overlay over two large layers, in a user namespace of its own as a sandbox makes it, and as root makes it in the
//! host's; in a process of its own, as a process with threads cannot enter a user namespace.

use std::{fs, path::Path, process::Command, time::Instant};

use rustix::{
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
        fsopen,
    },
    thread::UnshareFlags,
};

use crate::{milliseconds, tell};

pub const ARGUMENT: &str = "measure-mount";
const MOUNTS: usize = 200;

pub fn run(directory: &Path) {
    let program = std::env::current_exe().unwrap();
    let done = Command::new(program).arg(ARGUMENT).arg(directory).status().unwrap();
    assert!(done.success());
}

pub fn measure(directory: &Path) {
    if rustix::process::getuid().is_root() {
        mounts("mount_root_ms", directory);
    }
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    // The process has one thread.
    #[expect(unsafe_code, reason = "rustix marks unsharing as unsafe for the sake of processes with threads")]
    // SAFETY: this process has one thread and shares no file descriptor table.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }.unwrap();
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).unwrap();
    mounts("mount_user_ms", directory);
}

fn mounts(key: &str, directory: &Path) {
    let lower = format!("{}:{}", directory.join("caches").display(), directory.join("large").display());
    // Unmounting is not measured.
    let mut mounted = Vec::new();
    for nth in 0..MOUNTS {
        let own = directory.join(format!("mounts/{key}-{nth}"));
        let (upper, work) = (own.join("upper"), own.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let since = Instant::now();
        let overlay = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&overlay, c"lowerdir", lower.as_str()).unwrap();
        fsconfig_set_string(&overlay, c"upperdir", &*upper).unwrap();
        fsconfig_set_string(&overlay, c"workdir", &*work).unwrap();
        fsconfig_set_flag(&overlay, c"userxattr").unwrap();
        fsconfig_set_flag(&overlay, c"volatile").unwrap();
        fsconfig_create(&overlay).unwrap();
        mounted.push(fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV).unwrap());
        tell(key, milliseconds(since));
    }
}
