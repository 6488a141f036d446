//! The system calls that a confined command may not make: a seccomp filter, set by its init, that every process below inherits.
//!
//! A list of what is denied, not of what is allowed: compilers, interpreters and databases need most of the rest. Denied is what
//! no build or test needs and in which kernels had their holes. Where programs know another way, the call is "not there"
//! (ENOSYS) and they take it.

use std::sync::OnceLock;

use libc::{c_long, sock_filter};

use crate::sys;

/// One instruction for the kernel's filter machine.
const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Offsets in `struct seccomp_data`; of the arguments, the lower halves on a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// This machine's own calling convention; any other (32-bit programs on x86-64, say) has other numbers for the same calls.
#[cfg(target_arch = "x86_64")]
const NATIVE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const NATIVE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const NATIVE: Option<u32> = None;

/// From here on x86-64 counts its x32 convention; no other architecture has so many.
const X32: u32 = 0x4000_0000;

/// Looking into other processes; the kernel's own programs, keys, events and modules; mounts and namespaces; the machine as a
/// whole.
const DENIED: &[c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// Since Linux 6.15; newer calls have one number everywhere.
const OPEN_TREE_ATTR: c_long = 467;

/// Programs do without these where a kernel has none. `clone3` keeps its flags in memory, where no filter sees them.
const ABSENT: &[c_long] =
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_clone3];

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
/// The same bit ends a signal number in `clone`, so that only `unshare` is asked about it.
const NEW_TIME: libc::c_int = 0x80;

/// `RLIMIT_CORE`, everywhere.
const CORE: u32 = 4;

/// Typing for another program into its terminal.
const TERMINAL_INPUT: [u32; 2] = [0x5412, 0x541c];

/// The filter, where this kernel takes one and its calls are known. Made once: the zygote's is everybody's.
pub fn filter() -> Option<&'static [sock_filter]> {
    static FILTER: OnceLock<Option<Vec<sock_filter>>> = OnceLock::new();
    FILTER.get_or_init(|| NATIVE.filter(|_| sys::can_filter_calls()).map(assemble)).as_deref()
}

fn assemble(native: u32) -> Vec<sock_filter> {
    let allow = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(IF_EQUAL, 1, 0, native),
        refuse(libc::ENOSYS),
        instruction(LOAD, 0, 0, NUMBER),
        instruction(IF_AT_LEAST, 0, 1, X32),
        refuse(libc::ENOSYS),
    ];
    on(&mut program, libc::SYS_clone, &no_flags(NAMESPACES));
    on(&mut program, libc::SYS_unshare, &no_flags(NAMESPACES | NEW_TIME));
    on(&mut program, libc::SYS_socket, &sockets());
    on(&mut program, libc::SYS_ioctl, &no_terminal_input());
    on(&mut program, libc::SYS_fcntl, &no_leases());
    on(&mut program, libc::SYS_prlimit64, &same_core_limit(1, Some(2)));
    on(&mut program, libc::SYS_setrlimit, &same_core_limit(0, None));
    for (calls, errno) in [(ABSENT, libc::ENOSYS), (DENIED, libc::EPERM)] {
        for &call in calls {
            program.extend([instruction(IF_EQUAL, 0, 1, number(call)), refuse(errno)]);
        }
    }
    program.push(allow);
    program
}

const fn number(call: c_long) -> u32 {
    // System call numbers are small and positive.
    call as u32
}

