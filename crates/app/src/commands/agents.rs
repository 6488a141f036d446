//! `agents` and `profiles`: who can work here, and as what.

use api::wire::{self, Profiles};
use domain::{Fault, budget::Budget, profile::Profile};

use super::{Context, console, run};
use crate::{
    Exit,
    cli::At,
    client::{escape, read_json},
    terminal::{self, Form, Paint, Screen, clean, clean_line},
};

pub fn list(context: &Context) -> Result<Exit, Fault> {
    let body = context.client.body(context.client.get("agents")?)?;
    match context.form {
        Form::Json => context.print_json(&body),
        Form::Text => {
            let wire::Agents { agents } = read_json(&body)?;
            terminal::print(&agents.iter().map(|agent| row(&context.screen, agent)).collect::<String>());
        }
    }
    Ok(Exit::Well)
}

fn row(screen: &Screen, agent: &wire::Agent) -> String {
    let (paint, mark) = if agent.missing.is_none() { (Paint::Green, "ok") } else { (Paint::Yellow, "--") };
    let version = match (&agent.version, &agent.tried) {
        (Some(version), Some(tried)) if version != tried => format!("{version} (tried with {tried})"),
        (Some(version), _) => version.clone(),
        (None, _) => String::new(),
    };
    let driven = format!("{:<13} {}", clean_line(&agent.driven, 13), clean(&version));
    let mut text = format!(
        "{}  {}  {}\n",
        screen.paint(paint, mark),
        screen.paint(Paint::Bold, format!("{:<12}", clean_line(&agent.name, 24))),
        driven.trim_end(),
    );
    // A line to be copied is not broken.
    if let Some(missing) = &agent.missing {
        text.push_str(&format!("    {}\n", clean(missing).replace('\n', "\n    ")));
        return text;
    }
    let lends = match agent.login_files.is_empty() {
        true => None,
        false => Some("Can be lent a login of your own: `--login own`.".to_owned()),
    };
    for remark in agent.remarks.iter().chain(&lends) {
        for line in console::wrapped(&clean(remark), screen.width.min(100).saturating_sub(4)) {
            text.push_str(&format!("    {}\n", screen.paint(Paint::Dim, line)));
        }
    }
    text
}

pub fn profiles(context: &Context, at: &At) -> Result<Exit, Fault> {
    let mut path = "profiles".to_owned();
    if let Some(here) = run::repository_here()? {
        path.push_str(&format!("?directory={}", escape(&here.to_string_lossy())));
        if let Some(base) = &at.base {
            path.push_str(&format!("&base={}", escape(base)));
        }
    } else if at.base.is_some() {
        return Err(
            Fault::input("this directory is in no repository").hint("leave `--base` out, or stand in a repository")
        );
    }
    let body = context.client.body(context.client.get(&path)?)?;
    match context.form {
        Form::Json => context.print_json(&body),
        Form::Text => {
            let Profiles { profiles } = read_json(&body)?;
            terminal::print(&profiles.iter().map(|profile| described(&context.screen, profile)).collect::<String>());
        }
    }
    Ok(Exit::Well)
}

fn described(screen: &Screen, profile: &Profile) -> String {
    let mut facts: Vec<String> = Vec::new();
    facts.extend(profile.agent.clone());
    facts.extend(profile.model.clone());
    facts.extend(profile.read_only.then(|| "reads only".to_owned()));
    facts.extend((profile.budget != Budget::default()).then(|| console::budget(&profile.budget)));
    facts.push(profile.source.clone());
    let facts = clean_line(&facts.join(" · "), screen.width.min(100).saturating_sub(20).max(20));
    let mut text = format!(
        "{}  {}\n",
        screen.paint(Paint::Bold, format!("{:<18}", clean_line(&profile.name, 40))),
        screen.paint(Paint::Dim, facts)
    );
    for line in console::wrapped(&clean(&profile.description), screen.width.min(100).saturating_sub(4)) {
        text.push_str(&format!("    {line}\n"));
    }
    text
}
