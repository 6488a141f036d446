//! Shell completions and manual pages, made from the command line's own description.

use std::{fs, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;
use domain::Fault;

use crate::{Exit, cli::Cli, terminal};

pub fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "overnight", &mut script);
    terminal::print_bytes(&script);
    Exit::Well
}

/// The main page to standard output, or one page per command into a directory.
pub fn man(directory: Option<&Path>) -> Result<Exit, Fault> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| Fault::bug(format!("the manual page cannot be written: {error}")))?;
        terminal::print_bytes(&page);
        return Ok(Exit::Well);
    };
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|error| Fault::environment(format!("{} cannot be written: {error}", directory.display())))?;
    Ok(Exit::Well)
}
