//! Requests that two readers may read in two ways.

use crate::stage::{Stage, text};

/// Sends raw bytes to a gate that allows one host, and counts what the host saw of `/secret`.
async fn told(bytes: &str) -> (String, Vec<String>) {
    let stage = Stage::new();
    let server = stage.plain("files.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["files.site.test"], &[]);
    let told = gate.say(bytes).await;
    let seen = server.seen().iter().map(|parts| format!("{} {}", parts.method, parts.uri)).collect();
    for parts in server.seen() {
        assert_eq!(parts.headers.get_all("host").iter().collect::<Vec<_>>(), ["files.site.test"]);
    }
    (told, seen)
}

const POST: &str = "POST http://files.site.test/a HTTP/1.1\r\nHost: files.site.test\r\n";
const INNER: &str = "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn both_lengths_are_read_in_one_way() {
    // Chunked wins, the length is gone, and what follows is no part of the body: judged on its own, or not read at all.
    for lengths in
        ["Content-Length: 60\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n"]
    {
        let (told, seen) = told(&format!("{POST}{lengths}\r\n0\r\n\r\n{INNER}")).await;
        assert_eq!(seen, ["POST /a"], "{told}");
        assert_eq!(told.matches("200 OK").count(), 1, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_lengths_are_not_taken() {
    for lengths in [
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "X: y\r\n folded: z\r\n",
        " Host: evil.example\r\n",
        "Host\r\n",
        "X\0Y: z\r\n",
        "X: a\0b\r\n",
    ] {
        let (told, seen) = told(&format!("{POST}{lengths}\r\n0\r\n\r\n{INNER}")).await;
        assert!(told.starts_with("HTTP/1.1 400"), "{lengths:?}: {told}");
        assert_eq!(seen, [""; 0], "{lengths:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_chunks_are_not_taken() {
    for body in
        ["5;\n0\r\n\r\n", "-1\r\n", "5\r\nabcdefg\r\n0\r\n\r\n", "0x5\r\nabcde\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"]
    {
        let (told, seen) = told(&format!("{POST}Transfer-Encoding: chunked\r\n\r\n{body}{INNER}")).await;
        assert!(!told.contains("evil.example") && !told.contains("200 OK"), "{body:?}: {told}");
        assert!(seen.len() <= 1, "{body:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_request_lines_are_not_taken() {
    for line in [
        "GET  http://files.site.test/ HTTP/1.1",
        "GET http://files.site.test/ http://evil.example/ HTTP/1.1",
        "GET http://files.site.test/ HTTP/1.1\rX: y",
        "GET http://files.site.test\\@evil.example/ HTTP/1.1",
        "GET http://files.site.test#@evil.example/ HTTP/2.0",
        "GET http://files.site.test:80:81/ HTTP/1.1",
        "GET //files.site.test/ HTTP/1.1",
        "CONNECT http://files.site.test/ HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT files.site.test:443/x HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        let (told, seen) = told(&format!("{line}\r\nHost: files.site.test\r\nConnection: close\r\n\r\n")).await;
        assert!(!told.contains("200 OK"), "{line:?}: {told}");
        assert_eq!(seen, [""; 0], "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feeds_are_written_as_what_they_were_read_for() {
    let (told, seen) =
        told("GET http://files.site.test/a HTTP/1.1\nHost: evil.example\nX: y\nConnection: close\n\n").await;
    assert_eq!(seen, ["GET /a"], "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_has_no_body_and_nothing_before_it_is_agreed() {
    for length in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let (told, seen) =
            told(&format!("CONNECT files.site.test:80 HTTP/1.1\r\nHost: files.site.test\r\n{length}\r\nabcde{INNER}"))
                .await;
        assert!(told.starts_with("HTTP/1.1 400"), "{told}");
        assert_eq!((told.matches("HTTP/1.1").count(), seen.len()), (1, 0), "the connection ends: {told}");
    }
    // After a refusal the rest was for a tunnel that is not there.
    let inner = "GET http://files.site.test/a HTTP/1.1\r\nHost: files.site.test\r\n\r\n";
    let (told, seen) =
        self::told(&format!("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n{inner}")).await;
    assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    assert_eq!(seen, [""; 0]);
    // After an agreement it is in the tunnel: looked at there.
    let (told, seen) = self::told(&format!("CONNECT files.site.test:80 HTTP/1.1\r\nHost: x\r\n\r\n{INNER}")).await;
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("403 Forbidden"), "{told}");
    assert_eq!(seen, [""; 0]);
    // As TLS must be on the port of TLS, whatever came before the agreement.
    let (told, seen) = self::told(&format!("CONNECT files.site.test:443 HTTP/1.1\r\nHost: x\r\n\r\n{INNER}")).await;
    assert!(told.starts_with("HTTP/1.1 200") && !told.contains("hello"), "{told}");
    assert_eq!(seen, [""; 0]);
}
