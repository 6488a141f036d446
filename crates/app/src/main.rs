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

use crate::{
    cli::Cli,
    terminal::{Form, print_fault},
};

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
    let cli = Cli::parse();
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
