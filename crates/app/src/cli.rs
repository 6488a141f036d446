//! The command line as it is typed: every command, flag and example. What they do is in `commands/`.

mod agents;
mod environment;
mod turns;

use std::path::PathBuf;

use api::amount;
use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use clap_complete::Shell;
use domain::{
    brief::{self, LandingMethod},
    budget::Budget,
    ids::TaskId,
};
use regex::Regex;

use self::agents::{AGENTS_EXAMPLES, BUDGET_EXAMPLES, KEY_EXAMPLES, MODELS_EXAMPLES, PROFILES_EXAMPLES};
pub use self::agents::{Agents, Key, Models, OfAccount};
use self::environment::{ATTACH_EXAMPLES, ENV_EXAMPLES, PREVIEW_EXAMPLES, SECRET_EXAMPLES};
pub use self::environment::{At, Attach, Build, Check, Env, OfStage, OneSecret, Preview, Secret, Volume};
use self::turns::{FORK_EXAMPLES, PLAN_EXAMPLES, REPLAY_EXAMPLES, REWIND_EXAMPLES};
pub use self::turns::{Fork, Plan, Replay, Rewind};

const EXIT_CODES: &str = "\
Exit codes:
  0    done; with --wait: landed, reported, nothing to do, or green and waiting for your review
  1    failed, refused, or handed back to you
  2    the command line itself was wrong
  130  Ctrl-C while waiting: the task goes on without you";

const ABOUT: &str = "\
Hand over a task, walk away, sign off a checked change.

An agent works on each task in a workspace of its own; Overnight runs the checks on the exact commit; failures go back to \
the agent; a green change waits for your sign-off. A daemon in the background does the work, and is started when none runs. \
State is in $OVERNIGHT_HOME (default: the XDG data directory).";

const EXAMPLES: &str = "\
Examples:
  overnight run \"Handle the overflow in insert_many\" --check \"cargo test\"
  overnight inbox
  overnight diff T-12
  overnight approve T-12
  overnight demo                 # the whole of it, without a key and without a network";

