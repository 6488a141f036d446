//! What an attempt's transcript tells a driver: where the turn is, which session goes on, and what was done so far.

use std::fmt::Write;

use domain::{
    ids::{CommentId, TurnNo},
    ports::{
        agent::{Entry, EntryBody, TurnEnd, TurnRequest},
        model::Part,
    },
};

use crate::clip;

/// Of each text in the account, and how many of the last tool calls are in it.
const MAX_TEXT: usize = 1500;
const MAX_CALL: usize = 200;
const LAST_CALLS: usize = 12;

/// See the fields.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Of the current turn.
    pub end: Option<TurnEnd>,
    /// Whether the current turn had begun, and whether anything came of it: then its prompt was heard.
    pub begun: bool,
    pub answered: bool,
    /// Replies of the current turn so far.
    pub rounds: u32,
    /// Comments of the current turn that were told to the agent, with their rounds.
    pub heard: Vec<(u32, Vec<CommentId>)>,
    /// The agent's session, where its conversation holds nothing that is void.
    pub session: Option<String>,
    /// For an agent that knows nothing of it; empty at the beginning of an attempt.
    pub account: String,
}

impl Past {
    /// `agent`: whose sessions can go on.
    pub fn read(entries: Vec<Entry>, request: &TurnRequest, agent: &str) -> Self {
        let mut past = Self::default();
        let mut session: Option<(TurnNo, String)> = None;
        let mut calls = Vec::new();
        for Entry { turn, round, body } in entries {
            if request.void.iter().any(|(first, last)| (*first..=*last).contains(&turn)) {
                // The session of an earlier turn has heard this as well.
                session = None;
                continue;
            }
            let is_current = turn == request.turn;
            match body {
                EntryBody::Session { agent: whose, id } => {
                    session = (whose == agent).then_some((turn, id));
                }
                EntryBody::Prompt { .. } => past.begun |= is_current,
                EntryBody::Reply { message, .. } => {
                    if is_current {
                        past.answered = true;
                        past.rounds = past.rounds.max(round);
                    }
                    calls.extend(message.parts.into_iter().filter_map(told));
                }
                EntryBody::Comments { ids, .. } if is_current => past.heard.push((round, ids)),
                EntryBody::End { end } if is_current => past.end = Some(end),
                EntryBody::End { end } => {
                    calls.clear();
                    if !end.summary.is_empty() {
                        let _ = writeln!(past.account, "- turn {turn}: {}", clip::head(&end.summary, MAX_TEXT));
                    }
                }
                EntryBody::Comments { .. }
                | EntryBody::Results { .. }
                | EntryBody::Result { .. }
                | EntryBody::Plan { .. }
                | EntryBody::Output { .. }
                | EntryBody::Note { .. } => {}
            }
        }
        for call in calls.iter().skip(calls.len().saturating_sub(LAST_CALLS)) {
            let _ = writeln!(past.account, "- {call}");
        }
        past.session = session.filter(|_| !request.fresh).map(|(_, id)| id);
        past
    }
}

/// A part of a reply in the account.
fn told(part: Part) -> Option<String> {
    match part {
        Part::Text { text } => Some(format!("said: {}", clip::head(&text, MAX_TEXT))),
        Part::ToolCall { name, arguments, .. } => Some(format!("called {name} {}", clip::head(&arguments, MAX_CALL))),
        Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    }
}
