//! `approve`: a person's word on exactly what that person last saw.

use api::wire::{self, Task};
use domain::{
    Fault,
    ids::{RequestId, TaskId},
    task::Outcome,
};

use super::{Context, console, say::say, show, wait};
use crate::{
    Exit,
    cli::Approve,
    client::of_task,
    seen::{self, Shown},
    terminal::{self, Form, clean},
};

pub fn approve(context: &Context, args: &Approve) -> Result<Exit, Fault> {
    let id = args.of.task;
    if let Some(head) = &args.head {
        return land(context, id, head.clone(), &args.accept);
    }
    match seen::recall(context.client.home(), id)? {
        Some(Shown::Head(head)) => land(context, id, head.as_str().to_owned(), &args.accept),
        Some(Shown::Plan(request)) => plan(context, id, request),
        None => ask(context, id, &args.accept),
    }
}

/// Nothing was shown yet: shows it now, and asks.
fn ask(context: &Context, id: TaskId, accept: &[String]) -> Result<Exit, Fault> {
    let task: Task = context.client.get_json(&of_task(id, ""))?;
    let Some(shown) = show::approvable(&task.summary) else {
        let (_, state) = console::state(&task.summary);
        return Err(Fault::conflict(format!("{id} has nothing to approve now ({state})"))
            .hint(format!("`overnight show {id}` says where it is")));
    };
    if context.form == Form::Json || !terminal::can_ask() {
        return Err(Fault::conflict(format!(
            "you have not seen what {id} would do yet, and an approval is for what you saw"
        ))
        .hint(match shown {
            Shown::Head(_) => format!("`overnight diff {id}` first, or name the commit with `--head`"),
            Shown::Plan(_) => format!("`overnight show {id}` first: it has the plan"),
        }));
    }
    terminal::print(&show::Page::evidence(context, &task));
    seen::remember(context.client.home(), id, &shown)?;
    let question = match &shown {
        Shown::Head(head) => format!("Land {} without having read it (`overnight diff {id}`)?", head.short()),
        Shown::Plan(_) => "Approve this plan?".to_owned(),
    };
    if !terminal::confirm(&question) {
        terminal::print("Nothing was approved.\n");
        return Ok(Exit::Badly);
    }
    match shown {
        Shown::Head(head) => land(context, id, head.as_str().to_owned(), accept),
        Shown::Plan(request) => plan(context, id, request),
    }
}

fn plan(context: &Context, id: TaskId, RequestId(request): RequestId) -> Result<Exit, Fault> {
    say(context, id, "plan", &wire::Plan { request: Some(request), approve: true, ..wire::Plan::default() })?;
    seen::forget(context.client.home(), id);
    Ok(Exit::Well)
}

/// Signs off a head, and stays for what comes of it.
fn land(context: &Context, id: TaskId, head: String, accept: &[String]) -> Result<Exit, Fault> {
    say(context, id, "approve", &wire::Approve { head, accept: accept.to_vec() })?;
    if context.form == Form::Json {
        return Ok(Exit::Well);
    }
    wait::on_interrupt(id)?;
    // A target that moved means another run of the checks, which may take its time.
    let last = wait::watch(&context.client, id, |_| {})?;
    let lines = console::outcome(&last);
    terminal::print(&lines.iter().map(|line| format!("{id}: {}\n", clean(line))).collect::<String>());
    match last.outcome {
        Some(Outcome::Landed { .. }) => {
            seen::forget(context.client.home(), id);
            Ok(Exit::Well)
        }
        Some(_) => Ok(Exit::Badly),
        // The landing came to nothing: it is before its person again, with the reason.
        None => {
            terminal::print(&wait::told(&context.screen, &last));
            Ok(Exit::Badly)
        }
    }
}
