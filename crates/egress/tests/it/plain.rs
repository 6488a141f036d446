//! Plain requests.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::stage::{Stage, head, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_host_is_reached_under_its_own_name() {
    let stage = Stage::new();
    let server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["Files.site.test"], &[]);
    let told = gate
        .say(
            "GET http://FILES.site.test./a/b?c=d HTTP/1.1\r\nHost: other.example\r\nProxy-Authorization: Basic eA==\r\n\
             Proxy-Connection: keep-alive\r\nTE: trailers\r\nX-Hop: 1\r\nConnection: close, x-hop\r\nX-Kept: 2\r\n\r\n",
        )
        .await;
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("\r\nhello\r\n"), "{told}");
    let seen = &server.seen()[0];
    assert_eq!(seen.uri, "/a/b?c=d");
    assert_eq!(server.header("host").as_deref(), Some("files.site.test"));
    assert_eq!(server.header("x-kept").as_deref(), Some("2"));
    for gone in ["proxy-authorization", "proxy-connection", "te", "x-hop", "connection"] {
        assert_eq!(server.header(gone), None, "{gone}");
    }
    assert!(gate.gate.readable.is_empty() && gate.gate.env.iter().all(|(name, _)| name != "SSL_CERT_FILE"));
    assert_eq!(stage.refusals(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_requests_to_many_hosts() {
    let stage = Stage::new();
    let one = stage.plain("one.site.test", |_, body| text(&format!("one {}", body.len()))).await;
    let two = stage.plain("two.site.test", |_, _| text("two")).await;
    let gate = stage.gate(&["*.site.test"], &[]);
    let ask = |host: &str, close: &str| format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{close}\r\n");
    let post = "POST http://one.site.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde";
    let told = gate
        .say(
            ask("one.site.test", "")
                + post
                + &ask("two.site.test", "")
                + &ask("three.example", "")
                + &ask("one.site.test", "Connection: close\r\n"),
        )
        .await;
    assert_eq!(told.matches("HTTP/1.1 200").count(), 4, "{told}");
    assert_eq!(told.matches("HTTP/1.1 403").count(), 1, "{told}");
    assert!(told.contains("one 5"), "{told}");
    assert_eq!((one.seen().len(), two.seen().len()), (3, 1));
    // The second request went over the line of the first.
    assert_eq!(stage.names.asked("one.site.test"), 2);
    assert_eq!(stage.names.asked("three.example"), 0, "a name that is not allowed is never looked up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_the_server_closed_is_opened_again() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.names.set("hasty.site.test", &[&[listener.local_addr().unwrap()]]);
    // It promises to keep the line, and closes it.
    let server = tokio::spawn(async move {
        for _ in 0..20 {
            let (mut socket, _) = listener.accept().await.unwrap();
            head(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    });
    let gate = stage.gate(&["hasty.site.test"], &[]);
    let mut client = gate.dial().await;
    for _ in 0..20 {
        client.write_all(b"GET http://hasty.site.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let told = head(&mut client).await;
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        client.read_exact(&mut [0; 2]).await.unwrap();
    }
    server.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_would_allow_it() {
    let stage = Stage::new();
    let server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test fetch", "*.below.site.test"], &[]);
    for (url, why, entry) in [
        ("http://pypi.example/simple", "pypi.example:80 not on the allow-list", Some("pypi.example")),
        ("http://pypi.example:8080/", "pypi.example:8080 not on the allow-list", Some("pypi.example:8080")),
        ("http://below.site.test/", "below.site.test:80 not on the allow-list", Some("below.site.test")),
        ("http://files.site.test:81/", "files.site.test:81 not on the allow-list", Some("files.site.test:81")),
        ("http://127.0.0.1/", "127.0.0.1:80 an address: hosts are allowed by their names", None),
        ("http://2130706433/", "2130706433:80 an address: hosts are allowed by their names", None),
        ("http://0x7f.1/", "0x7f.1:80 an address: hosts are allowed by their names", None),
        ("http://[::1]/", "[::1]:80 an address: hosts are allowed by their names", None),
        ("http://[::ffff:7f00:1]:443/", "[::ffff:7f00:1]:443 an address: hosts are allowed by their names", None),
        ("http://files.site.test:443/", "files.site.test:443 not on the allow-list", Some("files.site.test:443")),
    ] {
        let told = gate.get(url).await;
        // Port 443 is allowed by the entry, but not for what is not TLS.
        let (why, entry) = if url.contains("test:443") { ("files.site.test:443 not TLS", None) } else { (why, entry) };
        assert_eq!(stage.refusals().pop(), Some((why.to_owned(), entry.map(str::to_owned))), "{url}");
        assert!(told.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{told}");
        let reason = why.split_once(' ').unwrap().1;
        assert!(told.contains(&format!("x-overnight-refused: {reason}\r\n")), "{told}");
        assert!(told.contains(&format!("is refused: {reason}")), "{told}");
        if let Some(entry) = entry {
            assert!(told.ends_with(&format!("the entry that would allow it: {entry}\n")), "{told}");
        }
    }
    assert_eq!(server.seen().len(), 0);
    let told = gate.say("DELETE http://files.site.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(told.contains("403 Forbidden"), "{told}");
    assert_eq!(
        stage.refusals().pop(),
        Some(("files.site.test:80 DELETE is not allowed".to_owned(), Some("files.site.test".to_owned())))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_to_a_proxy_is_told_so() {
    let stage = Stage::new();
    let server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test"], &[]);
    let own = gate.say("GET / HTTP/1.1\r\nHost: files.site.test\r\nConnection: close\r\n\r\n").await;
    assert!(own.starts_with("HTTP/1.1 400") && own.contains("HTTPS_PROXY"), "{own}");
    let tls = gate.get("https://files.site.test/").await;
    assert!(tls.starts_with("HTTP/1.1 400") && tls.contains("CONNECT"), "{tls}");
    let user = gate.get("http://me@files.site.test/").await;
    assert!(user.starts_with("HTTP/1.1 400"), "{user}");
    let socket = gate
        .say(
            "GET http://files.site.test/ HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;
    assert!(socket.starts_with("HTTP/1.1 403"), "{socket}");
    assert_eq!(stage.last_refusal(), "files.site.test:80 a websocket cannot be looked into");
    assert_eq!(server.seen().len(), 0);
    let gone = {
        stage.names.set("gone.site.test", &[&["127.0.0.1:1".parse().unwrap()]]);
        stage.gate(&["gone.site.test", "unknown.site.test"], &[])
    };
    assert!(gone.get("http://gone.site.test/").await.starts_with("HTTP/1.1 502"));
    assert!(stage.last_refusal().starts_with("gone.site.test:80 cannot be reached: "), "few programs show an answer");
    assert!(gone.get("http://unknown.site.test/").await.contains("unknown.site.test:80 cannot be resolved: "));
    assert!(stage.last_refusal().starts_with("unknown.site.test:80 cannot be resolved: "));
}
