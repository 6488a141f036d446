//! `blame`: a file with the change in it, line by line, each with the commit that it came with.

use api::wire;
use domain::Fault;

use super::Context;
use crate::{
    Exit,
    cli::Blame,
    client::{escape, of_task, read_json},
    terminal::{self, Form, Paint, clean},
};

pub fn blame(context: &Context, args: &Blame) -> Result<Exit, Fault> {
    let task = args.of.task;
    let attempt = args.attempt.map_or_else(String::new, |attempt| format!("&attempt={attempt}"));
    let path = format!("blame?path={}{attempt}", escape(&args.path));
    let body = context.client.body(context.client.get(&of_task(task, &path))?)?;
    if context.form == Form::Json {
        context.print_json(&body);
        return Ok(Exit::Well);
    }
    let wire::Blame { head, lines, .. } = read_json(&body)?;
    let ours = task.to_string();
    let width = head.short().len().max(ours.len());
    let numbers = lines.len().to_string().len();
    let mut text = String::new();
    for line in &lines {
        let (paint, from) = if line.ours { (Paint::Green, ours.as_str()) } else { (Paint::Dim, line.commit.short()) };
        let from = context.screen.paint(paint, format!("{from:<width$}"));
        text.push_str(format!("{from}  {:>numbers$}  {}", line.line, clean(&line.text)).trim_end());
        text.push('\n');
    }
    terminal::print(&text);
    Ok(Exit::Well)
}
