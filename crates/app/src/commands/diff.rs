//! The change itself: `diff` shows it, `pull` puts it into a checkout.

use api::wire::{self, HEAD_HEADER, Pulled};
use domain::{
    Fault,
    ids::{CommitId, TaskId},
};

use super::{Context, run};
use crate::{
    Exit,
    cli::Diff,
    client::{of_task, read_json},
    seen::{self, Shown},
    terminal::{self, Form, Paint, Screen, clean},
};

pub fn diff(context: &Context, args: &Diff) -> Result<Exit, Fault> {
    let query = args.attempt.map_or_else(String::new, |attempt| format!("?attempt={attempt}"));
    let answer = context.client.get(&of_task(args.of.task, &format!("diff{query}")))?;
    let head = answer.header(HEAD_HEADER).and_then(CommitId::parse);
    let body = context.client.body(answer)?;
    match (context.form, context.screen.tty) {
        (Form::Json, _) => {
            let json = serde_json::json!({ "task": args.of.task.to_string(), "head": head, "diff": String::from_utf8_lossy(&body) });
            terminal::print(&format!("{json}\n"));
        }
        (Form::Text, true) => terminal::print(&coloured(&context.screen, &body)),
        // Byte for byte, so that `git apply` can read it.
        (Form::Text, false) => terminal::print_bytes(&body),
    }
    if let Some(head) = head {
        seen::remember(context.client.home(), args.of.task, &Shown::Head(head))?;
    }
    Ok(Exit::Well)
}

fn coloured(screen: &Screen, diff: &[u8]) -> String {
    let diff = String::from_utf8_lossy(diff);
    let mut text = String::with_capacity(diff.len());
    for line in diff.lines() {
        let paint = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => Some(Paint::Bold),
            [b'+', ..] => Some(Paint::Green),
            [b'-', ..] => Some(Paint::Red),
            [b'@', b'@', ..] => Some(Paint::Cyan),
            bytes if bytes.starts_with(b"diff ") => Some(Paint::Bold),
            _ => None,
        };
        let line = clean(line);
        match paint {
            Some(paint) => text.push_str(&screen.paint(paint, line)),
            None => text.push_str(&line),
        }
        text.push('\n');
    }
    text
}

pub fn pull(context: &Context, task: TaskId) -> Result<Exit, Fault> {
    let body = context.client.post(&of_task(task, "pull"), &wire::Pull { directory: run::current_directory()? })?;
    if context.form == Form::Json {
        context.print_json(&body);
        return Ok(Exit::Well);
    }
    let Pulled { lines, .. } = read_json(&body)?;
    terminal::print(&lines.iter().map(|line| format!("{}\n", clean(line))).collect::<String>());
    Ok(Exit::Well)
}
