//! Signals, sockets and other ways of speaking with processes outside.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    process::{Child, Command, Stdio},
};

use crate::world::{World, printed};

/// A process of the host's that must not be reached.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_process_of_the_host_is_killed() {
    let world = World::new().await;
    let mut victim = Victim::new();
    let script = format!(
        "kill -9 {0}; kill -9 -- -{0}; python3 -c 'import os, signal; signal.pidfd_send_signal(os.pidfd_open({0}), 9)'; echo tried",
        victim.0.id()
    );
    let printed = world.attempt(1).await.sh(&script).await;
    assert!(printed.ends_with("tried\n") && victim.lives(), "{printed}");
    world.plain().await.sh(&script).await;
    while victim.lives() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everybody_is_killed() {
    let world = World::new().await;
    let mut victim = Victim::new();
    let (attempt, other) = (world.attempt(1).await, world.attempt(2).await);
    let mut neighbour =
        other.start(&["sh", "-c", "echo up; until test -e go; do sleep 0.01; done; echo unharmed"]).await;
    printed(&mut *neighbour, "up").await;
    let script = "kill -9 -1; kill -9 0 1; for n in $(seq 1 400); do kill -9 $n; done; for n in $(seq 1 200); do kill -STOP -- -$n; done";
    attempt.sh(script).await;
    assert!(victim.lives());
    other.sh("touch go").await;
    printed(&mut *neighbour, "unharmed").await;
    assert_eq!(attempt.sh("echo again").await, "again\n");
}

#[tokio::test]
async fn the_daemon_is_signaled_by_an_owned_descriptor() {
    // F_SETOWN has the kernel send the signal; so has a timer, and a message queue.
    let world = World::new().await;
    let victim = Victim::new();
    let host = victim.0.id();
    let code = format!(
        "import fcntl, os, socket\na, b = socket.socketpair()\n\
         try:\n fcntl.fcntl(a, fcntl.F_SETOWN, {host}); fcntl.fcntl(a, 10, 9); fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK); b.send(b'x'); print('set')\n\
         except OSError as error: print(error.strerror)"
    );
    assert_eq!(world.attempt(1).await.python(&code).await, "No such process\n");
    let mut victim = victim;
    assert!(victim.lives());
}

#[tokio::test]
async fn an_abstract_socket_of_the_host_is_connected_to() {
    let world = World::new().await;
    let name = format!("escape-{}", world.canary);
    let _host = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let code = format!("import socket; print(socket.socket(socket.AF_UNIX).connect_ex('\\0{name}'))");
    assert_eq!(world.plain().await.python(&code).await, "0\n");
    assert_ne!(world.attempt(1).await.python(&code).await, "0\n");
}

#[tokio::test]
async fn an_abstract_socket_is_offered_to_the_host() {
    let world = World::new().await;
    let name = format!("offer-{}", world.canary);
    let code = format!(
        "import socket, sys\ns = socket.socket(socket.AF_UNIX); s.bind('\\0{name}'); s.listen(); print('listens', flush=True); sys.stdin.read(); import time; time.sleep(30)"
    );
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let attempt = world.attempt(1).await;
    let mut server = attempt.start(&["/usr/bin/python3", "-c", &code]).await;
    printed(&mut *server, "listens").await;
    assert!(std::os::unix::net::UnixStream::connect_addr(&address).is_err());
    let plain = world.plain().await;
    let mut server = plain.start(&["/usr/bin/python3", "-c", &code]).await;
    printed(&mut *server, "listens").await;
    assert!(std::os::unix::net::UnixStream::connect_addr(&address).is_ok());
}

#[tokio::test]
async fn two_attempts_pass_descriptors_to_each_other() {
    let world = World::new().await;
    let (attempt, other) = (world.attempt(1).await, world.attempt(2).await);
    let serve = "import socket, time\ns = socket.socket(socket.AF_UNIX); s.bind('\\0meeting'); s.listen(); t = socket.create_server(('127.0.0.1', 4711)); \
                 print('listens', flush=True); time.sleep(50)";
    let mut server = other.start(&["/usr/bin/python3", "-c", serve]).await;
    printed(&mut *server, "listens").await;
    let meet = "import socket\nprint(socket.socket(socket.AF_UNIX).connect_ex('\\0meeting') == 0, socket.socket().connect_ex(('127.0.0.1', 4711)) == 0)";
    assert_eq!(attempt.python(meet).await, "False False\n");
    // Another command of the same sandbox meets it by the network, at least.
    assert!(other.python(meet).await.ends_with("True\n"));
}

#[tokio::test]
async fn shared_memory_of_the_host_is_attached() {
    let world = World::new().await;
    let make = "import ctypes; l = ctypes.CDLL(None); print(l.shmget(0x0EC0DE, 4096, 0o1666))";
    let find = "import ctypes; l = ctypes.CDLL(None); print(l.shmget(0x0EC0DE, 4096, 0o666) >= 0)";
    let plain = world.plain().await;
    let id = plain.python(make).await;
    let (outside, inside) = (plain.python(find).await, world.attempt(1).await.python(find).await);
    plain.python(&format!("import ctypes; ctypes.CDLL(None).shmctl({}, 0, 0)", id.trim())).await;
    assert_eq!((outside.as_str(), inside.as_str()), ("True\n", "False\n"));
}

#[tokio::test]
async fn terminals_of_the_host_are_written_to() {
    let world = World::new().await;
    // Holds a terminal of the host for as long as it runs.
    let hold = "import os, time; a, b = os.openpty(); print('holds', os.ttyname(b), flush=True); time.sleep(50)";
    let plain = world.plain().await;
    let mut holder = plain.start(&["/usr/bin/python3", "-c", hold]).await;
    printed(&mut *holder, "/dev/pts/").await;
    let list = "ls /dev/pts | grep -c '^[0-9]'";
    assert_ne!(plain.sh(list).await, "0\n");
    let script = format!("{list}; echo x > /dev/tty; echo x > /dev/console; echo x > /dev/tty1; echo tried");
    let printed = world.attempt(1).await.sh(&script).await;
    assert!(printed.starts_with("0\n") && printed.ends_with("tried\n"), "{printed}");
}

#[tokio::test]
async fn a_daemonised_child_outlives_its_sandbox() {
    let world = World::new().await;
    let attempt = world.attempt(1).await;
    let mark = format!("77{}", std::process::id());
    let script = format!(
        "for n in 1 2 3 4 5; do (setsid sh -c 'trap \"\" TERM INT HUP QUIT; (setsid sleep {mark} &) ; sleep {mark}' &) ; done; sleep 0.1; echo left"
    );
    assert!(attempt.sh(&script).await.ends_with("left\n"));
    let alive = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter(|entry| {
                std::fs::read(entry.path().join("cmdline"))
                    .is_ok_and(|line| line == format!("sleep\0{mark}\0").as_bytes())
            })
            .count()
    };
    // Daemons may outlive a command: that is what services are made of.
    attempt.sandbox.kill().await;
    assert_eq!(alive(), 0);
}
