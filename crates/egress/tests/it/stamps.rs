//! Credentials that are put on outside the sandbox.

use bytes::Bytes;
use egress::{Options, Proxy, Roots};
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::{Stage, text};

const SECRET: &str = "ghp_q8Zr3vT1mX5kW7yB2nC4";
const VALUE: &str = "Bearer ghp_q8Zr3vT1mX5kW7yB2nC4";

fn ask(host: &str, more: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_sees_it_and_the_client_never() {
    let stage = Stage::new();
    // All that came is sent back: in a header, in the reason, and in a body in small pieces, as it is and in base64.
    let server = stage.secure("api.site.test", |parts, _| {
        let told = parts.headers.get("authorization").unwrap().to_str().unwrap().to_owned();
        let body = format!("you said {told}; Z2hwX3E4WnIzdlQxbVg1a1c3eUIybkM0 {told}!");
        let pieces = body.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let reason = hyper::ext::ReasonPhrase::try_from(told.clone().into_bytes()).unwrap();
        Response::builder()
            .header("x-told", told)
            .header("accept-ranges", "bytes")
            .extension(reason)
            .body(pieces)
            .unwrap()
    });
    let server = server.await;
    let gate = stage.gate(&[], &[("api.site.test", "Authorization", VALUE)]);
    let more = "Authorization: mine\r\nauthorization: mine too\r\nConnection: authorization\r\nRange: bytes=0-3\r\n\
                Accept-Encoding: gzip\r\n";
    let told = gate.fetch("api.site.test", &ask("api.site.test", more)).await;
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.contains("!\r\n0\r\n"), "{told}");
    assert!(!told.contains(SECRET) && !told.contains("Z2hwX3E4"), "{told}");
    assert_eq!(told.matches("[Authorization redacted]").count(), 4, "{told}");
    let seen = &server.seen()[0];
    assert_eq!(seen.headers.get_all("authorization").iter().collect::<Vec<_>>(), [VALUE]);
    assert_eq!(server.header("accept-encoding").as_deref(), Some("identity"));
    assert_eq!(server.header("range"), None);
    assert!(gate.gate.env.iter().all(|(_, value)| !value.contains(SECRET)));
    assert!(!format!("{:?}{:?}", gate.gate, stage.proxy).contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_its_own_host_only() {
    let stage = Stage::new();
    let api = stage.secure("api.site.test", |_, _| {
        Response::builder().status(302).header("location", "https://other.site.test/").body(vec![]).unwrap()
    });
    let api = api.await;
    let other = stage.secure("other.site.test", |_, _| text("other")).await;
    let gate = stage.gate(&["other.site.test fetch"], &[("api.site.test", "X-Key", VALUE)]);
    assert!(gate.fetch("api.site.test", &ask("api.site.test", "")).await.starts_with("HTTP/1.1 302"));
    assert!(gate.fetch("other.site.test", &ask("other.site.test", "")).await.contains("other"));
    assert_eq!(api.header("x-key").as_deref(), Some(VALUE));
    assert_eq!(other.header("x-key"), None);
    // Another host by way of the tunnel to this one.
    let told = gate.fetch("api.site.test", &ask("other.site.test", "")).await;
    assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    let told =
        gate.fetch("api.site.test", &ask("api.site.test", "").replace("GET /", "GET https://other.site.test/")).await;
    assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    let told = gate
        .fetch(
            "api.site.test",
            "CONNECT api.site.test:443 HTTP/1.1\r\nHost: api.site.test:443\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(told.starts_with("HTTP/1.1 400"), "{told}");
    // Never in the clear.
    assert!(gate.get("http://api.site.test/").await.starts_with("HTTP/1.1 403"));
    assert!(gate.tunnel("api.site.test:80").await.unwrap_err().starts_with("HTTP/1.1 403"));
    let mut plain = gate.tunnel("api.site.test:443").await.unwrap();
    plain.write_all(ask("api.site.test", "").as_bytes()).await.unwrap();
    let _ = plain.read_to_end(&mut Vec::new()).await;
    assert_eq!(stage.last_refusal(), "api.site.test:443 not TLS");
    assert_eq!((api.seen().len(), other.seen().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_no_server_that_cannot_prove_itself() {
    let stage = Stage::new();
    let stranger = Stage::new();
    let server = stranger.secure("api.site.test", |_, _| text("caught")).await;
    stage.names.set("api.site.test", &[&[server.address]]);
    let gate = stage.gate(&[], &[("api.site.test", "Authorization", VALUE)]);
    let told = gate.fetch("api.site.test", &ask("api.site.test", "")).await;
    assert!(told.starts_with("HTTP/1.1 502") && told.contains("api.site.test:443 fails at TLS"), "{told}");
    assert!(!told.contains(SECRET));
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_searched_for_it_is_not_passed_on() {
    let stage = Stage::new();
    let server = stage.secure("api.site.test", |_, _| {
        Response::builder().header("content-encoding", "gzip").body(vec![Bytes::from_static(b"\x1f\x8b...")]).unwrap()
    });
    let _server = server.await;
    let gate = stage.gate(&[], &[("api.site.test", "Authorization", VALUE)]);
    let told = gate.fetch("api.site.test", &ask("api.site.test", "")).await;
    assert!(told.starts_with("HTTP/1.1 502") && told.contains("an encoding that was not asked for"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_own_authority_is_believed_here_and_in_the_sandbox() {
    let mut stage = Stage::new();
    let server = stage.secure("api.site.test", |_, _| text("fine")).await;
    let file = stage.directory.path().join("corp.pem");
    std::fs::copy(&stage.gate(&["x.site.test fetch"], &[]).gate.readable[0], &file).unwrap();
    let options = |file: &std::path::Path| Options {
        private: vec!["*.site.test".to_owned()],
        resolver: stage.names.clone(),
        roots: Roots::These(Vec::new()),
        authorities: vec![file.to_owned()],
        ..Options::new(stage.directory.path().join("other"))
    };
    for (wrong, why) in [("absent.pem", "absent.pem cannot be read"), ("empty.pem", "there is no certificate in it")] {
        std::fs::write(stage.directory.path().join("empty.pem"), "no certificate\n").unwrap();
        let fault = Proxy::new(options(&stage.directory.path().join(wrong))).unwrap_err();
        assert!(fault.what.contains(why), "{fault}");
    }
    stage.proxy = Proxy::new(options(&file)).unwrap();
    let gate = stage.gate(&[], &[("api.site.test", "Authorization", VALUE)]);
    assert!(gate.fetch("api.site.test", &ask("api.site.test", "")).await.ends_with("fine\r\n0\r\n\r\n"));
    assert_eq!(server.seen()[0].headers["authorization"], VALUE);
    // Where TLS passes through, it is the client that has to believe the server.
    let gate = stage.gate(&["api.site.test"], &[]);
    assert!(gate.secured("api.site.test:443", "api.site.test", &gate.trusting()).await.is_ok());
}
