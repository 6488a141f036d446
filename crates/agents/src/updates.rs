//! What a driven agent says and does, written to the transcript: normalised, in order, and bounded however much it is.
//!
//! Words are gathered into whole messages. A tool call is known by its id: what is told of it may come in any order and number of
//! updates, and is written as one call, once its input is known, and one result.

use std::collections::HashMap;

use domain::{
    Fault,
    budget::Usage,
    ports::{
        agent::{EntryBody, Line, PlanStep, StepState},
        model::{Message, Part, Role},
        sandbox::Output,
    },
};

use crate::{
    clip::{self, Room},
    journal::Journal,
};

/// Of one message: as much as a report may have.
const MAX_MESSAGE: usize = 256 * 1024;
/// Of a call's input.
const MAX_ARGUMENTS: usize = 16 * 1024;
/// Of a call's output.
const SHOWN: Room = Room { head: 16 * 1024, tail: 16 * 1024 };
/// What one turn may add to the transcript; what comes then is counted only.
const MAX_TURN: usize = 16 << 20;
/// Calls whose state is kept: older ones, done or not, are forgotten.
const MAX_CALLS: usize = 4096;
const MAX_STEPS: usize = 100;
const MAX_STEP: usize = 500;

/// What is known of a call. Fields that are `None` say nothing new.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub name: Option<String>,
    /// What it is called for people: told where its input is not.
    pub title: Option<String>,
    /// JSON text.
    pub arguments: Option<String>,
    pub output: Option<String>,
    pub state: Option<CallState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// It is announced; its input may still be coming.
    Pending,
    Running,
    Done,
    Failed,
}

#[derive(Default)]
struct Known {
    call: Call,
    is_told: bool,
    has_result: bool,
}

/// One turn's way into the transcript.
pub(crate) struct Updates<'a> {
    pub journal: Journal<'a>,
    line: &'a dyn Line,
    /// Replies that began, as far as they can be told apart: what is said or done after a result is a new one.
    rounds: u32,
    was_answered: bool,
    /// The message that is being said, its id where it has one, and what of it was too much.
    text: String,
    message: Option<String>,
    dropped: usize,
    last: String,
    calls: HashMap<String, Known>,
    plan: Vec<PlanStep>,
    written: usize,
}

impl<'a> Updates<'a> {
    pub fn new(journal: Journal<'a>, line: &'a dyn Line, rounds: u32) -> Self {
        Self {
            journal,
            line,
            rounds,
            was_answered: true,
            text: String::new(),
            message: None,
            dropped: 0,
            last: String::new(),
            calls: HashMap::new(),
            plan: Vec::new(),
            written: 0,
        }
    }

    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The last whole message.
    pub fn last_words(&self) -> &str {
        &self.last
    }

    pub fn plan(&self) -> &[PlanStep] {
        &self.plan
    }

    /// A piece of a message. Pieces with different ids belong to different messages.
    pub fn say(&mut self, message: Option<&str>, piece: &str) {
        if message.is_some() && message != self.message.as_deref() {
            self.end_message();
            self.message = message.map(str::to_owned);
        }
        if piece.is_empty() {
            return;
        }
        self.begin_round();
        let room = MAX_MESSAGE - self.text.len();
        let kept = piece.floor_char_boundary(room.min(piece.len()));
        self.text.push_str(&piece[..kept]);
        self.dropped += piece.len() - kept;
    }

