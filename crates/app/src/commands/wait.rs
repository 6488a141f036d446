//! Waiting with a person: live progress until something is wanted of them or the task has ended. Ctrl-C only ends the waiting.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use api::wire::{Summary, Task, log::TaskEvent};
use domain::{
    Fault,
    check::Verdict,
    ids::TaskId,
    summary::{Phase, Wanted},
    task::Outcome,
};

use super::{Context, console, show};
use crate::{
    Exit,
    client::{Client, of_task, read_json},
    seen::{self, Shown},
    terminal::{self, Form, Paint, Screen, clean, clean_line},
};

/// Waits, then tells how it stands.
pub fn wait(context: &Context, task: TaskId) -> Result<Exit, Fault> {
    on_interrupt(task)?;
    let line = StatusLine::start(context.screen, context.form);
    let last = watch(&context.client, task, |summary| line.show(summary))?;
    line.end();
    let judged_badly = last.outcome.is_none() && last.verdict.is_some_and(|verdict| verdict != Verdict::Green);
    match context.form {
        Form::Json => context.print_json(&context.client.body(context.client.get(&of_task(task, ""))?)?),
        Form::Text if judged_badly => {
            terminal::print(&show::Page::evidence(context, &context.client.get_json(&of_task(task, ""))?));
        }
        Form::Text => terminal::print(&told(&context.screen, &last)),
    }
    if let Some(head) = &last.head {
        seen::remember(context.client.home(), task, &Shown::Head(head.clone()))?;
    }
    Ok(exit(&last))
}

/// Follows a task until a person is needed or it has ended; `each` sees every state on the way, the last one too.
pub fn watch(client: &Client, task: TaskId, mut each: impl FnMut(&Summary)) -> Result<Summary, Fault> {
    // The stream is open before the state is read: no change falls between.
    let mut events = client.follow("events", "")?;
    let mut summary = client.get_json::<Task>(&of_task(task, ""))?.summary;
    loop {
        each(&summary);
        if matches!(summary.phase, Phase::NeedsYou | Phase::Ended) {
            return Ok(summary);
        }
        summary = loop {
            let event = events.next()?;
            if event.name == "task" {
                let event: TaskEvent = read_json(event.data.as_bytes())?;
                if event.task.id == task {
                    break event.task;
                }
            }
        };
    }
}

/// How it stands, in a few lines.
pub fn told(screen: &Screen, task: &Summary) -> String {
    let (paint, word) = console::state(task);
    let title = clean_line(&task.title, 72);
    let mut text = format!("{}  {}  {title}\n", screen.paint(Paint::Bold, task.id), screen.paint(paint, word));
    let mut tell = |lines: &[String]| {
        for line in lines.iter().flat_map(|text| text.lines()) {
            text.push_str(&format!("  {}\n", clean(line)));
        }
    };
    tell(&environment(task));
    for need in &task.needs {
        let (lines, command) = console::wanted(task, need);
        tell(&lines);
        tell(&[format!("→ {command}")]);
    }
    tell(&console::outcome(task));
    text
}

/// What is wrong with what the task stands on, where something is.
pub fn environment(task: &Summary) -> Vec<String> {
    let told = |why: &String| format!("its environment is unhealthy: {why} (`overnight env show` says more)");
    task.unhealthy.iter().map(told).collect()
}

/// Well: delivered, or green and waiting for a signature, or the plan that was asked for.
pub fn exit(task: &Summary) -> Exit {
    let well = match &task.outcome {
        Some(Outcome::Landed { .. } | Outcome::Reported { .. } | Outcome::NothingToDo { .. }) => true,
        Some(Outcome::Rejected { .. } | Outcome::Failed { .. } | Outcome::Canceled { .. }) => false,
        None => task.needs.iter().all(|need| match &need.wanted {
            Wanted::Plan { .. } => true,
            Wanted::Review { verdict, problem, .. } => *verdict == Some(Verdict::Green) && problem.is_none(),
            Wanted::Answer { .. } | Wanted::Help { .. } => false,
        }),
    };
    if well { Exit::Well } else { Exit::Badly }
}

/// From now on Ctrl-C says that the task goes on, and ends the process with 130.
pub fn on_interrupt(task: TaskId) -> Result<(), Fault> {
    terminal::on_interrupt(move || {
        terminal::print_error(&format!(
            "\n{task} goes on without you: `overnight logs -f {task}` follows it, `overnight cancel {task}` ends it\n"
        ));
    })
}

/// Progress for a person: one line that changes on a terminal, a line per change elsewhere, nothing in JSON.
#[derive(Debug)]
pub struct StatusLine {
    updates: Option<Sender<Summary>>,
    drawing: Option<JoinHandle<()>>,
}

impl StatusLine {
    pub fn start(screen: Screen, form: Form) -> Self {
        if form == Form::Json {
            return Self { updates: None, drawing: None };
        }
        let (updates, incoming) = mpsc::channel::<Summary>();
        let drawing = thread::spawn(move || {
            let (started, mut shown, mut last) = (Instant::now(), None::<Summary>, String::new());
            loop {
                match incoming.recv_timeout(Duration::from_secs(1)) {
                    Ok(summary) => shown = Some(summary),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                let Some(summary) = &shown else { continue };
                let words = words(&screen, summary);
                if screen.tty {
                    let time = console::length(started.elapsed().as_secs());
                    terminal::print(&format!("\r\x1b[K{words}  {}", screen.paint(Paint::Dim, time)));
                } else if words != last {
                    terminal::print(&format!("{words}\n"));
                }
                last = words;
            }
            if screen.tty {
                terminal::print("\r\x1b[K");
            }
        });
        Self { updates: Some(updates), drawing: Some(drawing) }
    }

    pub fn show(&self, summary: &Summary) {
        if let Some(updates) = &self.updates {
            // The drawing thread only ends with this sender.
            let _ = updates.send(summary.clone());
        }
    }

    /// Clears the line, so that what follows starts on a clean one.
    pub fn end(mut self) {
        self.updates = None;
        if let Some(drawing) = self.drawing.take() {
            let _ = drawing.join();
        }
    }
}

fn words(screen: &Screen, task: &Summary) -> String {
    let (paint, word) = console::state(task);
    let progress = task.progress.as_deref().filter(|_| task.phase == Phase::Working).unwrap_or_default();
    let room = screen.width.saturating_sub(task.id.to_string().len() + word.chars().count() + 14);
    let progress = clean_line(progress, room);
    format!("{}  {}  {progress}", task.id, screen.paint(paint, word)).trim_end().to_owned()
}
