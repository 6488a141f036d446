//! The program `overnight`, built as it is needed.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::house;

/// Names the program to try or measure, instead of building it: `cargo xtask test` has built it together with the tests.
pub(crate) const VARIABLE: &str = "OVERNIGHT_TEST_BINARY";

/// How the program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Debug,
    Release,
}

/// Builds the program, which costs nothing when it is built already, and says where it is.
fn build(profile: Profile) -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(house::root()).args(["build", "--quiet", "--locked", "--package", "overnight"]);
    cargo.args(["--message-format=json-render-diagnostics"]);
    cargo.args((profile == Profile::Release).then_some("--release"));
    let messages = house::output(&mut cargo)?;
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executables.next_back().context("cargo names no executable")
}

/// The program that tests try: the one that is named, else a debug build.
pub fn for_tests() -> Result<PathBuf> {
    named_or(Profile::Debug)
}

/// The program that is measured: the one that is named, else a release build.
pub fn for_benchmarks() -> Result<PathBuf> {
    named_or(Profile::Release)
}

fn named_or(profile: Profile) -> Result<PathBuf> {
    env::var_os(VARIABLE).map_or_else(|| build(profile), |path| Ok(path.into()))
}

/// Where a build of the whole workspace with its tests puts the program.
pub(crate) fn beside_tests() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(house::root()).args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let metadata: Value =
        serde_json::from_str(&house::output(&mut cargo)?).context("cargo metadata printed no JSON")?;
    let target = metadata.get("target_directory").and_then(Value::as_str).context("cargo names no target directory")?;
    Ok(PathBuf::from(target).join("debug/overnight"))
}