    /// Writes the message that was being said.
    pub fn end_message(&mut self) {
        self.message = None;
        let mut text = std::mem::take(&mut self.text);
        let dropped = std::mem::take(&mut self.dropped);
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            return;
        }
        if dropped > 0 {
            text.push_str(&format!("\n[… {dropped} bytes dropped]"));
        }
        self.last.clone_from(&text);
        let size = text.len();
        self.reply(Part::Text { text }, size);
    }

    /// What is new of a call.
    pub fn call(&mut self, id: &str, news: Call) {
        self.end_message();
        if !self.calls.contains_key(id) && self.calls.len() >= MAX_CALLS {
            self.calls.clear();
        }
        let mut known = self.calls.remove(id).unwrap_or_default();
        if known.has_result {
            self.calls.insert(id.to_owned(), known);
            return;
        }
        known.call.merge(news);
        let is_begun = known.call.state.unwrap_or(CallState::Pending) != CallState::Pending;
        if !known.is_told && (is_begun || known.call.arguments.is_some()) {
            known.is_told = true;
            self.begin_round();
            let name = known.call.name.clone().unwrap_or_else(|| "tool".to_owned());
            let arguments = clip::head(&known.call.arguments(), MAX_ARGUMENTS);
            let size = arguments.len();
            self.reply(Part::ToolCall { id: id.to_owned(), name, arguments }, size);
        }
        if let Some(state @ (CallState::Done | CallState::Failed)) = known.call.state {
            known.has_result = true;
            let output = known.call.output.take().unwrap_or_default();
            known.call = Call::default();
            self.result(id, &output, state == CallState::Failed);
        }
        self.calls.insert(id.to_owned(), known);
    }

    /// The agent's own plan, whole.
    pub fn plan_is(&mut self, mut steps: Vec<PlanStep>) {
        steps.truncate(MAX_STEPS);
        for step in &mut steps {
            step.text = clip::head(&step.text, MAX_STEP);
        }
        if steps == self.plan {
            return;
        }
        self.plan = steps;
        let done = self.plan.iter().filter(|step| step.state == StepState::Done).count();
        let current = self.plan.iter().find(|step| step.state == StepState::Doing);
        let percent = (done * 100).checked_div(self.plan.len()).and_then(|percent| u8::try_from(percent).ok());
        let text =
            current.map_or_else(|| format!("{done} of {} steps done", self.plan.len()), |step| step.text.clone());
        self.line.progress(percent, text);
        let size = self.plan.iter().map(|step| step.text.len()).sum();
        self.write(EntryBody::Plan { steps: self.plan.clone() }, size);
    }

    /// Something for the reader.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = clip::head(&text.into(), MAX_STEP * 4);
        let size = text.len();
        self.write(EntryBody::Note { text }, size);
    }

    /// Ends what is open: nothing more comes of it. `why` stands in the place of results that never came.
    pub async fn close(&mut self, why: &str) -> Result<(), Fault> {
        self.end_message();
        let mut open: Vec<_> = self.calls.drain().filter(|(_, known)| known.is_told && !known.has_result).collect();
        open.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (id, known) in open {
            let output = known.call.output.unwrap_or_default();
            self.result(&id, &format!("{output}\n[{why}]"), true);
        }
        self.journal.settled().await
    }

    /// A new prompt: what comes now is another reply, and its calls may have the ids of earlier ones.
    pub fn prompted(&mut self) {
        self.end_message();
        self.calls.clear();
        self.was_answered = true;
    }

    fn begin_round(&mut self) {
        self.rounds += u32::from(std::mem::take(&mut self.was_answered));
    }

    fn reply(&mut self, part: Part, size: usize) {
        let message = Message { role: Role::Assistant, parts: vec![part] };
        // What it cost, the gateway says.
        self.write(EntryBody::Reply { message, usage: Usage::default() }, size);
    }

    fn result(&mut self, id: &str, output: &str, is_error: bool) {
        self.was_answered = true;
        let text = clipped(output.trim_end());
        let size = text.len();
        self.write(EntryBody::Result { id: id.to_owned(), text, is_error }, size);
    }

    fn write(&mut self, body: EntryBody, size: usize) {
        /// Of an entry without its text.
        const FRAME: usize = 200;
        let before = self.written;
        self.written = before.saturating_add(size + FRAME);
        if self.written <= MAX_TURN {
            self.journal.write(self.rounds, body);
        } else if before <= MAX_TURN {
            let text =
                format!("More than {} MiB came from the agent in this turn; the rest is not kept.", MAX_TURN >> 20);
            self.journal.write(self.rounds, EntryBody::Note { text });
        }
    }
}

impl Call {
    fn arguments(&self) -> String {
        match (&self.arguments, &self.title) {
            (Some(arguments), _) => arguments.clone(),
            (None, Some(title)) => serde_json::json!({ "title": title }).to_string(),
            (None, None) => "{}".to_owned(),
        }
    }

    fn merge(&mut self, news: Self) {
        self.name = news.name.or(self.name.take());
        self.title = news.title.or(self.title.take());
        self.arguments = news.arguments.or(self.arguments.take());
        self.output = news.output.map(|output| clipped(&output)).or(self.output.take());
        // Updates that come late do not take back what was begun.
        self.state = match (self.state, news.state) {
            (Some(CallState::Running), Some(CallState::Pending)) | (_, None) => self.state,
            (_, state) => state,
        };
    }
}

fn clipped(text: &str) -> String {
    if text.len() <= SHOWN.head + SHOWN.tail {
        return text.to_owned();
    }
    let head = bytes::Bytes::copy_from_slice(text.as_bytes());
    let total = head.len() as u64;
    clip::since(&Output { head, total, ..Output::default() }, 0, SHOWN).text
}
