//! The conversation with the model, and how it is rebuilt from a transcript.
//!
//! Live and rebuilt conversations come about by the same few methods, so that a turn that was cut off anywhere goes on with
//! the very bytes it would have had.

use domain::{
    ids::{CommentId, TurnNo},
    ports::{
        agent::{Entry, EntryBody, TurnEnd, TurnRequest},
        model::{Message, Part, Role, Stop},
    },
};

use super::tools::{Lending, Toolbox};

/// What stands for a tool result whose call was under way, or not begun, when the turn was cut off.
const UNKNOWN: &str =
    "No result: Overnight was restarted while this ran, so its effects are unknown. Inspect before you repeat it.";
const NOT_RUN: &str = "Not run: Overnight was restarted before it began.";
/// What an image counts for, in bytes: models charge for what it shows.
const IMAGE_BYTES: usize = 6 * 1024;

/// A tool call's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub text: String,
    pub is_error: bool,
    /// Shown after the results of the reply.
    pub images: Vec<Part>,
}

impl Done {
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: false, images: Vec::new() }
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true, images: Vec::new() }
    }

    /// The result of the next call of a reply whose turn was cut off, `lost` results after the last one recorded. Calls that
    /// change something run one after the other, each once the result before it is durable: only the first can have begun.
    pub fn lost(lost: usize) -> Self {
        Self::error(if lost == 0 { UNKNOWN } else { NOT_RUN })
    }

    pub fn part(self, id: String) -> Part {
        Part::ToolResult { id, text: self.text, is_error: self.is_error }
    }
}

/// Facts of a turn that the messages do not tell, written as notes of the transcript.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Before a turn's prompt: the conversation begins with it, whatever there was before.
    Begins,
    /// Before a turn's prompt: it goes on with our conversation. Turns without either are another agent's.
    GoesOn,
    /// Behind `Begins`: the tools that servers of the repository lend to the conversation.
    Lent(Lending),
    /// Before a reply: it was cut at the output limit.
    Cut,
    /// Before a reply: the model refused to go on.
    Refused,
    /// Instead of a reply, and why.
    Garbage(String),
    /// The oldest tool results were left out until so many bytes remained.
    Shortened(usize),
    /// All but so many messages were summed up.
    SummedUp { kept: usize, summary: String },
    /// The images were left out: the model takes none.
    Blind,
}

impl Mark {
    const BEGINS: &str = "The built-in agent begins a conversation.";
    const GOES_ON: &str = "The built-in agent goes on with its conversation.";
    const LENT: &str = "Tools of the repository's servers: ";
    const CUT: &str = "The next reply was cut at the output limit.";
    const REFUSED: &str = "In the next reply the model refuses to go on.";
    const GARBAGE: &str = "The model's answer was no valid reply; it is asked again: ";
    const SHORTENED: &str = "The oldest tool results were left out of the conversation, down to bytes: ";
    const SUMMED_UP: &str = "The conversation was summed up to make room, but for the last messages: ";
    const BLIND: &str = "The images were left out of the conversation: the model takes none.";

    pub fn of(stop: Stop) -> Option<Self> {
        match stop {
            Stop::Length => Some(Self::Cut),
            Stop::Refused => Some(Self::Refused),
            Stop::EndTurn | Stop::ToolCalls => None,
        }
    }

    pub fn note(&self) -> EntryBody {
        let text = match self {
            Self::Begins => Self::BEGINS.to_owned(),
            Self::GoesOn => Self::GOES_ON.to_owned(),
            // A lending is plain texts: it always has a JSON form.
            Self::Lent(lending) => format!("{}{}", Self::LENT, serde_json::to_string(lending).unwrap_or_default()),
            Self::Cut => Self::CUT.to_owned(),
            Self::Refused => Self::REFUSED.to_owned(),
            Self::Garbage(why) => format!("{}{why}", Self::GARBAGE),
            Self::Shortened(bytes) => format!("{}{bytes}", Self::SHORTENED),
            Self::SummedUp { kept, summary } => format!("{}{kept}\n{summary}", Self::SUMMED_UP),
            Self::Blind => Self::BLIND.to_owned(),
        };
        EntryBody::Note { text }
    }

