//! Measures the journal: events per second through `step` and durable commit, one task alone and two hundred at once.
//!
//! `cargo run --release -p store --example journal [HOME]` — the home (default: a directory that is removed again) decides
//! which disk is measured.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by panicking")]

#[path = "../tests/it/sample.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod sample;

use std::{path::Path, sync::Arc, time::Instant};

use domain::ports::{agent::Transcript, store::Store, store::Transcripts};

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    let home = std::env::args().nth(1).map_or(temporary.path().to_owned(), Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{:>6} tasks {:>8} events/s {:>10} entries/s  (each durable when counted)", "", "", "");
    for (tasks, each) in [(1, 2000), (200, 100), (1000, 30)] {
        let events = runtime.block_on(commits(&home, tasks, each));
        let entries = runtime.block_on(appends(&home, tasks, each));
        println!("{tasks:>6} tasks {events:>8.0} events/s {entries:>10.0} entries/s");
    }
}

/// Every task takes `each` events one after another: turn, snapshot, red checks, next turn.
async fn commits(home: &Path, tasks: u64, each: u64) -> f64 {
    let store = sample::open(home);
    let mut started = Vec::new();
    for n in 0..tasks {
        let id = store.next_task();
        let (task, first) = sample::submit(id, &format!("{} {n}", store.epoch()));
        store.commit(first).await.unwrap();
        started.push(task);
    }
    let start = Instant::now();
    let running: Vec<_> = started
        .into_iter()
        .map(|mut task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..each {
                    store.commit(sample::next(&mut task)).await.unwrap();
                }
            })
        })
        .collect();
    for task in running {
        task.await.unwrap();
    }
    (tasks * each) as f64 / start.elapsed().as_secs_f64()
}

/// Every attempt appends `each` entries of 4 KB one after another.
async fn appends(home: &Path, attempts: u64, each: u64) -> f64 {
    let store = sample::open(home);
    let entry = sample::output(&"x".repeat(4096));
    let start = Instant::now();
    let running: Vec<_> = (0..attempts)
        .map(|_| {
            let transcript: Arc<dyn Transcript> = Transcripts::open(&*store, sample::attempt(store.next_task().0, 1));
            let entry = entry.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    transcript.append(entry.clone()).await.unwrap();
                }
            })
        })
        .collect();
    for attempt in running {
        attempt.await.unwrap();
    }
    (attempts * each) as f64 / start.elapsed().as_secs_f64()
}
