//! Events through `step` and durable commit.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Result, ensure};

use super::{Section, stats::Samples};
use crate::house;

const RUNS: usize = 5;

pub(super) fn measure() -> Result<Section> {
    let mut rates = BTreeMap::<u64, Vec<f64>>::new();
    for _ in 0..RUNS {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(house::root());
        cargo.args(["run", "--release", "--locked", "--quiet", "--package", "store", "--example", "journal"]);
        let text = house::output(&mut cargo)?;
        for (tasks, rate) in text.lines().filter_map(rate) {
            rates.entry(tasks).or_default().push(rate);
        }
    }
    ensure!(!rates.is_empty(), "the journal's example tells no rate");
    let mut section = Section::new(
        "Journal",
        "Many tasks at once, every event through `step` and into SQLite with `synchronous=FULL` before it counts \
         (`cargo run --release -p store --example journal`). Events per second.",
    );
    for (tasks, rates) in rates {
        section.row(&format!("events per second, tasks at once: {tasks}"), Samples::new(rates), "≥ 3,000");
    }
    Ok(section)
}

/// `200 tasks 5000 events/s …`
fn rate(line: &str) -> Option<(u64, f64)> {
    let mut words = line.split_whitespace();
    let tasks = words.next()?.parse().ok()?;
    let rate = words.nth(1)?.parse().ok()?;
    Some((tasks, rate))
}
