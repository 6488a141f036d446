//! `plan`: what a person says to a plan that waits, step by step.

use api::wire::{self, StepComment, Task};
use domain::{
    Fault,
    ids::{RequestId, TaskId},
    summary::Wanted,
};

use super::{Context, say::say, text_or_stdin};
use crate::{
    Exit,
    cli::Plan,
    client::{of_task, read_json},
    seen::{self, Shown},
    terminal::{self, Form, clean},
};

pub fn plan(context: &Context, args: Plan) -> Result<Exit, Fault> {
    let task = args.of.task;
    if args.comments.is_empty() && args.refine.is_none() && !args.approve {
        return read(context, task, args.request);
    }
    let request = match (args.request, args.approve) {
        (Some(request), _) => Some(request),
        (None, true) => Some(seen_plan(context, task)?),
        (None, false) => None,
    };
    let refine = args.refine.map(text_or_stdin).transpose()?;
    let comments = args.comments.chunks_exact(2).map(comment).collect::<Result<_, _>>()?;
    say(context, task, "plan", &wire::Plan { request, approve: args.approve, refine, comments })?;
    seen::forget(context.client.home(), task);
    Ok(Exit::Well)
}

fn comment(pair: &[String]) -> Result<StepComment, Fault> {
    let step = pair[0].parse().map_err(|_| {
        Fault::input(format!("`{}` is not the number of a step", pair[0]))
            .hint("write the number, then the remark: `--comment 3 \"…\"`")
    })?;
    Ok(StepComment { step, text: pair[1].clone() })
}

/// The plan that this person was shown last: an approval is for that one.
fn seen_plan(context: &Context, task: TaskId) -> Result<u32, Fault> {
    match seen::recall(context.client.home(), task)? {
        Some(Shown::Plan(RequestId(request))) => Ok(request),
        Some(Shown::Head(_)) | None => {
            Err(Fault::conflict(format!("you have not seen a plan of {task} yet, and an approval is for what you saw"))
                .hint(format!("`overnight plan {task}` shows it")))
        }
    }
}

/// Shows the plan that waits.
fn read(context: &Context, id: TaskId, request: Option<u32>) -> Result<Exit, Fault> {
    let body = context.client.body(context.client.get(&of_task(id, ""))?)?;
    let task: Task = read_json(&body)?;
    let waiting = task.summary.needs.iter().find_map(|need| match &need.wanted {
        Wanted::Plan { plan } if request.is_none_or(|wanted| need.request == RequestId(wanted)) => {
            Some((need.request, plan))
        }
        _ => None,
    });
    let Some((request, plan)) = waiting else {
        return Err(Fault::conflict(format!("no plan of {id} waits for you"))
            .hint(format!("`overnight show {id}` says where it is")));
    };
    match context.form {
        Form::Json => {
            context.print_json(serde_json::json!({ "request": request, "plan": plan }).to_string().as_bytes())
        }
        Form::Text => terminal::print(&format!(
            "{}\n\n→ overnight approve {id}   (or: overnight plan {id} --comment 3 \"…\")\n",
            clean(plan.trim_end())
        )),
    }
    seen::remember(context.client.home(), id, &Shown::Plan(request))?;
    Ok(Exit::Well)
}
