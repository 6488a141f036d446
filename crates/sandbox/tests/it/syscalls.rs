//! System calls that a confined command may not make, and those it must.

use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixListener},
};

use domain::ports::sandbox::{Confinement, Exit, Sandboxes as _};

use crate::{
    host::{Place, run, sandboxes, sh},
    walls::python,
};

fn filtered() -> bool {
    let wall = sandboxes().probe().walls.into_iter().find(|wall| wall.name == "system calls").unwrap();
    if !wall.stands {
        eprintln!("SKIPPED: {}", wall.note);
    }
    wall.stands
}

/// Calls with arguments that would do something, or fail otherwise, and what each is answered.
#[tokio::test]
async fn what_no_build_needs_is_denied() {
    if !filtered() {
        return;
    }
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    // As root or not, these are the filter's own answers: each call is asked for something that it may do to itself.
    let calls = [
        ("ptrace, PTRACE_TRACEME", libc::SYS_ptrace, "0, 0, 0, 0", libc::EPERM),
        ("process_vm_readv, nothing", libc::SYS_process_vm_readv, "os.getpid(), 0, 0, 0, 0, 0", libc::EPERM),
        ("bpf, a map", libc::SYS_bpf, "0, 0, 0", libc::EPERM),
        ("keyctl, its own keyring", libc::SYS_keyctl, "0, -3, 1, 0, 0", libc::EPERM),
        ("add_key", libc::SYS_add_key, "b'user', b'x', b'y', 1, -3", libc::EPERM),
        ("io_uring_setup", libc::SYS_io_uring_setup, "1, 0", libc::ENOSYS),
        ("userfaultfd, user mode only", libc::SYS_userfaultfd, "1", libc::EPERM),
        ("perf_event_open", libc::SYS_perf_event_open, "0, 0, -1, -1, 0", libc::EPERM),
        ("mount", libc::SYS_mount, "b'x', b'/tmp', b'tmpfs', 0, 0", libc::EPERM),
        ("fsopen", libc::SYS_fsopen, "b'tmpfs', 0", libc::EPERM),
        ("open_tree", libc::SYS_open_tree, "-100, b'/tmp', 0", libc::EPERM),
        ("a user namespace", libc::SYS_unshare, "0x10000000", libc::EPERM),
        ("a user namespace by clone", libc::SYS_clone, "0x10000011, 0, 0, 0, 0", libc::EPERM),
        ("clone3", libc::SYS_clone3, "0, 0", libc::ENOSYS),
        ("setns", libc::SYS_setns, "os.open('/proc/self/ns/uts', 0), 0", libc::EPERM),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, "os.pidfd_open(os.getpid()), 0, 0", libc::EPERM),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, "-100, 0, 0", libc::EPERM),
        ("a raw socket", libc::SYS_socket, "2, 3, 1", libc::EPERM),
        ("a packet socket", libc::SYS_socket, "17, 3, 0", libc::EAFNOSUPPORT),
        ("the kernel's ciphers", libc::SYS_socket, "38, 5, 0", libc::EAFNOSUPPORT),
        ("audit", libc::SYS_socket, "16, 3, 9", libc::EAFNOSUPPORT),
        ("a lease", libc::SYS_fcntl, "os.open('/etc/passwd', 0), 1024, 0", libc::EPERM),
        ("vsock", libc::SYS_socket, "40, 1, 0", libc::EAFNOSUPPORT),
        ("x32", 0x4000_0000 | libc::SYS_getpid, "0", libc::ENOSYS),
    ];
    for (what, call, arguments, errno) in calls {
        let code = format!(
            "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); r = c.syscall({call}, {arguments}); \
             print(r, ctypes.get_errno())"
        );
        assert_eq!(python(&*sandbox, &code).await, format!("-1 {errno}"), "{what}");
    }
}

#[tokio::test]
async fn grandchildren_and_daemons_are_filtered_too() {
    if !filtered() {
        return;
    }
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let script = "(setsid sh -c 'grep -E ^Seccomp: /proc/self/status')";
    assert_eq!(run(&*sandbox, sh(script)).await, (Exit::Code(0), "Seccomp:\t2\n".to_owned()));
}

#[tokio::test]
async fn what_programs_need_works() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let code = "\
import asyncio, multiprocessing, socket, subprocess, threading
threading.Thread(target=lambda: None).start()
assert subprocess.run(['true']).returncode == 0
one, other = socket.socketpair()
server = socket.create_server(('127.0.0.1', 0))
socket.create_connection(server.getsockname()).close()
socket.getaddrinfo('localhost', 80)
socket.if_nameindex()
multiprocessing.get_context('fork').Pool(2).map(abs, [1, 2])
asyncio.run(asyncio.create_subprocess_exec('true'))
print('all')";
    assert_eq!(python(&*sandbox, code).await, "all");
}

#[tokio::test]
async fn abstract_sockets_of_the_host_are_out_of_reach() {
    let name = format!("overnight-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _host = UnixListener::bind_addr(&address).unwrap();
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let code = format!(
        "\
import socket
def reach(name):
    try: socket.socket(socket.AF_UNIX).connect(name); return 'reached'
    except (PermissionError, ConnectionRefusedError): return 'denied'
own = socket.socket(socket.AF_UNIX); own.bind('\\0own-{name}'); own.listen()
print(reach('\\0{name}'), reach('\\0own-{name}'))"
    );
    assert_eq!(python(&*sandbox, &code).await, "denied reached");
}

/// What the rules might break: every way of writing where writing is allowed.
#[tokio::test]
async fn files_are_made_moved_linked_and_cut_where_they_may_be() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let script = "set -e; for d in /workspace ~ /tmp /dev/shm /run; do cd $d; mkdir -p a/b c; echo xyz > a/f; mv a/f c/g; \
                  ln c/g a/h; ln -s h a/i; truncate -s 1 a/i; mkfifo a/p; mv a/b c/; rm -r a c; done; \
                  cd /workspace; echo 1 > x; mv x /tmp/x; mv /tmp/x ~/x; echo 2 > /dev/null; echo 3 > /dev/stderr; echo done";
    let (exit, printed) = run(&*sandbox, sh(script)).await;
    assert_eq!((exit, printed.as_str()), (Exit::Code(0), "3\ndone\n"));
}
