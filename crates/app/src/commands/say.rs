//! What a person says to a task: `comment`, `answer`, `reject`, `cancel`, `restore`, `retry`.

use api::wire::{self, Spoken};
use domain::{Fault, ids::TaskId, summary::Phase};
use serde::Serialize;

use super::{Context, console, login, text_or_stdin, wait};
use crate::{
    Exit,
    cli::{Answer, Comment},
    client::{of_task, read_json},
    seen,
    terminal::{self, Form, clean},
};

/// Says it, and prints what it came to.
pub fn say(context: &Context, task: TaskId, what: &str, body: &impl Serialize) -> Result<Spoken, Fault> {
    let answer = context.client.post(&of_task(task, what), body)?;
    let spoken: Spoken = read_json(&answer)?;
    match context.form {
        Form::Json => context.print_json(&answer),
        Form::Text => terminal::print(&format!("{}: {}\n", spoken.task.id, clean(&spoken.note))),
    }
    Ok(spoken)
}

pub fn comment(context: &Context, args: Comment) -> Result<Exit, Fault> {
    let text = text_or_stdin(args.text)?;
    say(context, args.of.task, "comments", &wire::Comment { text })?;
    Ok(Exit::Well)
}

pub fn answer(context: &Context, args: Answer) -> Result<Exit, Fault> {
    let answer = text_or_stdin(args.answer)?;
    say(context, args.of.task, "answer", &wire::Answer { request: args.request, answer })?;
    Ok(Exit::Well)
}

/// `reject` and `cancel`: stays until nothing of the task is left outside the private store.
pub fn end(context: &Context, task: TaskId, what: &str, body: &impl Serialize) -> Result<Exit, Fault> {
    let spoken = say(context, task, what, body)?;
    // While a change lands, the word only counts if the landing comes to nothing.
    if matches!(spoken.task.phase, Phase::Closing) {
        wait::on_interrupt(task)?;
        let last = wait::watch(&context.client, task, |_| {})?;
        if context.form == Form::Text {
            let ended: wire::Task = context.client.get_json(&of_task(task, ""))?;
            let mut lines = console::outcome(&last);
            lines.extend(ended.residue);
            terminal::print(&lines.iter().map(|line| format!("{task}: {}\n", clean(line))).collect::<String>());
        }
    }
    seen::forget(context.client.home(), task);
    Ok(Exit::Well)
}

pub fn restore(context: &Context, task: TaskId) -> Result<Exit, Fault> {
    say(context, task, "restore", &wire::Empty {})?;
    Ok(Exit::Well)
}

pub fn retry(context: &Context, task: TaskId) -> Result<Exit, Fault> {
    say(context, task, "retry", &wire::Retry { credentials: login::with_keys(context, task)? })?;
    Ok(Exit::Well)
}
