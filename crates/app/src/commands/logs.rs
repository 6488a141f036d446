//! `logs`: what happened in a task, line by line, once or as it comes.

use std::ops::ControlFlow;

use api::wire::{Log, LogLine};
use domain::{Fault, ids::TaskId};
use jiff::tz::TimeZone;
use regex::Regex;

use super::Context;
use crate::{
    Exit,
    cli::Logs,
    client::{Client, escape, of_task, read_json},
    terminal::{self, Form, Paint, Screen, clean},
};

pub fn logs(context: &Context, args: &Logs) -> Result<Exit, Fault> {
    let printer = Printer::new(context.screen, context.form);
    let print = |line: &LogLine| {
        let text = line.body.text();
        let wanted = |filter: &Regex| text.lines().any(|line| filter.is_match(line));
        if args.filter.as_ref().is_none_or(wanted) {
            printer.print(line, &text);
        }
    };
    match args.follow {
        true => follow(&context.client, args.of.task, |line| {
            print(line);
            Ok(ControlFlow::Continue(()))
        }),
        false => pages(context, args.of.task, print),
    }?;
    Ok(Exit::Well)
}

fn pages(context: &Context, task: TaskId, each: impl Fn(&LogLine)) -> Result<(), Fault> {
    let mut after = String::new();
    loop {
        let query = if after.is_empty() { String::new() } else { format!("&after={}", escape(&after)) };
        let log: Log = context.client.get_json(&of_task(task, &format!("log?limit=500{query}")))?;
        log.lines.iter().for_each(&each);
        if log.complete {
            return Ok(());
        }
        after = log.next;
    }
}

/// Every line as it comes, until `each` has seen enough or the task has ended.
pub fn follow(
    client: &Client,
    task: TaskId,
    mut each: impl FnMut(&LogLine) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    let mut events = client.follow(&of_task(task, "log?follow=true"), "")?;
    loop {
        let event = events.next()?;
        match event.name.as_str() {
            "line" if each(&read_json(event.data.as_bytes())?)?.is_break() => return Ok(()),
            "ended" => return Ok(()),
            _ => {}
        }
    }
}

/// Writes lines with the time of day where the reader is.
#[derive(Debug)]
pub struct Printer {
    screen: Screen,
    form: Form,
    zone: TimeZone,
}

impl Printer {
    pub fn new(screen: Screen, form: Form) -> Self {
        Self { screen, form, zone: TimeZone::system() }
    }

    /// `text` is the line's own.
    pub fn print(&self, line: &LogLine, text: &str) {
        if self.form == Form::Json {
            let json = serde_json::to_string(line).unwrap_or_default();
            return terminal::print(&format!("{json}\n"));
        }
        let time = line.at.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        let mut lines = String::new();
        for (at, part) in text.lines().enumerate() {
            let margin = if at == 0 { self.screen.paint(Paint::Dim, &time) } else { " ".repeat(time.len()) };
            lines.push_str(format!("{margin}  {}", clean(part)).trim_end());
            lines.push('\n');
        }
        terminal::print(&lines);
    }
}
