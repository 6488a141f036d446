//! `cargo xtask …`: the chores of the house.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{
    bench::{self, Measure},
    picture, tidy,
    trial::{self, Extent, agents, material, table},
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of the house")]
struct Chores {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check the rules of the house: imports, headers, names, sizes, words, links, promises, licences
    Tidy,
    /// Run all tests; says how to install what the machine lacks
    Test {
        /// Also the long ones
        #[arg(long)]
        full: bool,
    },
    /// Fetch the test material only, so that `cargo test` works without `cargo xtask test`
    Material,
    /// Install the agents that tests drive, and print where they are: for `OVERNIGHT_AGENTS=… cargo test`
    Agents {
        /// Try every one of them in every way, and write the table of docs/agents.md
        #[arg(long)]
        table: bool,
    },
    /// Draw docs/task.mmd from the code
    Picture,
    /// Measure, with the release binary, and write docs/benchmarks.md
    Bench {
        /// All, if none is named
        measures: Vec<Measure>,
    },
}

fn main() -> ExitCode {
    match run(Chores::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<ExitCode> {
    let went_well = match chore {
        Chore::Tidy => {
            let complaints = tidy::check()?;
            for complaint in &complaints {
                println!("{complaint}");
            }
            complaints.is_empty()
        }
        Chore::Test { full } => {
            let totals = trial::run(if full { Extent::Full } else { Extent::Usual })?;
            totals.failed == 0
        }
        Chore::Material => material::fetch().map(|()| true)?,
        Chore::Agents { table: true } => table::write()?,
        Chore::Agents { table: false } => {
            println!("{}", agents::install()?.display());
            true
        }
        Chore::Picture => picture::write().map(|()| true)?,
        Chore::Bench { measures } => bench::run(&measures).map(|()| true)?,
    };
    Ok(if went_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
