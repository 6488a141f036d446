//! `key`: providers' keys of this home. They are read from standard input, so that no process list or shell history has them.

use std::io::{self, BufRead, IsTerminal};

use api::wire::{
    self, Keys,
    house::{Kept as Presence, Key as Kept},
};
use domain::Fault;

use super::Context;
use crate::{
    Exit,
    cli::{Key, Provider},
    client::read_json,
    terminal::{self, Form, clean},
};

pub fn key(context: &Context, what: Key) -> Result<Exit, Fault> {
    let client = &context.client;
    let body = match what {
        Key::Set { provider, base_url } => {
            let api_key = read_key(provider)?;
            if api_key.is_none() && base_url.is_none() {
                return Err(Fault::input("standard input has no key").hint("type it, or `overnight key set … < file`"));
            }
            client.put(&path(provider), &wire::SetKey { api_key, base_url })?
        }
        Key::Rm { provider } => client.delete(&path(provider))?,
        Key::List => {
            let body = client.body(client.get("keys")?)?;
            if context.form == Form::Text {
                let Keys { keys } = read_json(&body)?;
                terminal::print(&keys.iter().map(line).collect::<String>());
                return Ok(Exit::Well);
            }
            body
        }
    };
    match context.form {
        Form::Json => context.print_json(&body),
        Form::Text => terminal::print(&line(&read_json(&body)?)),
    }
    Ok(Exit::Well)
}

fn path(provider: Provider) -> String {
    format!("keys/{}", provider.word())
}

fn line(key: &Kept) -> String {
    let word = |kept: Presence| if kept == Presence::Set { "kept" } else { "–" };
    format!("{:<10} key {}   address {}\n", clean(&key.provider), word(key.api_key), word(key.base_url))
}

/// One line of standard input, not echoed on a terminal. `None` when it is empty.
fn read_key(provider: Provider) -> Result<Option<String>, Fault> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return terminal::read_hidden(&format!("key for {}", provider.word()));
    }
    let mut key = String::new();
    stdin.lock().read_line(&mut key).map_err(|error| Fault::input(format!("the key cannot be read: {error}")))?;
    Ok(Some(key.trim().to_owned()).filter(|key| !key.is_empty()))
}
