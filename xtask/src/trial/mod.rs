//! `cargo xtask test`: from a clean clone to one closing line with the totals of all tests.

pub mod agents;
pub mod material;
mod prerequisites;
pub mod table;
mod totals;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

pub use totals::Totals;

use self::totals::Runner;
use crate::{house, program};

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What has to be green before every merge: at most 20 minutes on 2 cores.
    Usual,
    /// Also the long tests, which are marked as ignored.
    Full,
}

/// Runs all tests and prints the closing line. The totals say whether all passed.
pub fn run(extent: Extent) -> Result<Totals> {
    prerequisites::check()?;
    material::fetch()?;
    let totals = tests(extent, &agents::install()?)?;
    println!("{totals}");
    Ok(totals)
}

/// With `cargo nextest` where it is installed, else with `cargo test`; every crate, to the end even after a failure.
fn tests(extent: Extent, agents: &Path) -> Result<Totals> {
    let cargo = env!("CARGO");
    let has_nextest = Command::new(cargo)
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut command = Command::new(cargo);
    command.current_dir(house::root()).env("OVERNIGHT_TEST_CACHE", house::cache()?).env(agents::VARIABLE, agents);
    // Built with the tests of `app`: another build for the other tests would differ in features, and take minutes.
    command.env(program::VARIABLE, program::beside_tests()?);
    if has_nextest {
        // Its report is on standard error, which is brought to standard output for reading.
        command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--color=never"]);
        command.args(["--status-level=fail", "--final-status-level=fail", "--failure-output=final"]);
        command.args((extent == Extent::Full).then_some("--run-ignored=all"));
        command.stdout(Stdio::inherit()).stderr(Stdio::piped());
    } else {
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"]);
        if extent == Extent::Full {
            command.args(["--", "--include-ignored"]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    }
    let mut child = command.spawn().context("cannot start cargo: is it on the PATH?")?;
    let output: Option<Box<dyn std::io::Read>> = if has_nextest {
        child.stderr.take().map(|it| Box::new(it) as _)
    } else {
        child.stdout.take().map(|it| Box::new(it) as _)
    };
    let mut totals = Totals::default();
    for line in BufReader::new(output.context("cargo's output is a pipe")?).split(b'\n') {
        let line = line.context("cannot read what cargo prints")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        totals.read(if has_nextest { Runner::Nextest } else { Runner::Cargo }, &line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    // A crate that does not build, or a binary that dies before it reports, is a failure too.
    if !status.success() && totals.failed == 0 {
        totals.failed = 1;
    }
    Ok(totals)
}
