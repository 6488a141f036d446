//! The conversation with the model, and how it is rebuilt from a transcript.
//!
//! Live and rebuilt conversations come about by the same few methods, so that a turn that was cut off anywhere goes on with
//! the very bytes it would have had.

use domain::{
    ids::{CommentId, TurnNo},
    ports::{
        agent::{Entry, EntryBody, TurnEnd},
        model::{Message, Part, Role, Stop},
    },
};

use super::tools;

/// What stands for a tool result whose call was under way, or not begun, when the turn was cut off.
const UNKNOWN: &str =
    "No result: Overnight was restarted while this ran, so its effects are unknown. Inspect before you repeat it.";
const NOT_RUN: &str = "Not run: Overnight was restarted before it began.";

/// What an image counts for: models charge for its pixels, not for its bytes.
const IMAGE_BYTES: usize = 6 * 1024;

/// A tool call's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub text: String,
    pub is_error: bool,
}

impl Done {
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: false }
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true }
    }

    /// The result of the next call of a reply whose turn was cut off, `lost` results after the last one recorded. Calls run
    /// one after the other, each once the result before it is durable: only the first can have begun.
    pub fn lost(lost: usize) -> Self {
        Self::error(if lost == 0 { UNKNOWN } else { NOT_RUN })
    }

    pub fn part(self, id: String) -> Part {
        Part::ToolResult { id, text: self.text, is_error: self.is_error }
    }
}

/// Facts of a turn that the messages do not tell, written as notes of the transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Before a reply: it was cut at the output limit.
    Cut,
    /// Before a reply: the model refused to go on.
    Refused,
    /// Instead of a reply.
    Garbage,
    /// The oldest tool results were left out until so many bytes remained.
    Shortened(usize),
}

impl Mark {
    const CUT: &str = "The next reply was cut at the output limit.";
    const REFUSED: &str = "In the next reply the model refuses to go on.";
    const GARBAGE: &str = "The model's answer was no valid reply; it is asked again: ";
    const SHORTENED: &str = "The oldest tool results were left out of the conversation, down to bytes: ";

    pub fn of(stop: Stop) -> Option<Self> {
        match stop {
            Stop::Length => Some(Self::Cut),
            Stop::Refused => Some(Self::Refused),
            Stop::EndTurn | Stop::ToolCalls => None,
        }
    }

    /// The note's text; `why` tells about garbage.
    pub fn note(self, why: &str) -> EntryBody {
        let text = match self {
            Self::Cut => Self::CUT.to_owned(),
            Self::Refused => Self::REFUSED.to_owned(),
            Self::Garbage => format!("{}{why}", Self::GARBAGE),
            Self::Shortened(bytes) => format!("{}{bytes}", Self::SHORTENED),
        };
        EntryBody::Note { text }
    }

    fn read(note: &str) -> Option<Self> {
        match note {
            Self::CUT => Some(Self::Cut),
            Self::REFUSED => Some(Self::Refused),
            _ if note.starts_with(Self::GARBAGE) => Some(Self::Garbage),
            _ => note.strip_prefix(Self::SHORTENED)?.parse().ok().map(Self::Shortened),
        }
    }
}

/// All messages of an attempt so far, and where its current turn is.
#[derive(Debug)]
pub(super) struct Conversation {
    pub messages: Vec<Message>,
    /// Bytes of all parts.
    pub bytes: usize,
    /// Whether the current turn's prompt is in.
    pub opened: bool,
    /// Model calls of the current turn that were answered, well or not.
    pub rounds: u32,
    /// Answers in a row with nothing usable in them.
    pub strikes: u32,
    /// What was wrong with the last of them.
    pub problem: String,
    /// How the last reply ended.
    pub stop: Stop,
    /// Of a rebuilt conversation that ends with a reply: the results recorded for its calls, in order.
    pub recorded: Option<Vec<Done>>,
    /// Comments of the current turn that the transcript already holds, with their rounds.
    pub heard: Vec<(u32, Vec<CommentId>)>,
    /// The current turn's end.
    pub end: Option<TurnEnd>,
}

impl Conversation {
    /// Rebuilds what the entries tell, as it is at `turn`.
    pub fn rebuild(entries: Vec<Entry>, turn: TurnNo) -> Self {
        let mut this = Self {
            messages: Vec::new(),
            bytes: 0,
            opened: false,
            rounds: 0,
            strikes: 0,
            problem: String::new(),
            stop: Stop::EndTurn,
            recorded: None,
            heard: Vec::new(),
            end: None,
        };
        for entry in entries {
            this.replay(entry, turn);
        }
        if !this.opened {
            this.open();
        }
        this
    }

    fn replay(&mut self, Entry { turn, round, body }: Entry, current: TurnNo) {
        match body {
            EntryBody::Prompt { message } => {
                self.open();
                self.opened = turn == current;
                self.push(message);
            }
            EntryBody::Reply { message, .. } => {
                let stop = std::mem::replace(&mut self.stop, Stop::EndTurn);
                self.reply(round, message, stop);
                self.recorded = Some(Vec::new());
            }
            EntryBody::Result { text, is_error, .. } => {
                self.recorded.get_or_insert_default().push(Done { text, is_error });
            }
            EntryBody::Results { message } => {
                self.recorded = None;
                self.push(message);
            }
            EntryBody::Comments { ids, message } => {
                if turn == current {
                    self.heard.push((round, ids));
                }
                self.push(message);
            }
            EntryBody::Note { text } => match Mark::read(&text) {
                Some(Mark::Cut) => self.stop = Stop::Length,
                Some(Mark::Refused) => self.stop = Stop::Refused,
                Some(Mark::Garbage) => self.garbage(round, text.strip_prefix(Mark::GARBAGE).unwrap_or_default()),
                Some(Mark::Shortened(bytes)) => self.shorten(bytes),
                None => {}
            },
            EntryBody::End { end } if turn == current => self.end = Some(end),
            EntryBody::Plan { .. } | EntryBody::Session { .. } | EntryBody::End { .. } | EntryBody::Output { .. } => {}
        }
    }

