//! What was done so far, told to whoever goes on with it without the conversation: from any agent's transcript.

use std::fmt::Write;

use domain::ports::{
    agent::{Entry, EntryBody, StepState, TurnConclusion, TurnEnd, TurnRequest},
    model::{Message, Part},
};

use super::section;
use crate::clip::{self, Room};

/// All of an account, in bytes; the newest matters most.
const ALL: Room = Room { head: 4 * 1024, tail: 12 * 1024 };
/// What opened a turn, what was said in it, and how it ended.
const ASKED: Room = Room { head: 1024, tail: 1024 };
const SAID: Room = Room { head: 1024, tail: 1024 };
/// One tool call, and how many of a turn: the last ones.
const CALL: usize = 160;
const CALLS: usize = 40;
/// How the words of people begin in prompts.
const COMMENT: &str = "A person comments: ";

/// The turns before this one that are not void, as a section of a prompt. Empty when there are none.
pub(crate) fn account(entries: &[Entry], turn: &TurnRequest) -> String {
    let is_past = |entry: &&Entry| {
        entry.turn < turn.turn && !turn.void.iter().any(|(first, last)| (*first..=*last).contains(&entry.turn))
    };
    let past: Vec<&Entry> = entries.iter().filter(is_past).collect();
    let mut told = String::new();
    let mut is_first = true;
    for turn in past.chunk_by(|one, next| one.turn == next.turn) {
        let _ = writeln!(told, "## Turn {}", turn[0].turn);
        tell(&mut told, turn, is_first);
        is_first = false;
    }
    let mut text = String::new();
    if !told.is_empty() {
        let told = clip::middle(told.trim_end(), ALL);
        let body =
            format!("Another conversation worked on this before you, and left the files as they are now.\n\n{told}");
        section(&mut text, "What was done so far", &body);
    }
    text
}

fn tell(told: &mut String, turn: &[&Entry], is_first: bool) {
    let (mut calls, mut said, mut plan) = (Vec::new(), String::new(), None);
    for entry in turn {
        match &entry.body {
            EntryBody::Prompt { message } => {
                let asked = texts(message);
                // The first prompt is mostly the brief, which is told again anyway.
                let asked = if is_first { asked.find(COMMENT).map_or("", |at| &asked[at..]) } else { &asked };
                if !asked.is_empty() {
                    let _ = writeln!(told, "It was told:\n{}", clip::middle(asked, ASKED));
                }
            }
            EntryBody::Comments { message, .. } => {
                let _ = writeln!(told, "It was told:\n{}", clip::middle(&texts(message), ASKED));
            }
            EntryBody::Reply { message, .. } => {
                let words = texts(message);
                if !words.trim().is_empty() {
                    said = words;
                }
                calls.extend(message.parts.iter().filter_map(call));
            }
            EntryBody::Output { text } => said.clone_from(text),
            EntryBody::Plan { steps } => plan = Some(steps),
            EntryBody::End { end } => {
                outline(told, &calls, plan.map(Vec::as_slice));
                ended(told, end, &said);
                return;
            }
            EntryBody::Results { .. }
            | EntryBody::Result { .. }
            | EntryBody::Session { .. }
            | EntryBody::Note { .. } => {}
        }
    }
    outline(told, &calls, plan.map(Vec::as_slice));
    let _ = writeln!(told, "It was cut off.{}", last_words(&said));
}

fn outline(told: &mut String, calls: &[String], plan: Option<&[domain::ports::agent::PlanStep]>) {
    let left = calls.len().saturating_sub(CALLS);
    if !calls.is_empty() {
        let more = if left > 0 { format!(" (and {left} before these)") } else { String::new() };
        let _ = writeln!(told, "Its tool calls{more}:\n{}", calls[left..].join("\n"));
    }
    if let Some(plan) = plan {
        told.push_str("Its plan:\n");
        for step in plan {
            let mark = match step.state {
                StepState::Pending => ' ',
                StepState::Doing => '~',
                StepState::Done => 'x',
            };
            let _ = writeln!(told, "- [{mark}] {}", step.text);
        }
    }
}

fn ended(told: &mut String, end: &TurnEnd, said: &str) {
    let how = match &end.conclusion {
        TurnConclusion::Finished => "It finished.".to_owned(),
        TurnConclusion::Asked { question, .. } => format!("It asked a person: {question}"),
        TurnConclusion::Interrupted => "It was interrupted.".to_owned(),
        TurnConclusion::OutOfRounds => "It ran out of rounds.".to_owned(),
        TurnConclusion::OutOfBudget { why }
        | TurnConclusion::Held { why, .. }
        | TurnConclusion::Stalled { why }
        | TurnConclusion::DeadEnd { why }
        | TurnConclusion::Failed { why } => format!("It was ended: {why}."),
    };
    let words = if end.summary.trim().is_empty() { said } else { &end.summary };
    let _ = writeln!(told, "{how}{}", last_words(words));
}

fn last_words(words: &str) -> String {
    if words.trim().is_empty() {
        return String::new();
    }
    format!(" Its last words:\n{}", clip::middle(words.trim(), SAID))
}

fn texts(message: &Message) -> String {
    let texts = message.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

fn call(part: &Part) -> Option<String> {
    match part {
        Part::ToolCall { name, arguments, .. } => {
            Some(format!("- {name} {}", clip::head(arguments, CALL).replace('\n', " ")))
        }
        Part::Text { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    }
}