#[derive(Debug, Parser)]
#[command(name = "overnight", version, about = "Hand over a task, walk away, sign off a checked change", long_about = ABOUT, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), max_term_width = 110, propagate_version = true)]
pub struct Cli {
    /// Print JSON instead of text (errors too)
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hand over a task; prints its id at once
    #[command(after_help = RUN_EXAMPLES, after_long_help = format!("{RUN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Run(Box<Run>),
    /// List tasks, newest first
    #[command(
        after_help = "Examples:\n  overnight list\n  overnight list --phase working,needs_you\n  overnight list --here --limit 100 --json"
    )]
    List(List),
    /// What needs you: questions, plans, reviews, failures; and what ended within a day
    #[command(after_help = "Examples:\n  overnight inbox\n  overnight inbox --json")]
    Inbox,
    /// Everything about one task: brief, attempts, checks, what it cost
    #[command(after_help = "Examples:\n  overnight show T-12\n  overnight show 12 --json")]
    Show(OfTask),
    /// What happened, line by line
    #[command(
        after_help = "Examples:\n  overnight logs T-12\n  overnight logs T-12 -f\n  overnight logs T-12 --filter 'error|FAILED'"
    )]
    Logs(Logs),
    /// The change, against its base
    #[command(
        after_help = "Examples:\n  overnight diff T-12\n  overnight diff T-12 | git apply --check\n  overnight diff T-12 --attempt 2"
    )]
    Diff(Diff),
    /// A file with the change in it: which lines are the change's, and the commits of the others
    #[command(
        after_help = "Examples:\n  overnight blame T-12 src/lib.rs\n  overnight blame T-12 src/lib.rs --attempt 2 --json"
    )]
    Blame(Blame),
    /// Put the change on branch `overnight/T-12` of this checkout, to try it
    #[command(after_help = "Examples:\n  overnight pull T-12")]
    Pull(OfTask),
    /// Say something: to the running agent at its next safe point, or to start a correction
    #[command(
        after_help = "Examples:\n  overnight comment T-12 \"Keep the old name as an alias\"\n  git diff | overnight comment T-12 -"
    )]
    Comment(Comment),
    /// Answer a question of the agent
    #[command(
        after_help = "Examples:\n  overnight answer T-12 \"Yes, drop support for 3.8\"\n  overnight answer T-12 --request 3 \"the second one\""
    )]
    Answer(Answer),
    /// A plan that waits: read it, remark on its steps, approve it
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Plan),
    /// Sign off the change you last saw, and land it; or approve the plan that waits
    #[command(after_help = APPROVE_EXAMPLES)]
    Approve(Approve),
    /// End a task and remove every trace of it (snapshots stay 30 days for `restore`)
    #[command(after_help = "Examples:\n  overnight reject T-12 --why \"wrong layer\"")]
    Reject(EndTask),
    /// Bring a rejected or canceled task back for review
    #[command(after_help = "Examples:\n  overnight restore T-12")]
    Restore(OfTask),
    /// Let a handed-back task try again; of an ended one: a new task with the same brief
    #[command(after_help = "Examples:\n  overnight retry T-12")]
    Retry(OfTask),
    /// A new task that goes on from what a turn left
    #[command(after_help = FORK_EXAMPLES)]
    Fork(Fork),
    /// Take an attempt back to what a turn left
    #[command(after_help = REWIND_EXAMPLES)]
    Rewind(Rewind),
    /// Run an attempt again from the record of its model calls: no key, no network, no token
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// End a task now
    #[command(
        alias = "kill",
        after_help = "Examples:\n  overnight cancel T-12\n  overnight kill 12 --why \"no longer wanted\""
    )]
    Cancel(EndTask),
    /// Run the daemon in the foreground (other commands start one in the background when none runs)
    #[command(after_help = "Examples:\n  overnight serve\n  OVERNIGHT_LOG=debug overnight serve")]
    Serve(Serve),
    /// Start, stop or look at the daemon, or install it as a user service
    #[command(
        subcommand,
        after_help = "Examples:\n  overnight daemon status\n  overnight daemon stop\n  overnight daemon install"
    )]
    Daemon(Daemon),
    /// What this machine has and lacks, with the mend for each
    #[command(after_help = "Examples:\n  overnight doctor\n  overnight doctor --json")]
    Doctor,
    /// The whole job on a small repository with a scripted model: no key, no network
    #[command(after_help = "Examples:\n  overnight demo")]
    Demo,
    /// A task's whole journal as JSON lines
    #[command(after_help = "Examples:\n  overnight export T-12 > T-12.jsonl")]
    Export(OfTask),
    /// The agents here: version, how each is driven, what is missing
    #[command(after_help = AGENTS_EXAMPLES)]
    Agents {
        #[command(subcommand)]
        what: Option<Agents>,
    },
    /// The models at hand: what they cost, and whether they can be reached
    #[command(after_help = MODELS_EXAMPLES)]
    Models {
        #[command(subcommand)]
        what: Option<Models>,
    },
    /// The profiles at a base: agents with a purpose, for `run --profile`
    #[command(after_help = PROFILES_EXAMPLES)]
    Profiles(At),
    /// The budgets that tasks share: limit, spent, reserved
    #[command(after_help = BUDGET_EXAMPLES)]
    Budget,
    /// Keep providers' keys, sealed, for all tasks of this home
    #[command(subcommand, after_help = KEY_EXAMPLES)]
    Key(Key),
    /// What tasks of this repository start on: see it, build it, judge it
    #[command(subcommand, after_help = ENV_EXAMPLES)]
    Env(Env),
    /// Keep secrets of this repository, sealed, by name
    #[command(subcommand, after_help = SECRET_EXAMPLES)]
    Secret(Secret),
    /// Work in a task's sandbox by hand
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(Attach),
    /// Look at a service in a task's sandbox, on a port of this machine, until Ctrl-C
    #[command(after_help = PREVIEW_EXAMPLES)]
    Preview(Preview),
    /// Completions for a shell, to standard output
    #[command(
        after_help = "Examples:\n  overnight completions bash > ~/.local/share/bash-completion/completions/overnight"
    )]
    Completions { shell: Shell },
    /// The manual page, to standard output; or the pages of all commands into a directory
    #[command(after_help = "Examples:\n  overnight man | man -l -\n  overnight man --dir ~/.local/share/man/man1")]
    Man {
        /// Write one page per command here
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// A provider that plays a script, for the demo, tests and benchmarks
    #[command(hide = true)]
    ScriptedModel(ScriptedModel),
}

