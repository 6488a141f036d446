//! A clean release build, as a new user makes it.

use std::{fs, process::Command, time::Instant};

use anyhow::{Context, Result};

use super::Section;
use crate::house;

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
pub(super) fn measure() -> Result<Section> {
    let target = std::env::temp_dir().join(format!("overnight-build-{}", std::process::id()));
    let start = Instant::now();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(house::root()).env("CARGO_TARGET_DIR", &target);
    house::output(cargo.args(["build", "--release", "--locked", "--quiet", "--package", "overnight"]))?;
    let elapsed = start.elapsed();
    let size = fs::metadata(target.join("release/overnight")).context("the build made no binary")?.len();
    fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    let mut section = Section::new(
        "Release build",
        "`cargo build --release` into an empty target directory, crates already downloaded.",
    );
    section.row("clean build, minutes", format!("{:.1}", elapsed.as_secs_f64() / 60.0), "≤ 10");
    section.row("stripped binary, MB", format!("{:.1}", size as f64 / 1e6), "≤ 40");
    Ok(section)
}
