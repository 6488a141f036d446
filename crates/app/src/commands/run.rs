//! `run`: hands over a task.

use std::{
    env, fs,
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
};

use api::{
    brief_file,
    wire::{self, Submitted, brief},
};
use domain::{Fault, brief::Login, budget::Budget, check::CheckSpec, ids::TaskId, ports::model::Credentials};

use super::{Context, env::before_first_use, login, text_or_stdin, wait};
use crate::{
    Exit,
    cli::Run,
    client::{of_task, read_json},
    terminal::{self, Form, Paint, clean, clean_line},
};

pub fn run(context: &Context, args: Run) -> Result<Exit, Fault> {
    let (waits, mut submit) = (args.wait, submission(args)?);
    if let Some(wire::Brief { login: Some(Login::Own), agent: Some(agent), .. }) = &submit.brief {
        submit.credentials.0.extend(login::of(context, agent)?);
    }
    let answer = context.client.post("tasks", &submit)?;
    let Submitted { task, base, target, notes } = read_json(&answer)?;
    // With `--wait` the last line is the JSON: the task as it is then.
    match context.form {
        Form::Json if waits => {}
        Form::Json => context.print_json(&answer),
        Form::Text => terminal::print(&format!("{}\n", task.id)),
    }
    if context.form == Form::Text {
        let mut text = String::new();
        for note in &notes {
            text.push_str(&format!("note: {}\n", clean(note)));
        }
        if io::stderr().is_terminal() {
            let place =
                target.map_or_else(|| format!("branch overnight/{}", task.id), |target| format!("branch {target}"));
            let line = format!("{} · from {} for {place}", clean_line(&task.title, 72), base.short());
            text.push_str(&format!("{}\n", context.screen.paint(Paint::Dim, line)));
            if !waits {
                text.push_str(&format!("follow it: overnight logs -f {}   what needs you: overnight inbox\n", task.id));
            }
        }
        text.push_str(&environment(context, task.id));
        terminal::print_error(&text);
    }
    if waits { wait::wait(context, task.id) } else { Ok(Exit::Well) }
}

/// What a person should know of the environment before it is first used. The task is on its way already, so a fault is told and
/// no more.
fn environment(context: &Context, task: TaskId) -> String {
    match context.client.get_json(&of_task(task, "environment")) {
        Ok(environment) => {
            before_first_use(&environment).map_or_else(String::new, |line| format!("{}\n", clean(&line)))
        }
        Err(fault) => format!("note: its environment cannot be told: {}\n", clean(&fault.to_string())),
    }
}

fn submission(args: Run) -> Result<wire::Submit, Fault> {
    let directory = match repository_here()? {
        None if args.report => None,
        Some(_) | None => Some(current_directory()?),
    };
    let (base, into, wip, unconfined) = (args.base.clone(), args.into.clone(), args.wip, args.unconfined);
    let mut brief = match &args.brief {
        Some(file) => read_brief(file)?,
        None => wire::Brief::default(),
    };
    amend(&mut brief, args)?;
    let (brief, credentials) = (Some(brief), credentials());
    Ok(wire::Submit { brief, brief_markdown: None, directory, base, into, wip, credentials, unconfined })
}

fn read_brief(file: &Path) -> Result<wire::Brief, Fault> {
    let text = if file == Path::new("-") {
        text_or_stdin("-".to_owned())?
    } else {
        fs::read_to_string(file).map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::InvalidData => "a brief is Markdown in UTF-8",
                _ => "name a file that is there, or `-` for standard input",
            };
            Fault::input(format!("the brief {} cannot be read: {error}", file.display())).hint(hint)
        })?
    };
    brief_file::parse(&text).map_err(|fault| fault.at(file.display()))
}

