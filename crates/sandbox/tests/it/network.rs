//! The network of a sandbox: a loopback of its own, and doors in it.

use std::{
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::{
    FaultClass,
    ports::sandbox::{Bridge, Confinement, Door, Exit, Network, Sandbox, Sandboxes as _},
};
use tokio::{io::AsyncWriteExt, sync::mpsc};

use crate::{
    host::{BOTH, LONG, Place, exec, printed, run, sandboxes, sh},
    walls::python,
};

/// Greets everybody who comes in. Tells when it stops.
struct Greeter {
    served: AtomicUsize,
    stopped: mpsc::UnboundedSender<()>,
}

impl Door for Greeter {
    fn serve(&self, listener: TcpListener) {
        let time = self.served.fetch_add(1, Ordering::SeqCst) + 1;
        let stopped = self.stopped.clone();
        tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(format!("hello {time}\n").as_bytes()).await.unwrap();
            }
            stopped.send(()).unwrap();
        });
    }
}

async fn with_door(place: &Place, port: u16) -> (Arc<dyn Sandbox>, mpsc::UnboundedReceiver<()>) {
    let (stopped, stops) = mpsc::unbounded_channel();
    let door = Arc::new(Greeter { served: AtomicUsize::new(0), stopped });
    let mut spec = place.spec(Confinement::Confined);
    spec.network = Network::Own(vec![Bridge { port, door }]);
    (sandboxes().open(spec).await.unwrap(), stops)
}

const VISIT: &str = "\
import socket, sys
for host in ['127.0.0.1', '::1', 'localhost', socket.gethostname()]:
    print(socket.create_connection((host, 80)).makefile().readline().strip())";

#[tokio::test(flavor = "multi_thread")]
async fn a_door_is_served_each_time_the_sandbox_lives() {
    let place = Place::new();
    let (sandbox, mut stops) = with_door(&place, 80).await;
    assert_eq!(python(&*sandbox, VISIT).await, "hello 1\n".repeat(4).trim());
    sandbox.kill().await;
    // The door stands, but nobody comes that way any more.
    stops.recv().await.unwrap();
    assert_eq!(python(&*sandbox, VISIT).await, "hello 2\n".repeat(4).trim());
    drop(sandbox);
    stops.recv().await.unwrap();
}

