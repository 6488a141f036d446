//! The program `overnight`: the command line, the daemon behind it, and the wiring of every room.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod commands;
mod config;
mod daemon;
mod home;
mod seen;
mod terminal;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use domain::Fault;

use crate::{
    cli::Cli,
    terminal::{Form, print_fault},
};

/// The exit code for a wrong command line: clap's.
const WRONG: u8 = 2;

/// How a command came out, as the exit code tells it. A wrong command line is 2 (clap's), a detached `--wait` 130.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Well,
    Badly,
}

fn main() -> ExitCode {
    // Before anything else makes a thread: these fork.
    match std::env::args_os().nth(1).as_ref().and_then(|first| first.to_str()) {
        Some(sandbox::ZYGOTE_ARGUMENT) => sandbox::zygote_main(),
        Some(sandbox::KEEPER_ARGUMENT) => sandbox::keeper_main(),
        Some(_) | None => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let form = if cli.json { Form::Json } else { Form::Text };
    match commands::perform(cli.command, form) {
        Ok(Exit::Well) => ExitCode::SUCCESS,
        Ok(Exit::Badly) => ExitCode::FAILURE,
        Err(fault) => {
            print_fault(&fault, form);
            ExitCode::FAILURE
        }
    }
}

/// Prints help, a version, or what is wrong with the command line.
fn not_understood(error: &clap::Error) -> ExitCode {
    // Nothing was parsed that could say which form is wanted. What stands after `--` is a program's own.
    let is_json = std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json");
    if !(is_json && error.use_stderr()) {
        error.exit();
    }
    let text = error.render().to_string();
    let mut parts = text.split("\n\n");
    let lines = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let what = lines(parts.next().unwrap_or_default().trim_start_matches("error: "));
    print_fault(&Fault::input(what).hint(lines(&parts.collect::<Vec<_>>().join(" "))), Form::Json);
    ExitCode::from(WRONG)
}
