//! What the way through the proxy costs. `cargo test --release -p egress --test it measure -- --ignored --nocapture`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::ports::egress::{Egress, Pass};
use egress::{Options, Proxy};
use hyper::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::stage::Stage;

const ROUNDS: usize = 500;
const BYTES: usize = 1 << 30;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures; asserts nothing"]
async fn measure() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    stage.names.set("raw.site.test", &[&[address]]);
    // Answers a zero with one byte, anything else with very many.
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let piece = vec![7; 64 << 10];
                while let Ok(byte) = socket.read_u8().await {
                    let count = if byte == 0 { 1 } else { BYTES };
                    let mut left = count;
                    while left > 0 {
                        let Ok(written) = socket.write(&piece[..left.min(piece.len())]).await else { return };
                        left -= written;
                    }
                }
            });
        }
    });
    let gate = stage.gate(&["raw.site.test:9000", "files.site.test fetch"], &[]);
    let (mut direct, mut through, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_u8(0).await.unwrap();
        socket.read_u8().await.unwrap();
        direct.push(start.elapsed());
        let start = Instant::now();
        let mut socket = gate.tunnel("raw.site.test:9000").await.unwrap();
        socket.write_u8(0).await.unwrap();
        socket.read_u8().await.unwrap();
        through.push(start.elapsed());
        let start = Instant::now();
        gate.tunnel("elsewhere.example:443").await.unwrap_err();
        refused.push(start.elapsed());
    }
    println!("a connection and a byte each way: direct {:?}, through a tunnel {:?}", median(direct), median(through));
    println!("a refusal: {:?}", median(refused));
    for (way, mut socket) in [
        ("direct", TcpStream::connect(address).await.unwrap()),
        ("tunnel", gate.tunnel("raw.site.test:9000").await.unwrap()),
    ] {
        socket.write_u8(1).await.unwrap();
        let start = Instant::now();
        told(way, drain(&mut socket, BYTES).await, start);
    }

    let piece = Bytes::from(vec![7; 64 << 10]);
    let files =
        move |_: &hyper::http::request::Parts, _: &Bytes| Response::new(vec![piece.clone(); BYTES / 4 / piece.len()]);
    let _server = stage.secure("files.site.test", files).await;
    let ask = b"GET / HTTP/1.1\r\nHost: files.site.test\r\nConnection: close\r\n\r\n";
    let mut client = gate.secured("files.site.test:443", "files.site.test", &gate.trusting()).await.unwrap();
    client.write_all(ask).await.unwrap();
    let start = Instant::now();
    told("TLS ended here", drain(&mut client, usize::MAX).await, start);
    let mut handshakes = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        gate.secured("files.site.test:443", "files.site.test", &gate.trusting()).await.unwrap();
        handshakes.push(start.elapsed());
    }
    println!("a tunnel and TLS ended here: {:?}", median(handshakes));
    let proxy = Proxy::new(Options::new(stage.certificates().join("more"))).unwrap();
    let pass = Pass { allow: vec!["github".to_owned()], stamps: vec![], refused: Arc::new(|_| {}) };
    let mut gates = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        drop(proxy.open(pass.clone()).unwrap());
        gates.push(start.elapsed());
    }
    println!("a gate with an authority, and this machine's: first {:?}, then {:?}", gates[0], median(gates.clone()));
}

async fn drain(socket: &mut (impl AsyncReadExt + Unpin), up_to: usize) -> usize {
    let (mut buffer, mut count) = (vec![0; 256 << 10], 0);
    while count < up_to {
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => count += read,
        }
    }
    count
}

fn told(way: &str, count: usize, start: Instant) {
    let rate = count as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20);
    println!("{way}: {rate:.0} MiB/s");
}
