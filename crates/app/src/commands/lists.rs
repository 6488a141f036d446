//! Many tasks at a glance: `list` and `inbox`.

use api::wire::{Inbox, Summary, Tasks};
use domain::{Fault, summary::Wanted};

use super::{Context, console, run, wait};
use crate::{
    Exit,
    cli::List,
    client::{escape, read_json},
    seen::{self, Shown},
    terminal::{self, Form, Paint, Screen, clean, clean_line},
};

pub fn list(context: &Context, args: &List) -> Result<Exit, Fault> {
    let mut path = format!("tasks?limit={}", args.limit);
    if let Some(phases) = &args.phase {
        path.push_str(&format!("&phase={}", escape(phases)));
    }
    if args.here {
        let here = run::repository_here()?.ok_or_else(|| {
            Fault::input("this directory is in no repository").hint("leave out `--here`, or stand in a repository")
        })?;
        path.push_str(&format!("&repository={}", escape(&here.to_string_lossy())));
    }
    let body = context.client.body(context.client.get(&path)?)?;
    if context.form == Form::Json {
        context.print_json(&body);
        return Ok(Exit::Well);
    }
    let Tasks { tasks, next } = read_json(&body)?;
    let mut text = rows(&context.screen, &tasks);
    if tasks.is_empty() {
        text.push_str("No tasks. `overnight run \"…\"` hands one over; `overnight demo` shows the whole job.\n");
    }
    if next.is_some() {
        text.push_str(
            &context.screen.paint(Paint::Dim, format!("… and older ones: `overnight list --limit {}`", args.limit * 5)),
        );
        text.push('\n');
    }
    terminal::print(&text);
    Ok(Exit::Well)
}

/// One line per task, in columns.
fn rows(screen: &Screen, tasks: &[Summary]) -> String {
    let states: Vec<_> = tasks.iter().map(console::state).collect();
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let ids = width(&mut tasks.iter().map(|task| task.id.to_string().len()));
    let words = width(&mut states.iter().map(|(_, word)| word.chars().count()));
    let mut text = String::new();
    for (task, (paint, word)) in tasks.iter().zip(&states) {
        let (id, age) = (task.id.to_string(), console::age(task.updated_at));
        let key = if task.holds_key { "[holds a key] " } else { "" };
        let title = clean_line(&task.title, screen.width.saturating_sub(ids + words + 10 + key.len()).max(20));
        let padding = " ".repeat(words - word.chars().count());
        text.push_str(&format!(
            "{}{}  {}{padding}  {}  {}{title}\n",
            screen.paint(Paint::Bold, &id),
            " ".repeat(ids - id.len()),
            screen.paint(*paint, word),
            screen.paint(Paint::Dim, format!("{age:>4}")),
            screen.paint(Paint::Yellow, key),
        ));
    }
    text
}

pub fn inbox(context: &Context) -> Result<Exit, Fault> {
    let body = context.client.body(context.client.get("inbox")?)?;
    let inbox: Inbox = read_json(&body)?;
    if context.form == Form::Json {
        context.print_json(&body);
    } else {
        terminal::print(&inbox_text(&context.screen, &inbox));
    }
    for task in &inbox.needs_you {
        if let Some(head) = &task.head {
            seen::remember(context.client.home(), task.id, &Shown::Head(head.clone()))?;
        }
    }
    Ok(Exit::Well)
}

fn inbox_text(screen: &Screen, inbox: &Inbox) -> String {
    let mut text = String::new();
    for task in &inbox.needs_you {
        text.push_str(&rows(screen, std::slice::from_ref(task)));
        for line in wait::environment(task) {
            text.push_str(&format!("      {}\n", clean_line(&line, screen.width.saturating_sub(6))));
        }
        for need in &task.needs {
            let (lines, command) = console::wanted(task, need);
            // A plan and a question are read here; what went wrong is told at length by `show`.
            let longest = if matches!(need.wanted, Wanted::Plan { .. } | Wanted::Answer { .. }) { 6 } else { 1 };
            for line in lines.iter().flat_map(|text| text.lines().take(longest)).take(6) {
                text.push_str(&format!("      {}\n", clean(&clean_line(line, screen.width.saturating_sub(6)))));
            }
            text.push_str(&format!("      {}\n", screen.paint(Paint::Dim, format!("→ {command}"))));
        }
    }
    if inbox.needs_you.is_empty() {
        text.push_str("Nothing needs you.\n");
    }
    if !inbox.ended.is_empty() {
        text.push_str(&format!("\n{}\n", screen.paint(Paint::Dim, "Ended within a day:")));
        text.push_str(&rows(screen, &inbox.ended));
    }
    text
}