    /// Makes ready for a turn: calls that an earlier turn left without results get theirs, as providers want every call answered.
    fn open(&mut self) {
        if let Some(recorded) = self.recorded.take() {
            let known = recorded.len();
            let mut results = recorded.into_iter();
            let answers = self.calls().into_iter().enumerate().map(|(at, (id, ..))| {
                results.next().unwrap_or_else(|| Done::lost(at.saturating_sub(known))).part(id.to_owned())
            });
            let message = Message { role: Role::User, parts: answers.collect() };
            self.push(message);
        }
        self.rounds = 0;
        self.strikes = 0;
    }

    /// Adds a message. One of the same role as the last goes into it: providers want the roles to alternate.
    pub fn push(&mut self, message: Message) {
        self.bytes += message.parts.iter().map(size).sum::<usize>();
        match self.messages.last_mut() {
            Some(last) if last.role == message.role => last.parts.extend(message.parts),
            _ if message.parts.is_empty() => {}
            _ => self.messages.push(message),
        }
    }

    /// Adds the reply of `round`.
    pub fn reply(&mut self, round: u32, mut message: Message, stop: Stop) {
        self.rounds = round;
        self.stop = stop;
        match problem(&message, stop) {
            Some(problem) => self.strike(problem),
            None => self.strikes = 0,
        }
        // Providers refuse to be sent empty texts, or a reply of nothing but reasoning, though models produce them.
        message.parts.retain(|part| is_telling(part) || !matches!(part, Part::Text { .. }));
        if message.parts.iter().all(|part| matches!(part, Part::Opaque { .. })) {
            message.parts.push(Part::Text { text: "(empty reply)".to_owned() });
        }
        self.push(message);
    }

    /// Counts an answer that was no reply.
    pub fn garbage(&mut self, round: u32, why: &str) {
        self.rounds = round;
        self.strike(why);
    }

    fn strike(&mut self, problem: &str) {
        self.strikes += 1;
        problem.clone_into(&mut self.problem);
    }

    /// Whether the last message is a reply that was not answered yet.
    pub fn awaits_results(&self) -> bool {
        self.messages.last().is_some_and(|last| last.role == Role::Assistant)
    }

    /// The last reply's tool calls: id, name, arguments.
    pub fn calls(&self) -> Vec<(&str, &str, &str)> {
        match self.messages.last() {
            Some(last) if last.role == Role::Assistant => calls(last).collect(),
            _ => Vec::new(),
        }
    }

    /// What the agent said last.
    pub fn last_words(&self) -> String {
        let last = self.messages.iter().rfind(|message| message.role == Role::Assistant);
        let texts = last.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
            Part::Text { text } => Some(text.trim()),
            Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
        });
        texts.collect::<Vec<_>>().join("\n\n")
    }

    /// Leaves out the oldest tool results, but those of the last two messages, until at most `bytes` remain or none is left.
    pub fn shorten(&mut self, bytes: usize) {
        const LEFT_OUT: &str = "[left out to make room; run it again if you need it]";
        let until = self.messages.len().saturating_sub(2);
        for part in self.messages[..until].iter_mut().flat_map(|message| &mut message.parts) {
            if self.bytes <= bytes {
                return;
            }
            if let Part::ToolResult { text, .. } = part
                && text.len() > LEFT_OUT.len()
            {
                self.bytes -= text.len() - LEFT_OUT.len();
                LEFT_OUT.clone_into(text);
                text.shrink_to_fit();
            }
        }
    }
}

fn calls(message: &Message) -> impl Iterator<Item = (&str, &str, &str)> {
    message.parts.iter().filter_map(|part| match part {
        Part::ToolCall { id, name, arguments } => Some((id.as_str(), name.as_str(), arguments.as_str())),
        Part::Text { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    })
}

/// Why nothing in a reply can be used; `None` when something can.
fn problem(reply: &Message, stop: Stop) -> Option<&'static str> {
    let mut calls = calls(reply).peekable();
    if calls.peek().is_some() {
        let unusable = calls.all(|(_, name, arguments)| tools::parse(name, arguments).is_err());
        return unusable.then_some("it called unknown tools, or with unusable arguments");
    }
    match stop {
        Stop::Length => Some("it was cut at the output limit before any tool call"),
        Stop::EndTurn | Stop::ToolCalls | Stop::Refused if reply.parts.iter().any(is_telling) => None,
        Stop::EndTurn | Stop::ToolCalls | Stop::Refused => Some("it was empty"),
    }
}

fn is_telling(part: &Part) -> bool {
    matches!(part, Part::Text { text } if !text.trim().is_empty())
}

fn size(part: &Part) -> usize {
    match part {
        Part::Text { text } => text.len(),
        Part::ToolCall { id, name, arguments } => id.len() + name.len() + arguments.len(),
        Part::ToolResult { id, text, .. } => id.len() + text.len(),
        Part::Image { .. } => IMAGE_BYTES,
        Part::Opaque { json } => json.len(),
    }
}