    pub fn read(note: &str) -> Option<Self> {
        match note {
            Self::BEGINS => return Some(Self::Begins),
            Self::GOES_ON => return Some(Self::GoesOn),
            Self::CUT => return Some(Self::Cut),
            Self::REFUSED => return Some(Self::Refused),
            Self::BLIND => return Some(Self::Blind),
            _ => {}
        }
        if let Some(lending) = note.strip_prefix(Self::LENT) {
            return serde_json::from_str(lending).ok().map(Self::Lent);
        }
        if let Some(why) = note.strip_prefix(Self::GARBAGE) {
            return Some(Self::Garbage(why.to_owned()));
        }
        if let Some(rest) = note.strip_prefix(Self::SUMMED_UP) {
            let (kept, summary) = rest.split_once('\n')?;
            return Some(Self::SummedUp { kept: kept.parse().ok()?, summary: summary.to_owned() });
        }
        note.strip_prefix(Self::SHORTENED)?.parse().ok().map(Self::Shortened)
    }
}

/// All messages of a conversation so far, and where its current turn is.
#[derive(Debug)]
pub(super) struct Conversation {
    pub messages: Vec<Message>,
    pub tools: Toolbox,
    /// What was said to the agent after the conversation's first prompt: further prompts, comments, notices.
    pub said: Vec<String>,
    /// Whether the model takes no images.
    pub blind: bool,
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
    pub fn new(request: &TurnRequest) -> Self {
        Self {
            messages: Vec::new(),
            tools: Toolbox::new(request.profile.as_deref()),
            said: Vec::new(),
            blind: false,
            bytes: 0,
            opened: false,
            rounds: 0,
            strikes: 0,
            problem: String::new(),
            stop: Stop::EndTurn,
            recorded: None,
            heard: Vec::new(),
            end: None,
        }
    }

    /// Rebuilds what the entries tell, as it is at the requested turn. Without messages: a new conversation is to begin.
    pub fn rebuild(entries: Vec<Entry>, request: &TurnRequest) -> Self {
        let mut this = Self::new(request);
        // The last turn that is ours.
        let mut ours = None;
        for entry in entries.into_iter().filter(|entry| !is_void(request, entry.turn)) {
            match &entry.body {
                EntryBody::Note { text } => match Mark::read(text) {
                    Some(Mark::Begins) => {
                        this = Self { heard: this.heard, ..Self::new(request) };
                        ours = Some(entry.turn);
                    }
                    Some(Mark::GoesOn) => ours = Some(entry.turn),
                    Some(mark) if ours == Some(entry.turn) => this.heed(entry.round, mark),
                    Some(_) | None => {}
                },
                EntryBody::End { end } if entry.turn == request.turn => this.end = Some(end.clone()),
                EntryBody::End { .. } => {}
                // Another agent worked on from here: our conversation knows nothing of it.
                _ if ours != Some(entry.turn) => this.messages.clear(),
                _ => this.replay(entry, request.turn),
            }
        }
        if !this.opened {
            if request.fresh || this.messages.is_empty() {
                return Self { end: this.end, ..Self::new(request) };
            }
            this.open();
        }
        this
    }

    fn heed(&mut self, round: u32, mark: Mark) {
        match mark {
            Mark::Begins | Mark::GoesOn => {}
            Mark::Lent(lending) => self.tools.lend(lending),
            Mark::Cut => self.stop = Stop::Length,
            Mark::Refused => self.stop = Stop::Refused,
            Mark::Garbage(why) => self.garbage(round, &why),
            Mark::Shortened(bytes) => self.shorten(bytes),
            Mark::SummedUp { kept, summary } => self.sum_up(kept, &summary),
            Mark::Blind => self.blind(),
        }
    }

    fn replay(&mut self, Entry { turn, round, body }: Entry, current: TurnNo) {
        match body {
            EntryBody::Prompt { message } => {
                self.open();
                self.opened = turn == current;
                self.tell(message);
            }
            EntryBody::Reply { message, .. } => {
                let stop = std::mem::replace(&mut self.stop, Stop::EndTurn);
                self.reply(round, message, stop);
                self.recorded = Some(Vec::new());
            }
            EntryBody::Result { text, is_error, .. } => {
                let done = Done { text, is_error, images: Vec::new() };
                self.recorded.get_or_insert_default().push(done);
            }
            EntryBody::Results { message } => {
                self.recorded = None;
                self.push(message);
            }
            EntryBody::Comments { ids, message } => {
                if turn == current && !ids.is_empty() {
                    self.heard.push((round, ids));
                }
                self.tell(message);
            }
            EntryBody::Plan { .. }
            | EntryBody::Session { .. }
            | EntryBody::Note { .. }
            | EntryBody::End { .. }
            | EntryBody::Output { .. } => {}
        }
    }

