//! What workspaces and sandboxes cost, on large repositories, beside what most systems do.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::{Section, stats::Samples};
use crate::house;

type Figures = BTreeMap<String, Vec<f64>>;

/// Key in the example's output, measure, bar.
const ROWS: &[(&str, &str, &str)] = &[
    ("provision_overlay_ms", "request → first command runs, overlay, ms", "≤ 15"),
    ("laid_out_overlay_ms", "of it, laying the workspace out, ms", ""),
    ("mount_user_ms", "the mount alone, in a user namespace (what we do), ms", "≤ 1"),
    ("mount_root_ms", "the mount alone, by root in the host's namespace, ms", ""),
    ("worktree_and_copy_ms", "`git worktree add` and `cp -a` of the caches, ms", ""),
    ("provision_reflink_ms", "request → first command runs, reflink (btrfs), ms", ""),
    ("provision_copy_ms", "request → first command runs, copy, ms", ""),
    ("removed_overlay_ms", "removing it, overlay, ms", ""),
    ("fresh_kib", "disk of an untouched workspace, KiB", "≤ 64"),
    ("untouched_kib", "the same with HOME and `/tmp` of a sandbox that ran a first command, KiB", ""),
    ("edited_kib", "disk of one with 20 edits and a `git status`, besides `.git`, KiB", "≤ 1,024"),
    ("edited_git_kib", "its `.git`, KiB", "≤ 1,024"),
    ("committed_git_kib", "its `.git` after `git add` and `git commit`, KiB", ""),
    ("hundred_s", "100 workspaces at once, first command run in each, s", "≤ 2"),
    ("hundred_mib", "their disk, MiB", "≤ 10"),
    ("snapshot_50000_ms", "snapshot of a 20-file change, 50,000 files, ms", "≤ 30"),
    ("snapshot_500_ms", "the same of 500 files, ms", ""),
    ("command_warm_ms", "`true` in a warm sandbox, ms", ""),
    ("command_plain_ms", "`true` as a plain process, ms", ""),
    ("command_cold_ms", "`true` in a sandbox made for it, ms", "≤ 15"),
    ("command_cold_beside_ms", "the same while the kernel takes another's network namespace down, ms", ""),
    ("status_inside_ms", "`git status` inside, 50,000 files, ms", ""),
    ("status_plain_ms", "`git status` in a plain checkout, ms", ""),
    ("kill_ms", "killing a tree with 50 daemons that ignore signals, ms", "≤ 200"),
    ("left_after_kill", "processes left after it", "0"),
    ("cargo_built_again", "crates built again by the first `cargo check` over an environment's layer", "0"),
    ("cargo_warm_ms", "that `cargo check`, ms", ""),
    ("npm_built_again", "files built again by the first `npm test` over an environment's layer", "0"),
];

/// Two medians made one figure.
type Together = fn(f64, f64) -> f64;

/// Measure, the two keys, how the medians are put together, bar.
const TOGETHER: &[(&str, [&str; 2], Together, &str)] = &[
    ("times faster than worktree and copy", ["worktree_and_copy_ms", "provision_overlay_ms"], ratio, "≥ 500"),
    ("snapshot, 50,000 files to 500", ["snapshot_50000_ms", "snapshot_500_ms"], ratio, "≤ 2"),
    ("sandboxed command over a plain one, ms", ["command_warm_ms", "command_plain_ms"], difference, "≤ 2"),
    ("`git status` inside to plain", ["status_inside_ms", "status_plain_ms"], ratio, "≤ 1.5"),
];

fn ratio(one: f64, other: f64) -> f64 {
    one / other
}

fn difference(one: f64, other: f64) -> f64 {
    one - other
}

pub(super) fn measure() -> Result<Section> {
    // Not below /tmp: a sandbox has one of its own there, and would need places for what it shows of this one.
    let directory = house::root().join("target").join(format!("workspaces-{}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(house::root());
    cargo.args(["run", "--release", "--locked", "--quiet", "--package", "overnight", "--example", "workspaces", "--"]);
    let text = house::output(cargo.arg(&directory));
    // What stays is in the way of nothing.
    let _ = fs::remove_dir_all(&directory);
    let text = text?;
    let mut figures = Figures::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        if let Ok(value) = value.parse() {
            figures.entry(key.to_owned()).or_default().push(value);
        }
    }
    ensure!(figures.contains_key("provision_overlay_ms"), "the example tells no figures:\n{text}");
    let mut section = Section::new(
        "Workspaces",
        "A repository of 50,000 files of 4 KB, ten to a directory, with 50,000 untracked cache files of 8 KB in its environment's layer; \
         a network namespace and every wall of the sandbox up; measures that are compared taken in turn \
         (`cargo run --release -p overnight --example workspaces`).",
    );
    let samples = |key: &str| figures.get(key).map(|samples| Samples::new(samples.clone()));
    for (key, measure, bar) in ROWS {
        match samples(key) {
            Some(samples) => section.row(measure, samples, bar),
            None => section.row(measure, "not taken: no such file system here", bar),
        }
    }
    for (measure, [one, other], together, bar) in TOGETHER {
        if let (Some(one), Some(other)) = (samples(one), samples(other)) {
            section.row(measure, format!("{:.2}", together(one.median(), other.median())), bar);
        }
    }
    Ok(section)
}
