//! Where names lead.

use std::net::SocketAddr;

use crate::stage::{Stage, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_into_a_private_network_is_refused() {
    let stage = Stage::new();
    let server = stage.plain("a.site.test", |_, _| text("hello")).await;
    let gate = stage.gate(&["name.public"], &[]);
    let port = server.address.port();
    for (address, what) in [
        (format!("127.0.0.1:{port}"), "a loopback address"),
        (format!("127.8.8.8:{port}"), "a loopback address"),
        (format!("[::1]:{port}"), "a loopback address"),
        (format!("[::ffff:127.0.0.1]:{port}"), "a loopback address"),
        (format!("[64:ff9b::127.0.0.1]:{port}"), "a loopback address"),
        ("10.0.0.1:80".to_owned(), "a private address"),
        ("192.168.0.1:80".to_owned(), "a private address"),
        ("172.20.0.1:80".to_owned(), "a private address"),
        ("[fd00::1]:80".to_owned(), "a private address"),
        ("100.64.0.1:80".to_owned(), "an address of a carrier's network"),
        ("169.254.169.254:80".to_owned(), "a link-local address"),
        ("[fe80::1]:80".to_owned(), "a link-local address"),
        ("[fd00:ec2::254]:80".to_owned(), "a metadata service"),
        ("168.63.129.16:80".to_owned(), "a metadata service"),
        ("0.0.0.0:80".to_owned(), "an unspecified address"),
        ("[::]:80".to_owned(), "an unspecified address"),
        ("224.0.0.1:80".to_owned(), "a multicast address"),
        ("255.255.255.255:80".to_owned(), "a reserved address"),
        ("[2002:7f00:1::]:80".to_owned(), "a reserved address"),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        stage.names.set("name.public", &[&[address]]);
        let told = gate.get("http://name.public/").await;
        assert!(told.starts_with("HTTP/1.1 403"), "{address}: {told}");
        let (refusal, entry) = stage.refusals().pop().unwrap();
        assert!(refusal.starts_with(&format!("name.public:80 resolves to {what}")) && entry.is_none(), "{refusal}");
        let operators = matches!(what, "a private address" | "a loopback address") || what.contains("carrier");
        assert_eq!(refusal.contains("`[network] private`"), operators, "{refusal}");
        let tunnel = gate.tunnel("name.public:443").await.unwrap_err();
        assert!(tunnel.starts_with("HTTP/1.1 403") && tunnel.contains(what), "{tunnel}");
    }
    // One bad address spoils the good ones beside it.
    stage.names.set("name.public", &[&["93.184.215.14:80".parse().unwrap(), server.address]]);
    assert!(gate.get("http://name.public/").await.starts_with("HTTP/1.1 403"));
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_metadata_is_out_of_reach_for_every_name() {
    let stage = Stage::new();
    let gate = stage.gate(&["*.site.test"], &[]);
    for address in ["169.254.169.254:80", "[fd00:ec2::254]:80", "100.100.100.200:80", "[::ffff:169.254.169.254]:80"] {
        stage.names.set("meta.site.test", &[&[address.parse().unwrap()]]);
        let told = gate.get("http://meta.site.test/latest/").await;
        assert!(told.starts_with("HTTP/1.1 403"), "{address}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_once() {
    let stage = Stage::new();
    let good = stage.secure("re.site.test", |_, _| text("good")).await;
    let bad = stage.secure("bad.site.test", |_, _| text("bad")).await;
    // The second answer leads elsewhere: it must never be asked for.
    stage.names.set("re.site.test", &[&[good.address], &[bad.address]]);
    let gate = stage.gate(&["re.site.test fetch"], &[]);
    let ask = "GET / HTTP/1.1\r\nHost: re.site.test\r\n";
    let told = gate.fetch("re.site.test", &format!("{ask}\r\n{ask}Connection: close\r\n\r\n")).await;
    assert_eq!(told.matches("good").count(), 2, "{told}");
    assert_eq!(stage.names.asked("re.site.test"), 1);
    // And what is asked for anew is looked at anew.
    stage.names.set("back.public", &[&["93.184.215.14:1".parse().unwrap()], &[bad.address]]);
    let gate = stage.gate(&["back.public"], &[]);
    stage.names.set("back.public", &[&[bad.address]]);
    assert!(gate.get("http://back.public/").await.starts_with("HTTP/1.1 403"));
    assert_eq!(bad.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_judged_like_any_request() {
    let stage = Stage::new();
    let server = stage.plain("start.site.test", |_, _| {
        hyper::Response::builder().status(302).header("location", "http://inside.public/").body(vec![]).unwrap()
    });
    let server = server.await;
    stage.names.set("inside.public", &[&[server.address]]);
    let gate = stage.gate(&["start.site.test", "inside.public"], &[]);
    let told = gate.get("http://start.site.test/").await;
    assert!(told.starts_with("HTTP/1.1 302"), "the client follows it, or not: {told}");
    assert!(gate.get("http://inside.public/").await.starts_with("HTTP/1.1 403"));
    assert_eq!(server.seen().len(), 1);
}
