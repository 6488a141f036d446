//! System calls that have been ways out of sandboxes.
//!
//! Each is made raw, with arguments that it would do something with. `answers` has plain processes make it first: what they are
//! answered must differ from what the sandbox answers, or the case would show nothing. Where plain processes may not do it
//! either (an ordinary user, an older kernel), that is said.

use crate::world::World;

const CALL: &str = r"
import ctypes, os, signal, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    made = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return 'done' if made >= 0 else os.strerror(ctypes.get_errno())
";

const DENIED: &str = "Operation not permitted";
const ABSENT: &str = "Function not implemented";
const UNKNOWN: &str = "Address family not supported by protocol";

/// `code`: expressions of what is answered, each of which must be `expected`, and something else for plain processes.
async fn answers(code: &str, expected: &str) {
    let world = World::new().await;
    if !world.stands("system calls") {
        return;
    }
    let code = format!("{CALL}\nprint(*({code},), sep='\\n')");
    let (plain, confined) = (world.plain().await.python(&code).await, world.attempt(1).await.python(&code).await);
    if plain.lines().any(|line| line == expected) {
        eprintln!(
            "SKIPPED: a control, as this user on this kernel is answered `{expected}` without a sandbox: {plain}"
        );
    }
    assert!(!confined.is_empty() && confined.lines().all(|line| line == expected), "{confined} plain: {plain}");
}

#[tokio::test]
async fn a_file_system_is_mounted() {
    // Where nothing is, so that plain processes come to no harm: theirs is not found.
    answers("call(165, b'tmpfs', b'/none', b'tmpfs', 0, 0), call(166, b'/none', 0)", DENIED).await;
}

#[tokio::test]
async fn a_file_system_is_mounted_by_the_newer_calls() {
    answers("call(430, b'tmpfs', 0), call(428, -100, b'/tmp', 1), call(433, -100, b'/', 0)", DENIED).await;
}

#[tokio::test]
async fn a_veil_is_taken_away() {
    let world = World::new().await;
    let script = "umount /etc/shadow; umount -l /proc; umount /workspace; mount -o remount,rw /usr; mount -o remount,rw /; \
                  mount --move /workspace /tmp; echo tried";
    let attempt = world.attempt(1).await;
    // Veils over other tests' places go with these.
    let mounts = "cut -d' ' -f4-6 /proc/self/mountinfo | grep -v ' /opt/overnight-'";
    let before = attempt.sh(mounts).await;
    assert!(attempt.sh(script).await.ends_with("tried\n"));
    assert_eq!(attempt.sh(mounts).await, before);
}

#[tokio::test]
async fn the_root_is_changed() {
    answers("call(155, b'.', b'.')", DENIED).await;
    // It has no capability for this one, which no filter is needed for.
    let (_, confined) = World::new().await.tried(&format!("python3 -c \"{CALL}\nprint(call(161, b'/'))\"")).await;
    assert_eq!(confined.trim(), DENIED);
}

#[tokio::test]
async fn a_process_is_traced() {
    answers("call(101, 0, 0, 0, 0)", DENIED).await;
    answers("[call(101, 16, pid, 0, 0) for pid in [os.posix_spawn('/bin/sleep', ['sleep', '1'], {})]][0]", DENIED)
        .await;
}

#[tokio::test]
async fn memory_of_a_process_is_read_and_written() {
    answers("call(310, os.getpid(), 0, 0, 0, 0, 0), call(311, os.getpid(), 0, 0, 0, 0, 0)", DENIED).await;
}

#[tokio::test]
async fn a_descriptor_is_taken_from_a_process() {
    answers("call(438, os.pidfd_open(os.getpid()), 0, 0)", DENIED).await;
}

#[tokio::test]
async fn a_program_is_loaded_into_the_kernel() {
    answers("call(321, 0, struct.pack('IIIIIIII', 2, 4, 4, 1, 0, 0, 0, 0), 32)", DENIED).await;
}

#[tokio::test]
async fn io_uring_does_what_calls_may_not() {
    answers("call(425, 1, bytes(120)), call(426, 0, 0, 0, 0, 0, 0), call(427, 0, 0, 0, 0)", ABSENT).await;
}

#[tokio::test]
async fn keyrings_of_the_user_are_read_and_written() {
    answers(
        "call(250, 0, -3, 1, 0, 0), call(248, b'user', b'x', b'y', 1, -3), call(249, b'user', b'x', b'y', -3)",
        DENIED,
    )
    .await;
}

#[tokio::test]
async fn a_page_fault_is_held_up_in_user_space() {
    answers("call(323, 1)", DENIED).await;
}

#[tokio::test]
async fn events_of_the_machine_are_watched() {
    answers("call(298, bytes(120), 0, -1, -1, 0), call(300, 0, 0)", DENIED).await;
}

#[tokio::test]
async fn a_user_namespace_is_made_with_all_powers_in_it() {
    answers("call(272, 0x10000000)", DENIED).await;
    answers("call(56, 0x10000011, 0, 0, 0, 0) if os.getpid() else ''", DENIED).await;
    answers("call(435, 0, 0)", ABSENT).await;
}

#[tokio::test]
async fn other_namespaces_are_made() {
    answers(
        "*[call(272, f) for f in [0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x80]]",
        DENIED,
    )
    .await;
}

#[tokio::test]
async fn another_namespace_is_entered() {
    answers("call(308, os.open('/proc/self/ns/uts', 0), 0)", DENIED).await;
}

#[tokio::test]
async fn a_file_is_opened_by_its_handle() {
    answers("call(304, -100, struct.pack('II', 0, 1), 0)", DENIED).await;
}