    /// Adds what somebody says to the agent.
    pub fn tell(&mut self, message: Message) {
        if !self.messages.is_empty() {
            self.said.extend(message.parts.iter().filter_map(text).map(str::to_owned));
        }
        self.push(message);
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
        match self.problem_of(&message, stop) {
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

    /// Why nothing in a reply can be used; `None` when something can.
    fn problem_of(&self, reply: &Message, stop: Stop) -> Option<&'static str> {
        let mut calls = calls(reply).peekable();
        if calls.peek().is_some() {
            let unusable = calls.all(|(_, name, arguments)| self.tools.parse(name, arguments).is_err());
            return unusable.then_some("it called unknown tools, or with unusable arguments");
        }
        match stop {
            Stop::Length => Some("it was cut at the output limit before any tool call"),
            Stop::EndTurn | Stop::ToolCalls | Stop::Refused if reply.parts.iter().any(is_telling) => None,
            Stop::EndTurn | Stop::ToolCalls | Stop::Refused => Some("it was empty"),
        }
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
        let texts = last.iter().flat_map(|message| &message.parts).filter_map(text).map(str::trim);
        texts.collect::<Vec<_>>().join("\n\n")
    }

    pub fn images(&self) -> usize {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        parts.filter(|part| matches!(part, Part::Image { .. })).count()
    }

    /// Leaves out all images, for a model that takes none.
    pub fn blind(&mut self) {
        self.blind = true;
        for part in self.messages.iter_mut().flat_map(|message| &mut message.parts) {
            self.bytes -= leave_out_image(part);
        }
    }

    /// Tool calls with their results, newest first: name, arguments, result.
    fn answered(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.messages.windows(2).rev().filter(|pair| pair[0].role == Role::Assistant).flat_map(|pair| {
            let results = pair[1].parts.iter().filter_map(|part| match part {
                Part::ToolResult { text, .. } => Some(text.as_str()),
                Part::Text { .. } | Part::ToolCall { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
            });
            let answered = calls(&pair[0]).zip(results).map(|((_, name, arguments), result)| (name, arguments, result));
            answered.collect::<Vec<_>>().into_iter().rev()
        })
    }

    /// How many times in a row the same call had the same result, up to now. Waiting for a command is no repetition.
    pub fn repetitions(&self) -> usize {
        let mut answered = self.answered();
        match answered.next() {
            None | Some(("poll", ..)) => 0,
            Some(last) => 1 + answered.take_while(|before| *before == last).count(),
        }
    }

    /// Leaves out the oldest tool results and images, but those of the last two messages, until at most `bytes` remain or none
    /// is left.
    pub fn shorten(&mut self, bytes: usize) {
        const LEFT_OUT: &str = "[left out to make room; run it again if you need it]";
        let until = self.messages.len().saturating_sub(2);
        for part in self.messages[..until].iter_mut().flat_map(|message| &mut message.parts) {
            if self.bytes <= bytes {
                return;
            }
            self.bytes -= leave_out_image(part);
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

/// Whether the attempt was taken back to before this turn.
pub(super) fn is_void(request: &TurnRequest, turn: TurnNo) -> bool {
    request.void.iter().any(|(first, last)| (*first..=*last).contains(&turn))
}

/// Puts a line in the place of an image; says by how many bytes it is shorter.
fn leave_out_image(part: &mut Part) -> usize {
    const LEFT_OUT: &str = "[an image was left out]";
    if !matches!(part, Part::Image { .. }) {
        return 0;
    }
    *part = Part::Text { text: LEFT_OUT.to_owned() };
    IMAGE_BYTES - LEFT_OUT.len()
}

pub(super) fn text(part: &Part) -> Option<&str> {
    match part {
        Part::Text { text } => Some(text),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    }
}

pub(super) fn calls(message: &Message) -> impl Iterator<Item = (&str, &str, &str)> {
    message.parts.iter().filter_map(|part| match part {
        Part::ToolCall { id, name, arguments } => Some((id.as_str(), name.as_str(), arguments.as_str())),
        Part::Text { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    })
}

fn is_telling(part: &Part) -> bool {
    matches!(part, Part::Text { text } if !text.trim().is_empty())
}

pub(super) fn size(part: &Part) -> usize {
    match part {
        Part::Text { text } => text.len(),
        Part::ToolCall { id, name, arguments } => id.len() + name.len() + arguments.len(),
        Part::ToolResult { id, text, .. } => id.len() + text.len(),
        Part::Image { .. } => IMAGE_BYTES,
        Part::Opaque { json } => json.len(),
    }
}
