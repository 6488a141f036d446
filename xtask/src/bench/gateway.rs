//! What the gateway's proxy adds to a streamed call, and what open streams weigh.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result};

use super::{Section, stats::Samples};
use crate::house;

const RUNS: usize = 3;
/// Of the example: the name of a figure, its row, its bar.
const ROWS: [(&str, &str, &str); 5] = [
    ("added_p50_ms", "added to a call with 50 at once, median, ms", "≤ 1"),
    ("added_p99_ms", "added to a call with 50 at once, p99, ms", "≤ 5"),
    ("processor_ms", "processor time for a request of 50 KB, ms", "≤ 0.3"),
    ("idle_mb", "memory without a stream, MB", ""),
    ("streams_mb", "memory with 1,000 open streams, MB", "≤ 150"),
];

pub(super) fn measure() -> Result<Section> {
    let mut figures = BTreeMap::<String, Vec<f64>>::new();
    for _ in 0..RUNS {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(house::root());
        cargo.args(["run", "--release", "--locked", "--quiet", "--package", "gateway", "--example", "streams"]);
        for (name, figure) in house::output(&mut cargo)?.lines().filter_map(|line| line.split_once(' ')) {
            let figure = figure.parse().with_context(|| format!("`{name}` is no number: {figure}"))?;
            figures.entry(name.to_owned()).or_default().push(figure);
        }
    }
    let mut section = Section::new(
        "Gateway",
        "A client asks a scripted provider directly and through the gateway's proxy in turn, each a process of its own: 3,000 \
         streamed calls of 50 KB either way, 50 at once, the provider 250 ms slow; ledger and record cost nothing of their own here \
         (`cargo run --release -p gateway --example streams`). What is added is the difference of the two distributions at the same \
         place. Memory is the proportional set size of the gateway's process.",
    );
    for (name, row, bar) in ROWS {
        let samples = figures.remove(name).with_context(|| format!("the gateway's example tells no {name}"))?;
        section.row(row, Samples::new(samples), bar);
    }
    Ok(section)
}
