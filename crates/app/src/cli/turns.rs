//! What is typed about turns and plans: going back to one, running them again, remarks on a step.

use clap::{ArgGroup, Args};

use super::OfTask;

pub(super) const FORK_EXAMPLES: &str = "\
`overnight logs` numbers the turns. The new task has the same brief, the work up to that turn, and the conversation that led to it.

Examples:
  overnight fork T-12 --at 2 -m \"Without the cache\"
  overnight fork T-12 --at 1 --agent claude --model claude-opus-5-5";

pub(super) const REWIND_EXAMPLES: &str = "\
What came after that turn stays in the log, and counts for nothing. Without -m only the checks run.

Examples:
  overnight rewind T-12 --to 2
  overnight rewind T-12 --to 2 -m \"Keep the interface as it was\"";

pub(super) const REPLAY_EXAMPLES: &str = "\
The agent and its tools run for real, in a workspace of their own; the model's answers come from the record, which is kept for 30 \
days unless config.toml says otherwise.

Examples:
  overnight replay T-12
  overnight replay T-12 --attempt 2 --json";

pub(super) const PLAN_EXAMPLES: &str = "\
Examples:
  overnight plan T-12
  overnight plan T-12 --comment 3 \"only where the tests reach\" --comment 5 \"leave this out\"
  overnight plan T-12 --refine \"Smaller steps\"
  overnight plan T-12 --approve";

#[derive(Debug, Args)]
pub struct Fork {
    #[command(flatten)]
    pub of: OfTask,
    /// The last turn that is taken over
    #[arg(long, value_name = "TURN")]
    pub at: u32,
    /// Of this attempt instead of the best one
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// What to do from there, instead of going on; `-` reads it from standard input
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub message: String,
    /// Go on with this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Go on with this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
}

#[derive(Debug, Args)]
pub struct Rewind {
    #[command(flatten)]
    pub of: OfTask,
    /// The last turn that counts
    #[arg(long, value_name = "TURN")]
    pub to: u32,
    /// Of this attempt instead of the best one
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// What to do from there; `-` reads it from standard input
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
}

#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    pub of: OfTask,
    /// Of this attempt instead of the best one
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").args(["comments", "refine"]).multiple(true).conflicts_with("approve"))]
pub struct Plan {
    #[command(flatten)]
    pub of: OfTask,
    /// A remark on the step of this number; repeatable
    #[arg(long = "comment", num_args = 2, value_names = ["STEP", "TEXT"], action = clap::ArgAction::Append)]
    pub comments: Vec<String>,
    /// A remark on the whole; `-` reads it from standard input
    #[arg(long, value_name = "TEXT")]
    pub refine: Option<String>,
    /// Let the work begin with this plan
    #[arg(long)]
    pub approve: bool,
    /// Which plan, where more than one waits
    #[arg(long, value_name = "N")]
    pub request: Option<u32>,
}
