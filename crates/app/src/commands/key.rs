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
    cli::{Key, OfAccount},
    client::{escape, read_json},
    terminal::{self, Form, clean},
};

pub fn key(context: &Context, what: Key) -> Result<Exit, Fault> {
    let client = &context.client;
    let body = match what {
        Key::Set { of, base_url } => {
            let api_key = read_key(&of.provider)?;
            if api_key.is_none() && base_url.is_none() {
                return Err(Fault::input("standard input has no key").hint("type it, or `overnight key set … < file`"));
            }
            client.put(&path(&of), &wire::SetKey { api_key, base_url })?
        }
        Key::Rm(of) => client.delete(&path(&of))?,
        Key::List => {
            let body = client.body(client.get("keys")?)?;
            if context.form == Form::Text {
                let Keys { keys } = read_json(&body)?;
                terminal::print(&list(&keys));
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

fn path(of: &OfAccount) -> String {
    let provider = escape(&of.provider).replace('/', "%2F");
    let account = of.account.as_deref().map_or_else(String::new, |account| format!("?account={}", escape(account)));
    format!("keys/{provider}{account}")
}

/// Those that are kept, and the names of the others.
fn list(keys: &[Kept]) -> String {
    let is_kept = |key: &&Kept| key.api_key == Presence::Set || key.base_url == Presence::Set;
    let mut text: String = keys.iter().filter(is_kept).map(line).collect();
    let absent: Vec<&str> = keys.iter().filter(|key| !is_kept(key)).map(|key| key.provider.as_str()).collect();
    text.push_str(&format!("nothing kept for {}\n", clean(&absent.join(", "))));
    text
}

fn line(key: &Kept) -> String {
    let word = |kept: Presence| if kept == Presence::Set { "kept" } else { "–" };
    let account = key.account.as_deref().map_or_else(String::new, |account| format!("   account {}", clean(account)));
    format!("{:<10} key {}   address {}{account}\n", clean(&key.provider), word(key.api_key), word(key.base_url))
}

/// One line of standard input, not echoed on a terminal. `None` when it is empty.
fn read_key(provider: &str) -> Result<Option<String>, Fault> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return terminal::read_hidden(&format!("key for {}", provider));
    }
    let mut key = String::new();
    stdin.lock().read_line(&mut key).map_err(|error| Fault::input(format!("the key cannot be read: {error}")))?;
    Ok(Some(key.trim().to_owned()).filter(|key| !key.is_empty()))
}
