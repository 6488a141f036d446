//! What is typed about environments, secrets, and sandboxes that a person works in.

use clap::{Args, Subcommand, ValueEnum};
use domain::environment::Stage as DomainStage;

use super::OfTask;

pub(super) const ENV_EXAMPLES: &str = "\
A base says in overnight.toml what is installed before a task begins; without one it is detected (docs/how-to/environments.md).

Examples:
  overnight env show
  overnight env build
  overnight env build --fresh --quiet
  overnight env check --base v1.2";

pub(super) const SECRET_EXAMPLES: &str = "\
Values are read from the terminal (not shown) or from standard input, never from the command line, and are never printed.

Examples:
  overnight secret set NPM_TOKEN
  overnight secret set DEPLOY_KEY --stage production < key.pem
  overnight secret list
  overnight secret rm NPM_TOKEN";

pub(super) const ATTACH_EXAMPLES: &str = "\
You share the sandbox of a running turn, or have that of a change that waits for review to yourself. What you changed is kept \
when you leave: beside a turn the agent is told of it; on a waiting change it becomes the head, and the checks run.

Examples:
  overnight attach T-12
  overnight attach T-12 --attempt 2 -- cargo test
  overnight attach T-12 < steps.sh";

pub(super) const PREVIEW_EXAMPLES: &str = "\
Examples:
  overnight preview T-12
  overnight preview T-12 3000
  overnight preview T-12 3000 --listen 8080";

#[derive(Debug, Subcommand)]
pub enum Env {
    /// What the base says, whether it is healthy, and the layers there are
    Show(At),
    /// Build the layer that tasks start on; prints how it goes
    #[command(visible_alias = "refresh")]
    Build(Build),
    /// Run the checks on the base, in the layer that serves it
    Check(Check),
    /// What a build printed
    Log {
        /// As a failed build names it; without one, that of the newest layer
        id: Option<String>,
    },
}

/// A base of the repository here.
#[derive(Debug, Args)]
pub struct At {
    /// Of this revision instead of HEAD
    #[arg(long, value_name = "REF")]
    pub base: Option<String>,
}

#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    pub at: At,
    /// Start from nothing instead of the newest layer; cache directories are kept
    #[arg(long)]
    pub fresh: bool,
    #[command(flatten)]
    pub volume: Volume,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub at: At,
    #[command(flatten)]
    pub volume: Volume,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Volume {
    /// Print only what it comes to
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Keep a value, sealed, for the repository here
    Set(OneSecret),
    /// Names of what is kept (never values)
    List(OfStage),
    /// Forget one
    Rm(OneSecret),
}

#[derive(Debug, Args)]
pub struct OneSecret {
    /// As a variable is named: NPM_TOKEN
    pub name: String,
    #[command(flatten)]
    pub of: OfStage,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct OfStage {
    /// Which values: production ones are used only where the definition says so
    #[arg(long, default_value = "staging")]
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Stage {
    Staging,
    Production,
}

impl From<Stage> for DomainStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Staging => Self::Staging,
            Stage::Production => Self::Production,
        }
    }
}

#[derive(Debug, Args)]
pub struct Attach {
    #[command(flatten)]
    pub of: OfTask,
    /// Of this attempt instead of the one under review
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// A program instead of a shell
    #[arg(last = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Preview {
    #[command(flatten)]
    pub of: OfTask,
    /// The port in the sandbox; without one, that of the first service that names one
    pub port: Option<u16>,
    /// The port on this machine; without one the same, or a free one where that is taken
    #[arg(long, value_name = "PORT")]
    pub listen: Option<u16>,
    /// Of this attempt instead of the one under review
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}