const RUN_EXAMPLES: &str = "\
Examples:
  overnight run \"Handle the overflow in insert_many\" --check \"cargo test\"
  overnight run --brief brief.md --wait
  overnight run \"Why is start-up slow?\" --report
  overnight run \"Fix the lints\" --agent command -- cargo clippy --fix --allow-dirty
  overnight run \"Finish what I began\" --wip --budget 2usd --timeout 1h";

const APPROVE_EXAMPLES: &str = "\
The approval names the commit that `show`, `diff` or `inbox` last showed you; when the change has moved on since, it is refused.

Examples:
  overnight approve T-12
  overnight approve T-12 --accept protected-paths
  overnight approve T-12 --head 3f2a91c0be";

/// A task by its id.
#[derive(Debug, Args)]
pub struct OfTask {
    /// T-12 or 12
    pub task: TaskId,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag as it is typed")]
pub struct Run {
    /// What is wanted, in a sentence or more; `-` reads it from standard input
    #[arg(required_unless_present = "brief")]
    pub goal: Option<String>,
    /// A brief: Markdown with TOML front matter; `-` is standard input. Flags add to it or win over it
    #[arg(long, value_name = "FILE")]
    pub brief: Option<PathBuf>,
    /// A command that judges the result, for `sh -c`; repeatable. Without one they are detected
    #[arg(long = "check", value_name = "CMD")]
    pub checks: Vec<String>,
    /// Who works: one of `overnight agents`; `command` with the program after `--`
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// The model: one of `overnight models`, or PROVIDER/NAME
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Work as this profile: one of `overnight profiles`
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Whose login the agent calls its model by. `own` lends it the one that you have with it: a key in its sandbox, and no metering
    #[arg(long, value_name = "WHOSE")]
    pub login: Option<Login>,
    /// Who goes on when the agent stalls: AGENT, AGENT:MODEL or :MODEL; repeatable
    #[arg(long = "fallback", value_name = "WHO")]
    pub fallbacks: Vec<String>,
    /// Start from this revision instead of HEAD
    #[arg(long, value_name = "REF")]
    pub base: Option<String>,
    /// Land on this branch instead of the current one
    #[arg(long, value_name = "BRANCH")]
    pub into: Option<String>,
    /// Hand over uncommitted work too
    #[arg(long)]
    pub wip: bool,
    /// Deliver a text; change nothing
    #[arg(long)]
    pub report: bool,
    /// The agent proposes a plan first, which waits for `approve`
    #[arg(long, conflicts_with = "report")]
    pub plan: bool,
    /// With `--plan`: this model criticises the plan before you see it
    #[arg(long, value_name = "MODEL")]
    pub critic: Option<String>,
    /// Stay, and show progress until a person is needed or the task has ended
    #[arg(long)]
    pub wait: bool,
    /// Hard limits: 2usd, 200ktok, 30rounds, 2h; several with commas
    #[arg(long, value_name = "LIMITS", value_parser = amount_budget)]
    pub budget: Option<Budget>,
    /// Only paths that match may change (gitignore pattern); repeatable
    #[arg(long = "allow", value_name = "PATH")]
    pub allowed: Vec<String>,
    /// Checks take matching paths from the base, whatever the agent writes; repeatable
    #[arg(long = "protect", value_name = "PATH")]
    pub protected: Vec<String>,
    /// Hard limit on the working time: 45m, 2h
    #[arg(long, value_name = "TIME", value_parser = amount_seconds)]
    pub timeout: Option<u64>,
    /// How an approved change lands
    #[arg(long, value_name = "HOW")]
    pub land: Option<Land>,
    /// Run the agent and the checks as plain processes, not shut in
    #[arg(long)]
    pub unconfined: bool,
    /// For `--agent command`: the program and its arguments
    #[arg(last = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Land {
    /// One commit on top of the target
    Squash,
    /// A merge commit
    Merge,
    /// Only the branch `overnight/T-12`
    Branch,
}

impl From<Land> for LandingMethod {
    fn from(land: Land) -> Self {
        match land {
            Land::Squash => Self::Squash,
            Land::Merge => Self::Merge,
            Land::Branch => Self::Branch,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Login {
    /// The gateway's: metered, with the key outside
    Gateway,
    /// Yours, of a subscription
    Own,
}

impl From<Login> for brief::Login {
    fn from(login: Login) -> Self {
        match login {
            Login::Gateway => Self::Gateway,
            Login::Own => Self::Own,
        }
    }
}

#[derive(Debug, Args)]
pub struct List {
    /// Only these phases, with commas: working, needs_you, landing, closing, ended
    #[arg(long, value_name = "PHASES")]
    pub phase: Option<String>,
    /// Only tasks of the repository here
    #[arg(long)]
    pub here: bool,
    /// At most this many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub of: OfTask,
    /// Stay, and print what comes until the task has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines that match
    #[arg(long, value_name = "REGEX")]
    pub filter: Option<Regex>,
}

#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    pub of: OfTask,
    /// Of this attempt instead of the best one
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Blame {
    #[command(flatten)]
    pub of: OfTask,
    /// The file, from the top of the repository
    pub path: String,
    /// Of this attempt instead of the best one
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Comment {
    #[command(flatten)]
    pub of: OfTask,
    /// What to say; `-` reads it from standard input
    pub text: String,
}

#[derive(Debug, Args)]
pub struct Answer {
    #[command(flatten)]
    pub of: OfTask,
    /// Which question, where more than one is open
    #[arg(long, value_name = "N")]
    pub request: Option<u32>,
    /// The answer; `-` reads it from standard input
    pub answer: String,
}

#[derive(Debug, Args)]
pub struct Approve {
    #[command(flatten)]
    pub of: OfTask,
    /// The commit you approve (7 digits or more), instead of the one last shown
    #[arg(long, value_name = "COMMIT", value_parser = commit_prefix)]
    pub head: Option<String>,
    /// Accept this risk by its name; repeatable
    #[arg(long = "accept", value_name = "RISK", value_parser = PossibleValuesParser::new(RISKS))]
    pub accept: Vec<String>,
}

const RISKS: [&str; 3] = ["not-green", "protected-paths", "missing-tests"];

#[derive(Debug, Args)]
pub struct EndTask {
    #[command(flatten)]
    pub of: OfTask,
    /// Kept with the task
    #[arg(long)]
    pub why: Option<String>,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Leave the terminal, and tell the starting process when ready
    #[arg(long, hide = true)]
    pub background: bool,
}

#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Start it in the background, if none runs
    Start,
    /// Stop it; running turns are interrupted and go on at the next start
    Stop,
    /// Whether it runs, since when, and what it has to do
    Status,
    /// Install it as a systemd user service
    Install,
}

#[derive(Debug, Args)]
pub struct ScriptedModel {
    /// The script, as JSON
    #[arg(long, value_name = "FILE")]
    pub script: PathBuf,
    /// Where each request is recorded, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub log: PathBuf,
    /// The loopback port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// End when the daemon of this home does
    #[arg(long, value_name = "HOME")]
    pub until_daemon_ends: Option<PathBuf>,
}

fn amount_budget(text: &str) -> Result<Budget, String> {
    amount::parse_budget(text).map_err(|fault| fault.to_string())
}

fn amount_seconds(text: &str) -> Result<u64, String> {
    amount::parse_seconds(text).map_err(|fault| fault.to_string())
}

fn commit_prefix(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let hex = lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    match hex && (7..=64).contains(&lower.len()) {
        true => Ok(lower),
        false => Err("a commit is 7 or more hexadecimal digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use domain::{check::Risk, ids::CommitId};

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "`{}` has no examples", sub.get_name());
        }
    }

    #[test]
    fn risks_have_the_words_of_the_domain() {
        assert!(RISKS.iter().all(|word| Risk::parse(word).is_some_and(|risk| risk.word() == *word)));
    }

    #[test]
    fn a_full_commit_is_a_prefix_too() {
        let full = "0123456789abcdef0123456789abcdef01234567";
        assert!(CommitId::parse(full).is_some());
        assert_eq!(commit_prefix(full).unwrap(), full);
        assert!(commit_prefix("abc").is_err());
        assert!(commit_prefix("HEAD~12").is_err());
    }
}
