//! The life of a gate.

use std::{
    fs,
    net::TcpListener,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    time::Duration,
};

use domain::ports::egress::{Egress, Pass};
use egress::{Limits, Options, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::stage::{Opened, Stage, serve_on_loopback, text};

/// Reads until the other side has ended it, in whatever way.
async fn end(mut socket: TcpStream) {
    let _ = socket.read_to_end(&mut Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_gate_everything_ends() {
    let stage = Stage::new();
    let _server = stage.secure("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test", "git.site.test fetch"], &[]);
    let bundle = gate.gate.readable[0].clone();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&bundle), mode(&stage.certificates())), (0o644, 0o700));
    assert!(gate.gate.env.contains(&("GIT_SSL_CAINFO".to_owned(), bundle.to_str().unwrap().to_owned())));
    let (idle, tunnel) = (gate.dial().await, gate.tunnel("files.site.test:443").await.unwrap());
    let address = gate.address;
    drop(gate);
    end(idle).await;
    end(tunnel).await;
    // The listener goes as its task does, which is soon.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!bundle.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_starts_anew_is_served_anew() {
    let stage = Stage::new();
    let _server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let first = stage.gate(&["files.site.test"], &[]);
    let idle = first.dial().await;
    let address = serve_on_loopback(&*first.gate.door);
    end(idle).await;
    let again = Opened { gate: first.gate, address };
    assert!(again.get("http://files.site.test/").await.contains("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_once_the_listener_of_a_killed_sandbox_is_shut() {
    let stage = Stage::new();
    let _server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let mut gate = stage.gate(&["files.site.test"], &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    gate.address = listener.local_addr().unwrap();
    let same = OwnedFd::from(listener.try_clone().unwrap());
    gate.gate.door.serve(listener);
    // It is surely taken once it has been answered.
    let mut taken = gate.dial().await;
    taken.write_all(b"GET http://files.site.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    crate::stage::head(&mut taken).await;
    // As a sandbox does.
    std::net::TcpStream::from(same).shutdown(std::net::Shutdown::Both).unwrap();
    end(taken).await;
}

#[tokio::test]
async fn what_an_earlier_daemon_left_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join("7.pem");
    fs::write(&left, "old").unwrap();
    let options = || Options::new(directory.path().to_owned());
    let proxy = Proxy::new(options()).unwrap();
    assert!(!left.exists());
    let pass = Pass { allow: vec!["github".to_owned()], stamps: vec![], refused: std::sync::Arc::new(|_| {}) };
    let gate = proxy.open(pass.clone()).unwrap();
    assert!(fs::read_to_string(&gate.readable[0]).unwrap().matches("BEGIN CERTIFICATE").count() > 1);
    let wrong = Pass { allow: vec!["10.0.0.1".to_owned()], ..pass };
    assert!(proxy.open(wrong).is_err_and(|fault| fault.what.contains("10.0.0.1")));
    assert!(proxy.examine("pypi").is_ok() && proxy.presets().iter().any(|(name, _)| name == "pypi"));
    let private = vec!["10.0.0.0/8".to_owned()];
    assert!(Proxy::new(Options { private, ..options() }).is_err());
    assert!(Proxy::new(Options::new("/proc/nowhere".into())).is_err_and(|fault| fault.hint.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_those_that_wait_are_taken_later() {
    let stage = Stage::with(Limits { per_gate: 2, ..Limits::default() });
    let _server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test"], &[]);
    // Both places are surely taken once both have been answered.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = gate.dial().await;
        socket.write_all(b"GET http://files.site.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        crate::stage::head(&mut socket).await;
        held.push(socket);
    }
    let mut third = gate.dial().await;
    third.write_all(b"GET http://files.site.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    drop(held.pop());
    assert!(crate::stage::head(&mut third).await.contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_gates_together_are_bounded_too() {
    let stage = Stage::with(Limits { in_all: 1, ..Limits::default() });
    let _server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let (one, other) = (stage.gate(&["files.site.test"], &[]), stage.gate(&["files.site.test"], &[]));
    let mut held = one.dial().await;
    held.write_all(b"GET http://files.site.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    crate::stage::head(&mut held).await;
    end(other.dial().await).await;
    drop(one);
    while !other.get("http://files.site.test/").await.contains("hello") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_left() {
    let limit = Duration::from_millis(50);
    let stage = Stage::with(Limits { quiet: limit, ..Limits::default() });
    let _server = stage.secure("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test"], &[]);
    end(gate.dial().await).await;
    end(gate.tunnel("files.site.test:443").await.unwrap()).await;
    let stage = Stage::with(Limits { head: limit, ..Limits::default() });
    let _server = stage.secure("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test"], &[]);
    let mut slow = gate.dial().await;
    slow.write_all(b"GET http://files.site.test/ HTTP/1.1\r\n").await.unwrap();
    end(slow).await;
    let mut slow = gate.tunnel("files.site.test:443").await.unwrap();
    slow.write_all(&[22, 3, 1]).await.unwrap();
    end(slow).await;
}