const fn refuse(errno: libc::c_int) -> sock_filter {
    instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

const fn argument(index: u32) -> sock_filter {
    instruction(LOAD, 0, 0, ARGUMENTS + 8 * index)
}

/// What is done on one call. `body` returns on every path.
fn on(program: &mut Vec<sock_filter>, call: c_long, body: &[sock_filter]) {
    // Bodies are a few instructions: a jump reaches 255.
    program.push(instruction(IF_EQUAL, 0, body.len() as u8, number(call)));
    program.extend(body);
}

/// Refuses the call when its first argument has one of these bits.
fn no_flags(flags: libc::c_int) -> [sock_filter; 4] {
    [
        argument(0),
        instruction(IF_ANY_BIT, 0, 1, flags.cast_unsigned()),
        refuse(libc::EPERM),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

fn no_terminal_input() -> [sock_filter; 5] {
    let [push, console] = TERMINAL_INPUT;
    [
        argument(1),
        instruction(IF_EQUAL, 1, 0, push),
        instruction(IF_EQUAL, 0, 1, console),
        refuse(libc::EPERM),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Whoever opens a file of the host, which its owner has a lease on, would wait for that one.
fn no_leases() -> [sock_filter; 4] {
    [
        argument(1),
        instruction(IF_EQUAL, 0, 1, libc::F_SETLEASE.unsigned_abs()),
        refuse(libc::EPERM),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Nobody changes what becomes of crashes (see `init`). Programs that want no core, and will not go on without being told so, are
/// told so. The `resource`th argument names the limit; the `value`th is null where it is only asked for.
fn same_core_limit(resource: u32, value: Option<u32>) -> Vec<sock_filter> {
    let done = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO);
    let allow = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let core = instruction(IF_EQUAL, 1, 0, CORE);
    match value {
        None => vec![argument(resource), core, allow, done],
        Some(value) => {
            let upper = instruction(LOAD, 0, 0, ARGUMENTS + 8 * value + 4);
            let null = |yes| instruction(IF_EQUAL, yes, 0, 0);
            // Null is when both halves of it are.
            vec![argument(resource), core, allow, argument(value), null(1), done, upper, null(1), done, allow]
        }
    }
}

/// Unix sockets; of the internet's those that are not raw; the netlink that tells of addresses and routes, which the C library
/// asks. Everything else is a family that this kernel does not know.
fn sockets() -> [sock_filter; 14] {
    const KIND: u32 = 0xf;
    [
        argument(0),
        instruction(IF_EQUAL, 11, 0, libc::AF_UNIX.unsigned_abs()),
        instruction(IF_EQUAL, 4, 0, libc::AF_INET.unsigned_abs()),
        instruction(IF_EQUAL, 3, 0, libc::AF_INET6.unsigned_abs()),
        instruction(IF_EQUAL, 0, 7, libc::AF_NETLINK.unsigned_abs()),
        argument(2),
        instruction(IF_EQUAL, 6, 5, libc::NETLINK_ROUTE.unsigned_abs()),
        // The internet's.
        argument(1),
        instruction(AND, 0, 0, KIND),
        instruction(IF_EQUAL, 1, 0, libc::SOCK_RAW.unsigned_abs()),
        instruction(IF_EQUAL, 0, 2, 10), // SOCK_PACKET
        refuse(libc::EPERM),
        refuse(libc::EAFNOSUPPORT),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: the filter machine, as far as the filter uses it.
    fn answer(architecture: u32, call: u32, arguments: [u32; 3]) -> u32 {
        let program = assemble(NATIVE.unwrap());
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                LOAD => {
                    value = match k {
                        NUMBER => call,
                        ARCHITECTURE => architecture,
                        // Upper halves are zero here.
                        offset if offset % 8 != 0 => 0,
                        offset => arguments[((offset - ARGUMENTS) / 8) as usize],
                    }
                }
                AND => value &= k,
                IF_EQUAL => jump(value == k),
                IF_AT_LEAST => jump(value >= k),
                IF_ANY_BIT => jump(value & k != 0),
                RETURN => return k,
                other => panic!("{other}"),
            }
        }
    }

    fn ask(call: c_long, arguments: [libc::c_int; 3]) -> libc::c_int {
        let answer = answer(NATIVE.unwrap(), number(call), arguments.map(libc::c_int::cast_unsigned));
        if answer == libc::SECCOMP_RET_ALLOW {
            return 0;
        }
        assert_eq!(answer & 0xffff_0000, libc::SECCOMP_RET_ERRNO);
        (answer & 0xffff).cast_signed()
    }

    #[test]
    fn calls_are_answered_by_number() {
        for call in
            [libc::SYS_read, libc::SYS_execve, libc::SYS_wait4, libc::SYS_futex, libc::SYS_prctl, libc::SYS_kill]
        {
            assert_eq!(ask(call, [0; 3]), 0);
        }
        for &call in DENIED {
            assert_eq!(ask(call, [0; 3]), libc::EPERM);
        }
        for &call in ABSENT {
            assert_eq!(ask(call, [0; 3]), libc::ENOSYS);
        }
    }

    #[test]
    fn processes_and_threads_but_no_namespaces() {
        assert_eq!(ask(libc::SYS_clone, [libc::SIGCHLD, 0, 0]), 0);
        assert_eq!(ask(libc::SYS_clone, [libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, 0, 0]), 0);
        assert_eq!(ask(libc::SYS_unshare, [libc::CLONE_FS | libc::CLONE_FILES, 0, 0]), 0);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID] {
            assert_eq!(ask(libc::SYS_clone, [flag | libc::SIGCHLD, 0, 0]), libc::EPERM);
            assert_eq!(ask(libc::SYS_unshare, [flag, 0, 0]), libc::EPERM);
        }
        assert_eq!(ask(libc::SYS_unshare, [NEW_TIME, 0, 0]), libc::EPERM);
    }

    #[test]
    fn plain_sockets_only() {
        let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let socket = |family, kind, protocol| ask(libc::SYS_socket, [family, kind | cloexec, protocol]);
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                assert_eq!(socket(family, kind, 0), 0);
            }
        }
        assert_eq!(socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0), 0);
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert_eq!(socket(family, libc::SOCK_RAW, 1), libc::EPERM);
            assert_eq!(socket(family, 10, 0), libc::EPERM);
        }
        assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE), 0);
        assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT), libc::EAFNOSUPPORT);
        for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK, libc::AF_KEY, 0, -1] {
            assert_eq!(socket(family, libc::SOCK_RAW, 0), libc::EAFNOSUPPORT);
        }
    }

    #[test]
    fn leases_are_refused_and_core_limits_stay() {
        assert_eq!(ask(libc::SYS_fcntl, [0, libc::F_SETFL, 0]), 0);
        assert_eq!(ask(libc::SYS_fcntl, [0, libc::F_SETLEASE, 0]), libc::EPERM);
        let set = |call, arguments: [u32; 3]| answer(NATIVE.unwrap(), number(call), arguments);
        let done = libc::SECCOMP_RET_ERRNO;
        assert_eq!(set(libc::SYS_setrlimit, [CORE, 1, 0]), done);
        assert_eq!(set(libc::SYS_setrlimit, [CORE + 3, 1, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(set(libc::SYS_prlimit64, [0, CORE, 1]), done);
        assert_eq!(set(libc::SYS_prlimit64, [0, CORE, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(set(libc::SYS_prlimit64, [0, CORE + 3, 1]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn terminals_cannot_be_typed_into() {
        assert_eq!(ask(libc::SYS_ioctl, [0, 0x5401, 0]), 0);
        for request in TERMINAL_INPUT {
            assert_eq!(ask(libc::SYS_ioctl, [0, request.cast_signed(), 0]), libc::EPERM);
        }
    }

    #[test]
    fn other_conventions_have_no_calls() {
        let refused = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
        assert_eq!(answer(0x4000_0003, 1, [0; 3]), refused);
        assert_eq!(answer(NATIVE.unwrap(), X32 | 1, [0; 3]), refused);
    }
}
