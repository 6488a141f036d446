//! `models` and `budget`: what can be asked, what it costs, and what may be spent.

use api::{
    telling,
    wire::{self, Model, Purse, Purses, models::Reach},
};
use domain::{Fault, budget::MicroUsd, ports::model::TriedModel};

use super::{Context, console, run};
use crate::{
    Exit,
    client::read_json,
    terminal::{self, Form, Paint, Screen, clean, clean_line},
};

pub fn list(context: &Context) -> Result<Exit, Fault> {
    let body = context.client.post("models", &wire::AskModels { credentials: run::credentials() })?;
    if context.form == Form::Json {
        context.print_json(&body);
        return Ok(Exit::Well);
    }
    let wire::Models { models } = read_json(&body)?;
    if models.is_empty() {
        terminal::print("No models: no provider's key is here or kept, and config.toml names none.\n");
        terminal::print("→ `export ANTHROPIC_API_KEY=…`, or `overnight key set anthropic`\n");
        return Ok(Exit::Well);
    }
    let names = models.iter().map(|model| model.name.chars().count()).max().unwrap_or(0).min(40);
    terminal::print(&models.iter().map(|model| row(&context.screen, model, names)).collect::<String>());
    Ok(Exit::Well)
}

fn row(screen: &Screen, model: &Model, names: usize) -> String {
    let (paint, mark, word) = match (model.reach, model.held_until) {
        (Reach::Unreachable, _) => (Paint::Red, "!!", "cannot be reached".to_owned()),
        (_, Some(until)) => (Paint::Yellow, "--", format!("out of quota until {}", telling::clock(until))),
        (Reach::Listed, None) => (Paint::Green, "ok", "there".to_owned()),
        (Reach::NotListed, None) => (Paint::Yellow, "--", "not on its provider's list".to_owned()),
        (Reach::NoList, None) => (Paint::Green, "ok", "its provider is there".to_owned()),
    };
    let name = clean_line(&model.name, names);
    let name = format!("{name}{}", " ".repeat(names - name.chars().count()));
    let mut text = format!("{}  {}  {word}\n", screen.paint(paint, mark), screen.paint(Paint::Bold, name));
    if let Some(fault) = &model.fault {
        text.push_str(&format!("    {}\n", clean(&fault.to_string()).replace('\n', "\n    ")));
    }
    let price = match &model.price {
        Some(price) => {
            let since = price.since.map_or_else(String::new, |since| format!(", as of {since}"));
            format!("{} in, {} out per million{since}", price.input, price.output)
        }
        None => "price unknown".to_owned(),
    };
    let accounts = if model.accounts.len() > 1 { format!(" · {}", model.accounts.join(", ")) } else { String::new() };
    let facts = clean_line(&format!("{price} · {}{accounts}", model.host), screen.width.saturating_sub(4));
    text.push_str(&format!("    {}\n", screen.paint(Paint::Dim, facts)));
    text
}

pub fn test(context: &Context, name: String) -> Result<Exit, Fault> {
    let body = context.client.post("models/try", &wire::TryModel { name, credentials: run::credentials() })?;
    if context.form == Form::Json {
        context.print_json(&body);
        return Ok(Exit::Well);
    }
    let tried: TriedModel = read_json(&body)?;
    let cost = tried.cost.map_or_else(|| "price unknown".to_owned(), |cost| cost.to_string());
    terminal::print(&format!(
        "{} answers, by account {} of {}, in {} ms\n  it says   {}\n  spent     {cost} · {} tokens in, {} out\n",
        clean(&tried.name),
        clean(&tried.account),
        clean(&tried.host),
        console::grouped(tried.milliseconds),
        clean_line(&tried.text, context.screen.width.saturating_sub(12).max(20)),
        console::grouped(tried.usage.total() - tried.usage.output),
        console::grouped(tried.usage.output),
    ));
    Ok(Exit::Well)
}

pub fn budget(context: &Context) -> Result<Exit, Fault> {
    let body = context.client.body(context.client.get("budget")?)?;
    if context.form == Form::Json {
        context.print_json(&body);
        return Ok(Exit::Well);
    }
    let Purses { purses } = read_json(&body)?;
    if purses.is_empty() {
        terminal::print("Tasks share no budget. `[[budgets]]` in config.toml makes one (docs/configuration.md).\n");
    }
    let keys = purses.iter().map(|purse| purse.key.chars().count()).max().unwrap_or(0).min(40);
    terminal::print(&purses.iter().map(|purse| purse_row(&context.screen, purse, keys)).collect::<String>());
    Ok(Exit::Well)
}

fn purse_row(screen: &Screen, purse: &Purse, keys: usize) -> String {
    let (limit, spent, reserved) = (purse.limit.0, &purse.spent, &purse.reserved);
    let mut parts = Vec::new();
    let mut fullest = 0.0_f64;
    if let Some(limit) = limit.cost {
        let held = reserved.cost.unwrap_or_default();
        fullest = fullest.max(spent.cost.plus(held).0 as f64 / limit.0.max(1) as f64);
        let held = if held == MicroUsd(0) { String::new() } else { format!(" + {held} reserved") };
        let unknown = if spent.unpriced_calls > 0 { " or more" } else { "" };
        parts.push(format!("{}{unknown}{held} of {limit}", spent.cost));
    }
    if let Some(limit) = limit.tokens {
        let used = spent.usage.total();
        fullest = fullest.max(used.saturating_add(reserved.tokens) as f64 / limit.max(1) as f64);
        let held = match reserved.tokens {
            0 => String::new(),
            tokens => format!(" + {} reserved", console::grouped(tokens)),
        };
        parts.push(format!("{}{held} of {} tokens", console::grouped(used), console::grouped(limit)));
    }
    let paint = match fullest {
        full if full >= 1.0 => Paint::Red,
        full if full >= 0.8 => Paint::Yellow,
        _ => Paint::Green,
    };
    let key = clean_line(&purse.key, keys);
    let key = format!("{key}{}", " ".repeat(keys - key.chars().count()));
    format!(
        "{}  {}  {}\n",
        screen.paint(Paint::Bold, key),
        screen.paint(paint, format!("{:>3.0} %", fullest * 100.0)),
        parts.join(" · ")
    )
}