#[tokio::test]
async fn the_kernel_is_replaced() {
    // As no test may do it to the machine, arguments that come to nothing: plain processes are told so, or lack the power.
    answers("call(246, 0, 0, 0, 1 << 40), call(320, -1, -1, 0, 0, 1 << 40)", DENIED).await;
    answers("call(175, 0, 0, 0), call(313, -1, 0, 0), call(176, 0, 0)", DENIED).await;
}

#[tokio::test]
async fn the_machine_is_stopped_or_renamed() {
    answers("call(169, 0, 0, 0, 0)", DENIED).await;
    answers("call(170, 0, 1), call(171, 0, 1), call(227, 0, 0), call(164, 1, 1)", DENIED).await;
    answers("call(167, b'/none', 0), call(168, b'/none'), call(163, b'/none')", DENIED).await;
}

#[tokio::test]
async fn the_kernels_log_is_read() {
    answers("call(103, 10, 0, 0)", DENIED).await;
}

#[tokio::test]
async fn a_terminal_is_typed_into() {
    answers("[call(16, a, 0x5412, b'x') for a, b in [os.openpty()]][0]", DENIED).await;
    // The upper half of the request is not looked at by the kernel, nor may the filter be misled by it.
    answers("[call(16, a, 0x5412 | 1 << 32, b'x') for a, b in [os.openpty()]][0]", DENIED).await;
}

#[tokio::test]
async fn sockets_of_other_families_are_made() {
    // Packet, the kernel's ciphers, vsock, bluetooth, key management, Xen's own, TIPC, RDS.
    let families = "[(17, 3), (38, 5), (40, 1), (31, 3), (15, 3), (30, 1), (21, 5), (44, 3)]";
    answers(&format!("*[call(41, family, kind, 0) for family, kind in {families}]"), UNKNOWN).await;
    // Netlink but for routes: audit, crypto, netfilter, uevents.
    answers("*[call(41, 16, 3, protocol) for protocol in [9, 21, 12, 15]]", UNKNOWN).await;
}

#[tokio::test]
async fn raw_sockets_are_made() {
    answers("call(41, 2, 3, 1), call(41, 10, 3, 58), call(41, 2, 10, 0x300)", DENIED).await;
}

#[tokio::test]
async fn calls_are_made_by_another_convention() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED: only x86-64 has these conventions");
        return;
    }
    answers("call(0x40000000 | 39)", ABSENT).await;
    // `int 0x80` has other numbers: 20 is getpid, 26 ptrace. -38: not there.
    let machine_code = r"(lambda m: (m.write(bytes([0xb8]) + struct.pack('i', 26) + b'\x31\xdb\x31\xc9\x31\xd2\x31\xf6\xcd\x80\xc3'), ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))())[1])(__import__('mmap').mmap(-1, 4096, prot=7))";
    answers(machine_code, "-38").await;
}

#[tokio::test]
async fn the_filter_is_taken_off() {
    let world = World::new().await;
    if !world.stands("system calls") {
        return;
    }
    // A filter of one's own that allows all comes on top, and takes nothing away.
    let code = format!(
        "{CALL}\nallow = struct.pack('HBBI', 6, 0, 0, 0x7fff0000); keep = ctypes.create_string_buffer(allow)\n\
         program = struct.pack('HxxxxxxQ', 1, ctypes.addressof(keep))\n\
         print(libc.prctl(38, 0, 0, 0, 0), libc.prctl(21, 0), libc.prctl(22, 2, program), call(101, 0, 0, 0, 0))"
    );
    let printed = world.attempt(1).await.python(&code).await;
    assert_eq!(printed, format!("-1 2 0 {DENIED}\n"));
}

#[tokio::test]
async fn powers_are_regained_by_executing_a_setuid_program() {
    let world = World::new().await;
    let script = "for p in su sudo mount passwd newgrp chsh ping fusermount3 pkexec; do f=$(command -v $p) && test -u $f && echo $f; done; \
                  python3 -c 'import os; os.setuid(1)' 2>&1 | tail -n 1; python3 -c 'import os; os.setgroups([1])' 2>&1 | tail -n 1; grep CapBnd /proc/self/status";
    let printed = world.attempt(1).await.sh(script).await;
    // Mounts are nosuid, so that the mark on a file means nothing; and there is nothing left to gain.
    assert_eq!(printed.matches("Error").count(), 2, "{printed}");
    assert!(printed.contains("CapBnd:\t0000000000000000"), "{printed}");
    let options = world.attempt(1).await.sh("cut -d' ' -f5,6 /proc/self/mountinfo").await;
    for line in options.lines() {
        assert!(line.contains("nosuid"), "{line}");
    }
}

#[tokio::test]
async fn a_lease_holds_up_whoever_opens_a_file_of_the_host() {
    answers("call(72, os.open('file.txt', os.O_RDONLY), 1024, 0)", DENIED).await;
}

#[tokio::test]
async fn the_clock_and_priorities_of_the_machine_are_changed() {
    // To times that there are not and by ticks of no length, so that a plain process changes nothing: its values are wrong.
    let time = "struct.pack('qq', 0, 1 << 40)";
    let ticks = "ctypes.create_string_buffer(struct.pack('I', 0x4000), 208)";
    answers(&format!("call(164, {time}, 0), call(227, 0, {time}), call(159, {ticks}), call(305, 0, {ticks})"), DENIED)
        .await;
    // Before all others, in real time, and first on every disk; a plain process does this to itself alone.
    answers("call(144, 0, 1, struct.pack('i', 50))", DENIED).await;
    answers("call(251, 1, 0, 1 << 13)", DENIED).await;
    answers("call(141, 0, 0, -20)", "Permission denied").await;
}
