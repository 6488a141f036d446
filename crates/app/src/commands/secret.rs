//! `secret`: values of the repository here, by name. They are read from the terminal or standard input, and never printed.

use std::io::{self, IsTerminal, Read};

use api::wire::{self, Kept, Secrets};
use domain::{Fault, environment::Stage};

use super::{Context, run};
use crate::{
    Exit,
    cli::{OfStage, OneSecret, Secret},
    client::{escape, read_json},
    terminal::{self, Form, clean},
};

pub fn secret(context: &Context, what: &Secret) -> Result<Exit, Fault> {
    let client = &context.client;
    let body = match what {
        Secret::Set(OneSecret { name, of }) => {
            let path = path(name, *of)?;
            let value = value(name)?.ok_or_else(|| {
                Fault::input("standard input has no value")
                    .hint(format!("type it, or `overnight secret set {name} < file`"))
            })?;
            client.put(&path, &wire::SetSecret { value })?
        }
        Secret::Rm(OneSecret { name, of }) => client.delete(&path(name, *of)?)?,
        Secret::List(of) => {
            let body = client.body(client.get(&path("", *of)?)?)?;
            if context.form == Form::Text {
                terminal::print(&list(&read_json(&body)?));
                return Ok(Exit::Well);
            }
            body
        }
    };
    match context.form {
        Form::Json => context.print_json(&body),
        Form::Text => {
            let secret: wire::Secret = read_json(&body)?;
            let word = if secret.value == Kept::Set { "kept" } else { "forgotten" };
            let repository = clean(&secret.repository);
            terminal::print(&format!("{} ({}) {word} for {repository}\n", clean(&secret.name), secret.stage.word()));
            for note in &secret.notes {
                terminal::print_error(&format!("note: {}\n", clean(note)));
            }
        }
    }
    Ok(Exit::Well)
}

fn path(name: &str, of: OfStage) -> Result<String, Fault> {
    let directory = run::current_directory()?;
    let name = if name.is_empty() { String::new() } else { format!("/{}", escape(name).replace('/', "%2F")) };
    let stage = Stage::from(of.stage).word();
    Ok(format!("secrets{name}?directory={}&stage={stage}", escape(&directory.to_string_lossy())))
}

fn list(secrets: &Secrets) -> String {
    let Secrets { repository, stage, names } = secrets;
    if names.is_empty() {
        return format!("No {} secrets are kept for {}.\n", stage.word(), clean(repository));
    }
    names.iter().map(|name| format!("{}\n", clean(name))).collect()
}

/// A line of a terminal, not echoed, or all of standard input without its last line break. `None` when it is empty.
fn value(name: &str) -> Result<Option<String>, Fault> {
    if io::stdin().is_terminal() {
        return terminal::read_hidden(&format!("value of {name}"));
    }
    let mut value = String::new();
    io::stdin().lock().read_to_string(&mut value).map_err(|error| {
        Fault::input(format!("the value of {name} cannot be read: {error}")).hint("give it as UTF-8")
    })?;
    let value = value.strip_suffix('\n').map_or(value.as_str(), |value| value.strip_suffix('\r').unwrap_or(value));
    Ok(Some(value.to_owned()).filter(|value| !value.is_empty()))
}
