//! Tunnels, and what may be in them.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{EchGreaseConfig, EchMode},
    crypto::{aws_lc_rs, hpke::Hpke as _},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::stage::{Stage, text};

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_the_host_that_was_asked_for_passes_untouched() {
    let stage = Stage::new();
    let server = stage.secure("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["*.site.test"], &[]);
    // The client believes the world's authority only: it is the server's own certificate that it sees.
    let world = stage.world.trusting();
    let mut client = gate.secured("Files.site.test.:443", "files.site.test", &world).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: files.site.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut told = String::new();
    let _ = client.read_to_string(&mut told).await;
    assert!(told.contains("hello"), "{told}");
    assert_eq!(server.seen().len(), 1);
    assert!(gate.gate.readable.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_another_host_ends() {
    let stage = Stage::new();
    let server = stage.secure("files.site.test", |_, _| text("hello")).await;
    for allow in ["files.site.test", "files.site.test fetch"] {
        let gate = stage.gate(&[allow], &[]);
        let mut world = stage.world.trusting();
        let error = gate.secured("files.site.test:443", "evil.site.test", &world).await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        assert_eq!(
            stage.refusals().pop(),
            Some(("files.site.test:443 its TLS asks for evil.site.test".to_owned(), None))
        );
        world.enable_sni = false;
        gate.secured("files.site.test:443", "files.site.test", &world).await.unwrap_err();
        assert_eq!(stage.last_refusal(), "files.site.test:443 its TLS names no server");
        let mut plain = gate.tunnel("files.site.test:443").await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: files.site.test\r\n\r\n").await.unwrap();
        assert_eq!(plain.read_to_end(&mut Vec::new()).await.unwrap_or(7), 7, "an alert, and nothing more");
        assert_eq!(stage.last_refusal(), "files.site.test:443 not TLS");
    }
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_hello_is_taken_only_where_tls_is_ended() {
    let stage = Stage::new();
    let server = stage.secure("files.site.test", |_, _| text("hello")).await;
    let passing = stage.gate(&["files.site.test"], &[]);
    let error = passing.secured("files.site.test:443", "files.site.test", &veiled(&stage.world.roots())).await;
    assert!(error.unwrap_err().to_string().contains("UnrecognisedName"));
    let (told, entry) = stage.refusals().pop().unwrap();
    assert!(told.contains("an encrypted hello"), "{told}");
    let ending = stage.gate(&[&entry.unwrap()], &[]);
    let mut client = ending.secured("files.site.test:443", "files.site.test", &veiled(&ending.roots())).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: files.site.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut told = String::new();
    let _ = client.read_to_string(&mut told).await;
    assert!(told.contains("hello"), "{told}");
    assert_eq!(server.seen().len(), 1);
}

/// A client that sends an encrypted hello, as browsers do whether or not they have anything to hide.
fn veiled(roots: &RootCertStore) -> ClientConfig {
    let suite = aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = suite.generate_key_pair().unwrap();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key)))
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_needs_an_allowed_name_and_a_port() {
    let stage = Stage::new();
    let gate = stage.gate(&["files.site.test"], &[]);
    for (to, status, why) in [
        ("127.0.0.1:443", 403, "an address: hosts are allowed by their names"),
        ("127.1:443", 403, "an address: hosts are allowed by their names"),
        ("0177.0.0.1:443", 403, "an address: hosts are allowed by their names"),
        ("[::1]:443", 403, "an address: hosts are allowed by their names"),
        ("[::ffff:169.254.169.254]:80", 403, "an address: hosts are allowed by their names"),
        ("localhost:443", 403, "not on the allow-list"),
        ("files.site.test:22", 403, "the entry that would allow it: files.site.test:22"),
        ("afiles.site.test:443", 403, "not on the allow-list"),
        ("files.site.test.evil.example:443", 403, "not on the allow-list"),
        ("files.site.test@evil.example:443", 400, "no user"),
        ("files.site.test", 400, ""),
        ("files.site.test:99999", 400, ""),
    ] {
        let told = gate.tunnel(to).await.unwrap_err();
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")) && told.contains(why), "{to}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_port_may_speak_anything_and_the_server_first() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.names.set("db.site.test", &[&[listener.local_addr().unwrap()]]);
    let server = tokio::spawn(async move {
        let mut told = Vec::new();
        for greeting in ["SSH-2.0-first\r\n", ""] {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(greeting.as_bytes()).await.unwrap();
            let mut said = String::new();
            socket.read_to_string(&mut said).await.unwrap();
            told.push(said);
        }
        told
    });
    let gate = stage.gate(&["db.site.test:5432"], &[]);
    let mut first = gate.tunnel("db.site.test:5432").await.unwrap();
    let mut greeting = [0; 15];
    first.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"SSH-2.0-first\r\n");
    first.write_all(b"SSH-2.0-second").await.unwrap();
    first.shutdown().await.unwrap();
    let mut second = gate.tunnel("db.site.test:5432").await.unwrap();
    second.write_all(b"select").await.unwrap();
    second.shutdown().await.unwrap();
    assert_eq!(server.await.unwrap(), ["SSH-2.0-second", "select"]);
    assert!(gate.tunnel("db.site.test:443").await.is_err());
    assert!(stage.gate(&["db.site.test:5432"], &[]).tunnel("db.site.test:5433").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_on_a_named_port_is_for_the_named_host_too() {
    let stage = Stage::new();
    let server = stage.secure("api.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["api.site.test:8443"], &[]);
    let world = stage.world.trusting();
    gate.secured("api.site.test:8443", "evil.site.test", &world).await.unwrap_err();
    assert_eq!(stage.last_refusal(), "api.site.test:8443 its TLS asks for evil.site.test");
    gate.secured("api.site.test:8443", "api.site.test", &world).await.unwrap();
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_in_a_tunnel_are_looked_at_each() {
    let stage = Stage::new();
    let server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test"], &[]);
    let ask = async |host: &str| {
        let mut tunnel = gate.tunnel("files.site.test:80").await.unwrap();
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        tunnel.write_all(request.as_bytes()).await.unwrap();
        let mut told = String::new();
        let _ = tunnel.read_to_string(&mut told).await;
        told
    };
    assert!(ask("files.site.test").await.contains("hello"));
    assert!(ask("files.site.test:80").await.contains("hello"));
    for other in ["evil.site.test", "files.site.test:81", "127.0.0.1", "[::1]"] {
        assert!(ask(other).await.starts_with("HTTP/1.1 403"), "{other}");
    }
    assert!(ask("files.site.test\r\nHost: evil.site.test").await.starts_with("HTTP/1.1 400"));
    assert_eq!(server.seen().len(), 2);
    // TLS has nothing to do there.
    let world = stage.world.trusting();
    gate.secured("files.site.test:80", "files.site.test", &world).await.unwrap_err();
}