/// Puts the flags into the brief: lists are added to, single values win.
fn amend(brief: &mut wire::Brief, args: Run) -> Result<(), Fault> {
    if let Some(goal) = args.goal {
        brief.goal = text_or_stdin(goal)?;
    }
    brief.checks.extend(args.checks.into_iter().map(|line| brief::Check(CheckSpec::from_command(line))));
    brief.allowed_paths.extend(args.allowed);
    brief.protected_paths.extend(args.protected);
    brief.agent = args.agent.or(brief.agent.take());
    brief.model = args.model.or(brief.model.take());
    brief.login = args.login.map(Into::into).or(brief.login);
    brief.profile = args.profile.or(brief.profile.take());
    brief.critic = args.critic.or(brief.critic.take());
    brief.fallbacks.extend(args.fallbacks.into_iter().map(brief::Fallback::from));
    if !args.argv.is_empty() {
        brief.command = args.argv;
    }
    brief.report |= args.report;
    brief.plan |= args.plan;
    brief.land = args.land.map(Into::into).or(brief.land);
    if args.budget.is_some() || args.timeout.is_some() {
        let kept = brief.budget.map_or_else(Budget::default, |brief::Budget(budget)| budget);
        let new = args.budget.unwrap_or_default();
        brief.budget = Some(brief::Budget(Budget {
            cost: new.cost.or(kept.cost),
            tokens: new.tokens.or(kept.tokens),
            rounds: new.rounds.or(kept.rounds),
            wall_s: args.timeout.or(new.wall_s).or(kept.wall_s),
        }));
    }
    Ok(())
}

/// The keys and addresses of whoever calls, not of whoever once started the daemon.
pub fn credentials() -> Credentials {
    let set =
        |name: &&str| env::var(name).ok().filter(|value| !value.is_empty()).map(|value| ((*name).to_owned(), value));
    Credentials(Credentials::VARIABLES.iter().filter_map(set).collect())
}

pub fn current_directory() -> Result<PathBuf, Fault> {
    env::current_dir().map_err(|error| {
        Fault::environment(format!("the current directory cannot be found: {error}")).hint("change to one that exists")
    })
}

/// The top of the repository around the current directory, if it is in one. A guess that costs nothing: the daemon looks closer.
pub fn repository_here() -> Result<Option<PathBuf>, Fault> {
    let here = current_directory()?;
    let is_repository =
        |path: &&Path| path.join(".git").exists() || (path.join("HEAD").is_file() && path.join("objects").is_dir());
    Ok(here.ancestors().find(is_repository).map(Path::to_owned))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn amended(mut brief: wire::Brief, words: &[&str]) -> wire::Brief {
        let words = ["overnight", "run"].iter().chain(words);
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!("not `run`") };
        amend(&mut brief, *args).unwrap();
        brief
    }

    #[test]
    fn flags_add_to_lists_and_win_over_single_values() {
        let file = "+++\nbudget = \"2usd, 1h\"\nchecks = [\"one\"]\nmodel = \"a\"\n+++\n# Goal of the file\n";
        let brief = amended(
            brief_file::parse(file).unwrap(),
            &["--brief", "x", "--check", "two", "--budget", "3usd", "--timeout", "2h", "--allow", "src/**", "--plan"],
        );
        let checks: Vec<_> = brief.checks.iter().map(|check| check.0.command.as_str()).collect();
        assert_eq!(checks, ["one", "two"]);
        let accepted = brief.accept().unwrap();
        assert_eq!(accepted.goal, "Goal of the file");
        assert_eq!(accepted.budget.cost.unwrap().0, 3_000_000);
        assert_eq!(accepted.budget.wall_s, Some(7200));
        assert_eq!(accepted.model.as_deref(), Some("a"));
        assert_eq!(accepted.allowed_paths, ["src/**"]);
    }

    #[test]
    fn who_works_is_said_by_flags_too() {
        let file = "+++\nagent = \"claude\"\nprofile = \"implementer\"\nfallbacks = [\"builtin\"]\n+++\n# Do it\n";
        let words =
            ["--brief", "x", "--agent", "codex", "--login", "own", "--fallback", ":big", "--plan", "--critic", "c"];
        let accepted = amended(brief_file::parse(file).unwrap(), &words).accept().unwrap();
        assert_eq!((accepted.agent.name.as_str(), accepted.agent.login), ("codex", Login::Own));
        assert_eq!((accepted.profile.as_deref(), accepted.critic.as_deref()), (Some("implementer"), Some("c")));
        let fallbacks: Vec<String> =
            accepted.fallbacks.into_iter().map(|fallback| brief::Fallback(fallback).into()).collect();
        assert_eq!(fallbacks, ["builtin", ":big"]);
    }

    #[test]
    fn a_program_after_the_dashes_is_the_agent() {
        let brief = amended(wire::Brief::default(), &["Fix the lints", "--", "cargo", "clippy", "--fix"]);
        let accepted = brief.accept().unwrap();
        assert_eq!(accepted.agent.name, "command");
        assert_eq!(accepted.agent.argv, ["cargo", "clippy", "--fix"]);
    }
}
