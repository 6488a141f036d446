//! The system calls that have no safe wrapper elsewhere. The only file of the project with `unsafe`.
#![expect(unsafe_code, reason = "raw system calls; each block says why it is sound")]

use std::{
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
};

use rustix::process::Pid;
use tokio::io::{Interest, unix::AsyncFd};

/// Forks with `clone` flags (`CLONE_NEW*`). `None` in the child. Only for a process with one thread: the child goes on with
/// a copy of this one's memory and may then do whatever its parent could.
pub fn fork(flags: libc::c_int) -> io::Result<Option<Pid>> {
    // SAFETY: a null stack and no CLONE_VM make this a fork: the child has its own copy of the address space, and as the
    // caller has one thread, no lock in it is held by a thread that does not exist in the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) };
    match pid {
        0 => Ok(None),
        _ if pid > 0 => Ok(Pid::from_raw(i32::try_from(pid).unwrap_or(0))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Kills every process of this PID namespace but its init; the caller must be that init.
pub fn kill_namespace() {
    // SAFETY: `kill` touches no memory. It fails only when there is nothing to kill.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Blocks SIGCHLD and SIGTERM and makes them readable instead.
pub fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by `sigemptyset` before use and outlives the calls; the returned descriptor is ours alone.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Does something with no signal blocked, as a process that is started inherits what its parent blocks. A SIGCHLD of the
/// meantime is lost: look for ended children afterwards.
pub fn with_signals_open<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are initialised before they are read and outlive the calls, which touch nothing else.
    unsafe {
        let (mut none, mut before): (libc::sigset_t, libc::sigset_t) = (mem::zeroed(), mem::zeroed());
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, &raw mut before);
        let done = act();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        done
    }
}

/// Has a command lead a session of its own, whose terminal is what it has on standard input.
pub fn lead_terminal_session(command: &mut Command) {
    let lead = || {
        rustix::process::setsid()?;
        Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
    };
    // SAFETY: between fork and exec this makes two system calls, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(lead) };
}

/// Takes the pending signals from a [`signal_fd`]. Whether SIGTERM was among them.
pub fn drain_signals(fd: &OwnedFd) -> bool {
    const SIZE: usize = mem::size_of::<libc::signalfd_siginfo>();
    let mut terminated = false;
    let mut buffer = [0u8; SIZE];
    while rustix::io::read(fd, &mut buffer) == Ok(SIZE) {
        // `ssi_signo` is the first field, a native u32.
        terminated |= buffer[..4] == (libc::SIGTERM as u32).to_ne_bytes();
    }
    terminated
}

/// Closes what the daemon was started with beyond the three standard descriptors, and forgets which signals it was told to
/// ignore: neither is for commands. A broken pipe stays an error here.
pub fn start_afresh() -> io::Result<()> {
    for signal in (1..32).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: the default disposition installs no handler. SIGKILL and SIGSTOP have no other, and fail.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: called at the start of `main`, when nothing of this process owns a descriptor above the standard ones.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes every capability out of the bounding set, so that no exec can gain one, not even of user 0.
pub fn empty_bounding_set() {
    for capability in 0..64 {
        // SAFETY: `prctl` with PR_CAPBSET_DROP takes integers only. It fails on numbers this kernel does not know.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
}

/// Leaves the session keyring of whoever started the daemon.
pub fn leave_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for a new anonymous keyring. A kernel without keyrings has none to leave.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0, 0, 0, 0) };
}

/// Gives up all supplementary groups; needs CAP_SETGID.
pub fn drop_groups() {
    // SAFETY: a length of zero reads nothing through the pointer.
    unsafe { libc::setgroups(0, ptr::null()) };
}

/// Whether the kernel can answer a system call with an error by a filter.
pub fn can_filter_calls() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: `action` is the integer that is read, and lives through the call.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Has the kernel ask this filter before every system call of this thread and all that come from it, for good.
pub fn filter_calls(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` tells the length of its instructions, which live through the call and are only read.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Of the interface; negative where the kernel has none.
pub fn landlock_version() -> i64 {
    const VERSION: libc::c_long = 1;
    // SAFETY: with this flag nothing is read through the pointer, which is null.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0, VERSION) }
}

/// Rules that deny these rights on files wherever they are not allowed, and talking to what is outside (`scoped`).
pub fn landlock_rules(files: u64, scoped: u64) -> io::Result<OwnedFd> {
    // `struct landlock_ruleset_attr`: files, network, scopes. Older kernels know a shorter one.
    let attr = [files, 0, scoped];
    let size = if scoped == 0 { mem::size_of::<u64>() } else { mem::size_of_val(&attr) };
    // SAFETY: `attr` lives through the call and is as long as its size tells; the returned descriptor is ours alone.
    unsafe {
        match libc::syscall(libc::SYS_landlock_create_ruleset, attr.as_ptr(), size, 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?)),
        }
    }
}

/// Allows these rights on a directory and all below it.
pub fn landlock_allow(rules: &OwnedFd, files: u64, below: &OwnedFd) -> io::Result<()> {
    const PATH_BENEATH: libc::c_long = 1;
    // `struct landlock_path_beneath_attr`, which is packed: rights, directory.
    let mut attr = [0; 12];
    attr[..8].copy_from_slice(&files.to_ne_bytes());
    attr[8..].copy_from_slice(&below.as_raw_fd().to_ne_bytes());
    // SAFETY: `attr` is as long as the kernel's structure of this kind, lives through the call and is only read.
    match unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), PATH_BENEATH, attr.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts this thread and all that come from it under the rules, for good.
pub fn landlock_restrict(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes integers only.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Brings up the loopback device of this process's network namespace, with its addresses.
pub fn bring_up_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `ifreq` is plain data, for which zeroes are a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: `request` names a device, ends with a zero, and lives through the call, which only reads it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets `MOUNT_ATTR_*` flags on a mount.
pub fn set_mount_attributes(mount: impl AsFd, attributes: u64, recursive: libc::c_int) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is an empty C string, `attr` lives through the call and its size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attr,
            mem::size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has tokio watch a descriptor. Must be called within its runtime.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor, always the same, until it is dropped together with the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
