//! `fork`, `rewind`, `replay`: back to a turn, or through all of them again.

use api::wire::{self, Submitted};
use domain::{
    Fault,
    ports::{agent::TurnConclusion, model::Compared},
};

use super::{Context, console, login, run, say::say, text_or_stdin};
use crate::{
    Exit,
    cli::{Fork, Replay, Rewind},
    client::{of_task, read_json},
    terminal::{self, Form, Paint, Screen, clean, clean_line},
};

pub fn fork(context: &Context, args: Fork) -> Result<Exit, Fault> {
    let Fork { of, at, attempt, message, model, agent } = args;
    let text = text_or_stdin(message)?;
    // Another agent works with a key: the login was for the first one.
    let credentials = if agent.is_some() { run::credentials() } else { login::with_keys(context, of.task)? };
    let asked = wire::Fork { attempt, turn: at, text, model, agent, credentials };
    let answer = context.client.post(&of_task(of.task, "fork"), &asked)?;
    let Submitted { task, .. } = read_json(&answer)?;
    match context.form {
        Form::Json => context.print_json(&answer),
        Form::Text => terminal::print(&format!("{}\n", task.id)),
    }
    Ok(Exit::Well)
}

pub fn rewind(context: &Context, args: Rewind) -> Result<Exit, Fault> {
    let Rewind { of, to, attempt, message } = args;
    let text = message.map(text_or_stdin).transpose()?;
    say(context, of.task, "rewind", &wire::Rewind { attempt, turn: to, text })?;
    Ok(Exit::Well)
}

/// Badly: it did not go as it had gone.
pub fn replay(context: &Context, args: &Replay) -> Result<Exit, Fault> {
    let asked = wire::Replay { attempt: args.attempt };
    let answer = context
        .client
        .work(&of_task(args.of.task, "replay"), &asked, |event| Ok((event.name == "replayed").then_some(event.data)))?;
    let replay: engine::Replay = read_json(answer.as_bytes())?;
    match context.form {
        Form::Json => context.print_json(answer.as_bytes()),
        Form::Text => {
            terminal::print(&format!(
                "{}, attempt {}\n{}",
                args.of.task,
                replay.attempt,
                told(&context.screen, &replay)
            ));
        }
    }
    let same_work = |turn: &engine::ReplayedTurn| turn.differing_paths.as_ref().is_none_or(Vec::is_empty);
    let well = replay.first_difference.is_none() && replay.turns.iter().all(same_work);
    Ok(if well { Exit::Well } else { Exit::Badly })
}

fn told(screen: &Screen, replay: &engine::Replay) -> String {
    let mut text = String::new();
    for turn in &replay.turns {
        let (paint, work) = match turn.differing_paths.as_deref() {
            None => (Paint::Dim, String::new()),
            Some([]) => (Paint::Green, "same work".to_owned()),
            Some(paths) => (Paint::Yellow, format!("other work in {}", paths.join(", "))),
        };
        let work = clean_line(&work, screen.width.saturating_sub(46).max(20));
        text.push_str(&format!(
            "  turn {:<4} {:<16} {:<16} {}\n",
            turn.turn,
            console::counted(turn.calls, "model call"),
            ended(&turn.conclusion),
            screen.paint(paint, work)
        ));
    }
    text.push_str(&format!(
        "  {}: {} identical, {} but for dates and ids; took {:.1} s ({:.1} s when it was recorded)\n",
        console::counted(replay.calls, "model call"),
        replay.identical,
        replay.same_but_for_ids,
        replay.replayed_ms as f64 / 1000.0,
        replay.recorded_ms as f64 / 1000.0,
    ));
    if let Some(difference) = &replay.first_difference {
        let place = format!("turn {}, call {}", difference.turn, difference.call);
        match &difference.what {
            Compared::Different { recorded, replayed } => text.push_str(&format!(
                "  It parts at {place}:\n    then  {}\n    now   {}\n",
                clean_line(recorded, screen.width.saturating_sub(10)),
                clean_line(replayed, screen.width.saturating_sub(10)),
            )),
            Compared::BeyondTheRecord => {
                text.push_str(&format!("  At {place} it asks for more than the record has.\n"));
            }
            Compared::Identical | Compared::SameButForIds => {}
        }
    }
    clean(&text).into_owned()
}

fn ended(conclusion: &TurnConclusion) -> &'static str {
    match conclusion {
        TurnConclusion::Finished => "finished",
        TurnConclusion::Asked { .. } => "asked",
        TurnConclusion::Interrupted => "interrupted",
        TurnConclusion::OutOfBudget { .. } => "out of budget",
        TurnConclusion::OutOfRounds => "out of rounds",
        TurnConclusion::Held { .. } => "held",
        TurnConclusion::Stalled { .. } => "stalled",
        TurnConclusion::DeadEnd { .. } => "dead end",
        TurnConclusion::Failed { .. } => "failed",
    }
}
