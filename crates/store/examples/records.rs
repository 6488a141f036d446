//! Measures the record: processor time of an exchange with a request of 100 KB that grows by 2 KB from one to the next, and what it
//! takes on disk. `cargo run --release -p store --example records`
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by panicking")]

#[path = "../tests/it/sample.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod sample;

use std::{fmt::Write as _, fs, time::Instant};

use domain::{
    ids::TurnNo,
    ports::{
        model::Protocol,
        record::{Exchange, Records},
    },
};

const ATTEMPTS: u64 = 20;
const ROUNDS: u64 = 50;
const REQUEST_BYTES: usize = 100_000;
const ROUND_BYTES: usize = 2_000;

fn main() {
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = sample::open(home.path());
    let exchanges: Vec<Exchange> = (0..ROUNDS).map(exchange).collect();
    let (processor, start) = (processor_ms(), Instant::now());
    let mut calling = 0;
    runtime.block_on(async {
        let mut last = None;
        for exchange in &exchanges {
            for task in 1..=ATTEMPTS {
                let called = Instant::now();
                last = Some(store.append(sample::attempt(task, 1), exchange.clone()));
                calling += called.elapsed().as_micros();
            }
        }
        last.unwrap().await.unwrap();
    });
    let count = (ATTEMPTS * ROUNDS) as f64;
    let (processor, wall) = ((processor_ms() - processor) / count, start.elapsed().as_secs_f64() * 1000.0 / count);
    println!(
        "{processor:.3} ms of processor and {wall:.3} ms an exchange, {:.3} ms of it in the call",
        calling as f64 / 1000.0 / count
    );
    drop(store);
    let kept = fs::metadata(home.path().join("overnight.db")).unwrap().len() as f64 / count / 1000.0;
    println!("{kept:.1} KB an exchange on disk");
}

fn exchange(round: u64) -> Exchange {
    let mut request = String::from("{\"messages\":[");
    let mut line = 0;
    while request.len() < REQUEST_BYTES + round as usize * ROUND_BYTES {
        line += 1;
        let _ = write!(
            request,
            "{{\"line\":{line},\"text\":\"{:x}, as it was read from a file\"}},",
            line * 2_654_435_761_u64
        );
    }
    request.push_str("]}");
    let response = "data: {\"delta\":\"a piece of an answer\"}\n\n".repeat(100);
    Exchange {
        turn: TurnNo(1),
        at: sample::at(round),
        protocol: Protocol::Messages,
        path: "/v1/messages".to_owned(),
        request: request.into(),
        status: 200,
        content_type: "text/event-stream".to_owned(),
        response: response.into(),
        whole: true,
    }
}

/// What this process has used so far, of all its threads.
fn processor_ms() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // User and system time, in hundredths of a second.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() * 10.0).sum()
}
