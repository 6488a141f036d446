//! `cargo xtask bench`: measures what the project promises to reach, with the release binary as a user has it, and writes it
//! into `docs/benchmarks.md`. Every measure says on what machine and with what spread.

mod build;
mod bytes;
mod crash;
mod crowd;
mod gateway;
mod journal;
mod latency;
mod memory;
mod page;
mod rounds;
mod session;
mod stats;
mod workspace;

use anyhow::{Context, Result};
use clap::ValueEnum;

pub use crash::{Books, Storm, storm};
pub use page::Section;

use crate::program;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// `run` until the id is answered, and until the first model request reaches the provider
    Latency,
    /// What the harness adds to a round
    Rounds,
    /// The idle daemon, and each further running attempt
    Memory,
    /// 100 tasks at once
    Crowd,
    /// 1,000 tasks at once
    BigCrowd,
    /// What is sent to the provider
    Bytes,
    /// Events per second through `step` and durable commit
    Journal,
    /// What the gateway's proxy adds to a call, and what open streams weigh
    Gateway,
    /// `kill -9` of the daemon, 50 times over 40 tasks
    Crash,
    /// Workspaces on 50,000 files, and sandboxes
    Workspace,
    /// A clean release build, and the binary's size
    Build,
}

/// Takes the measures (all of them, if none is named) and writes each into the page as soon as it is there.
pub fn run(measures: &[Measure]) -> Result<()> {
    let all = Measure::value_variants();
    for measure in if measures.is_empty() { all } else { measures } {
        eprintln!("measuring {measure:?}");
        let section = measure.take().with_context(|| format!("cannot measure {measure:?}"))?;
        println!("{}", section.render());
        section.write()?;
    }
    Ok(())
}

impl Measure {
    fn take(self) -> Result<Section> {
        let program = program::for_benchmarks;
        match self {
            Self::Latency => latency::measure(&program()?),
            Self::Rounds => rounds::measure(&program()?),
            Self::Memory => memory::measure(&program()?),
            Self::Crowd => crowd::measure(&program()?, 100),
            Self::BigCrowd => crowd::measure(&program()?, 1000),
            Self::Bytes => bytes::measure(&program()?),
            Self::Journal => journal::measure(),
            Self::Gateway => gateway::measure(),
            Self::Crash => crash::measure(&program()?),
            Self::Workspace => workspace::measure(),
            Self::Build => build::measure(),
        }
    }
}