#[tokio::test]
async fn a_door_cannot_be_taken_over() {
    let place = Place::new();
    let (sandbox, _stops) = with_door(&place, 8080).await;
    let code = "\
import errno, socket
for family, host in [(socket.AF_INET, '127.0.0.1'), (socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::1'), (socket.AF_INET6, '::')]:
    for option in [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT]:
        own = socket.socket(family)
        if option: own.setsockopt(socket.SOL_SOCKET, option, 1)
        try: own.bind((host, 8080)); own.listen(); print('taken', host, option)
        except OSError as error: assert error.errno == errno.EADDRINUSE, error
print('shut')";
    assert_eq!(python(&*sandbox, code).await, "shut");
}

#[tokio::test]
async fn nothing_else_is_reached() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let (tcp, udp) = (host.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    // Which address leads out does not matter: no device does.
    let code = format!(
        "\
import socket
def reach(kind, *address):
    family = socket.AF_INET6 if ':' in address[0] else socket.AF_INET
    own = socket.socket(family, kind); own.settimeout(5)
    try: own.connect(address); own.send(b'x'); return 'reached'
    except OSError as error: return error.strerror
print(reach(socket.SOCK_STREAM, '127.0.0.1', {tcp}), reach(socket.SOCK_STREAM, '::1', {tcp}), sep=', ')
reach(socket.SOCK_DGRAM, '127.0.0.1', {udp})
for address in ['169.254.169.254', '10.0.0.1', '1.1.1.1', '2606:4700::1111', 'fe80::1', 'ff02::1', '224.0.0.1', '255.255.255.255']:
    print(reach(socket.SOCK_STREAM, address, 80), reach(socket.SOCK_DGRAM, address, 53), sep=', ')
try: print(socket.getaddrinfo('example.com', 80))
except OSError: print('no name')
print(socket.if_nameindex())"
    );
    let printed = python(&*sandbox, &code).await;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "Connection refused, Connection refused");
    assert!(!printed.contains("reached"), "{printed}");
    assert_eq!(lines[9..], ["no name", "[(1, 'lo')]"]);
    assert_eq!(datagrams.recv(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn two_sandboxes_do_not_meet() {
    let (one, two) = (Place::new(), Place::new());
    let first = one.open(Confinement::Confined).await;
    let second = two.open(Confinement::Confined).await;
    let server = first.spawn(exec(&["/usr/bin/env", "python3", "-c", SERVER])).await.unwrap();
    printed(&*server, "listens").await;
    let code = "\
import socket
try: socket.create_connection(('127.0.0.1', 4711)); print('met')
except ConnectionRefusedError: print('alone')";
    assert_eq!(python(&*second, code).await, "alone");
    // Another command of the same sandbox does.
    assert_eq!(python(&*first, code).await, "met");
}

const SERVER: &str = "\
import socket, time
v4 = socket.create_server(('127.0.0.1', 4711)); v6 = socket.create_server(('::1', 4712), family=socket.AF_INET6)
full = socket.create_server(('127.0.0.1', 4713), backlog=0)
print('listens', flush=True)
while True:
    for server in [v4, v6]:
        server.settimeout(0.01)
        try: stream = server.accept()[0]; stream.sendall(stream.recv(4)); stream.close()
        except TimeoutError: pass";

#[tokio::test]
async fn services_are_reached_from_outside() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let none = sandbox.connect(4711).await.unwrap_err();
        assert_eq!(none.class, FaultClass::NotFound, "{none}");
        let server = SERVER.replace("47", if confinement == Confinement::Confined { "47" } else { "48" });
        let process = sandbox.spawn(exec(&["/usr/bin/env", "python3", "-c", &server])).await.unwrap();
        printed(&*process, "listens").await;
        let first = if confinement == Confinement::Confined { 4711 } else { 4811 };
        for port in [first, first + 1] {
            let stream = sandbox.connect(port).await.unwrap();
            let echoed = tokio::task::spawn_blocking(move || {
                let mut stream = stream;
                stream.set_nonblocking(false).unwrap();
                stream.write_all(b"echo").unwrap();
                let mut echoed = String::new();
                stream.read_to_string(&mut echoed).unwrap();
                echoed
            });
            assert_eq!(echoed.await.unwrap(), "echo");
        }
        let none = sandbox.connect(9).await.unwrap_err();
        assert_eq!(none.class, FaultClass::NotFound, "{none}");
        assert!(none.what.contains("port 9 "), "{none}");
        sandbox.kill().await;
        assert_eq!(sandbox.connect(first).await.unwrap_err().class, FaultClass::NotFound);
    }
}

#[tokio::test]
async fn every_port_of_its_own_loopback_is_the_sandboxs() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let bind = "import socket; socket.create_server(('127.0.0.1', 80)); print('port 80')";
    let (exit, printed) = run(&*sandbox, exec(&["/usr/bin/env", "python3", "-c", bind])).await;
    assert_eq!((exit, printed.as_str()), (Exit::Code(0), "port 80\n"));
}

#[tokio::test]
async fn running_commands_are_told() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        assert_eq!(sandbox.running(), [""; 0]);
        let script = "echo begun; until test -e go; do sleep 0.01; done # ".to_owned() + &"ä".repeat(200);
        let mut first = sandbox.spawn(sh(&script)).await.unwrap();
        let mut second = sandbox.spawn(exec(&["sleep", "1000"])).await.unwrap();
        assert_eq!(run(&*sandbox, exec(&["true"])).await.0, Exit::Code(0));
        printed(&*first, "begun").await;
        let running = loop {
            // `true` may need a moment to be gone.
            let running = sandbox.running();
            if running.len() == 2 {
                break running;
            }
            tokio::task::yield_now().await;
        };
        assert!(running[0].starts_with("sh -c echo begun;") && (199..=200).contains(&running[0].len()), "{running:?}");
        assert_eq!(running[1], "sleep 1000");
        second.kill().await;
        assert_eq!(sandbox.running().len(), 1);
        std::fs::write(place.root().join("go"), "").unwrap();
        assert_eq!(first.wait(LONG).await, Some(Exit::Code(0)));
        first.kill().await;
        assert_eq!(sandbox.running(), [""; 0]);
    }
}
