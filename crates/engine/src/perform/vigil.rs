//! Watching over a turn by what can be observed of any agent: its model calls, what it writes down, its tools, its workspace.
//!
//! The ladder within one turn is: a notice to people, a nudge to the agent, the turn's end. What follows an end, `step` decides.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{
    Fault,
    ids::CommitId,
    ports::{
        BoxFuture,
        agent::{Entry, EntryBody, Transcript, TurnConclusion},
        model::{Barrier, CallNews, CallWatch, Message, Part},
    },
};
use tokio::{sync::Notify, time::Instant};

use super::line::Line;

/// When an agent counts as getting nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Stalls {
    /// Without any sign for so long, people are told; after one and a half times as long the agent is nudged, after twice as long its turn
    /// ends. While a tool runs, six times as long.
    pub quiet: Duration,
    /// The same tool calls with the same results so often in a row: the agent is nudged; twice as often: its turn ends.
    pub repeats: u32,
}

impl Stalls {
    /// For an agent that watches something: that nothing changes is what it hopes for.
    pub(super) fn of_a_watch(self) -> Self {
        Self { repeats: u32::MAX, ..self }
    }
}

impl Default for Stalls {
    fn default() -> Self {
        Self { quiet: Duration::from_mins(10), repeats: 6 }
    }
}

/// How much longer a running tool may be silent.
const TOOL_PATIENCE: u32 = 6;

/// What the one who runs the turn is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Tell people, in these words.
    Notice(String),
    /// Tell the agent.
    Nudge(String),
    /// End the turn: this is how it ended.
    End(TurnConclusion),
}

/// The eyes on one turn.
#[derive(Debug)]
pub(super) struct Vigil {
    stalls: Stalls,
    /// Model calls that may be made; an agent that counts for itself has none.
    max_calls: Option<u32>,
    seen: Mutex<Seen>,
    calls: AtomicU32,
    changed: Notify,
}

#[derive(Debug)]
struct Seen {
    last: Instant,
    /// Calls of tools whose result is not there.
    tools: HashSet<String>,
    /// Whether a model call is out.
    asking: bool,
    head: Option<CommitId>,
    /// Calls of the last replies without a result, and what the others and their results came to, in any order.
    open: HashMap<String, u64>,
    round: Option<u64>,
    /// The last round of calls and results, and how often it came in a row.
    repeated: (u64, u32),
    /// Rungs climbed for silence and for repetition.
    silence: u8,
    repetition: u8,
    nearing: Option<String>,
    /// The agent's model and the one for side work each tell it; it is heard once.
    was_near: bool,
    barrier: Option<Barrier>,
}

impl Vigil {
    /// `is_program`: it is one long tool call, which says nothing of how it goes.
    pub fn new(stalls: Stalls, max_calls: Option<u32>, is_program: bool) -> Arc<Self> {
        let seen = Seen {
            last: Instant::now(),
            tools: is_program.then(String::new).into_iter().collect(),
            asking: false,
            head: None,
            open: HashMap::new(),
            round: None,
            repeated: (0, 0),
            silence: 0,
            repetition: 0,
            nearing: None,
            was_near: false,
            barrier: None,
        };
        Arc::new(Self { stalls, max_calls, seen: seen.into(), calls: AtomicU32::new(0), changed: Notify::new() })
    }

    /// Whether it counts the agent's model calls, as the agent itself does not.
    pub fn counts(&self) -> bool {
        self.max_calls.is_some()
    }

    /// Model calls that were answered.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Why no call of an agent with a client of its own can succeed any more.
    pub fn barrier(&self) -> Option<TurnConclusion> {
        self.seen().barrier.clone().map(ended_by)
    }

    /// A snapshot of the running turn: a change is a sign of life.
    pub fn snapshotted(&self, head: &CommitId) {
        let mut seen = self.seen();
        if seen.head.as_ref() != Some(head) {
            seen.head = Some(head.clone());
            self.sign(&mut seen);
        }
    }

    /// Resolves when something is to be done. Each rung is climbed once, until a sign of life.
    pub async fn alarm(&self) -> Alarm {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = {
                let mut seen = self.seen();
                match self.due(&mut seen) {
                    Ok(alarm) => return alarm,
                    Err(next) => next,
                }
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// What is to be done now, or when to look again.
    fn due(&self, seen: &mut Seen) -> Result<Alarm, Instant> {
        if let Some(words) = seen.nearing.take() {
            return Ok(Alarm::Nudge(words));
        }
        if let (Some(barrier), Some(_)) = (&seen.barrier, self.max_calls) {
            return Ok(Alarm::End(ended_by(barrier.clone())));
        }
        if self.max_calls.is_some_and(|most| self.calls() >= most && seen.asking) {
            return Ok(Alarm::End(TurnConclusion::OutOfRounds));
        }
        if let Some(alarm) = self.repetition(seen) {
            return Ok(alarm);
        }
        let patience = if seen.tools.is_empty() { self.stalls.quiet } else { self.stalls.quiet * TOOL_PATIENCE };
        let after = match seen.silence {
            0 => patience,
            1 => patience * 3 / 2,
            _ => patience * 2,
        };
        let due = seen.last + after;
        if Instant::now() < due {
            return Err(due);
        }
        seen.silence += 1;
        let quiet = minutes(after);
        Ok(match seen.silence {
            1 => Alarm::Notice(format!("quiet for {quiet}: no model call, no tool, no output, no change")),
            2 => Alarm::Nudge(format!(
                "Nothing has been heard of you for {quiet}. If a command hangs, stop it and try another way; if you wait for something, \
                 say what; if you are done, finish."
            )),
            _ => Alarm::End(TurnConclusion::Stalled {
                why: format!(
                    "the turn got nowhere: for {quiet} there was no model call, no tool, no output and no change"
                ),
            }),
        })
    }

    fn repetition(&self, seen: &mut Seen) -> Option<Alarm> {
        let (_, times) = seen.repeated;
        if seen.repetition == 0 && times >= self.stalls.repeats {
            seen.repetition = 1;
            return Some(Alarm::Nudge(format!(
                "You have made the same tool call {times} times in a row, with the same result each time. It will not change: look at \
                 what it says, and try something else."
            )));
        }
        (seen.repetition == 1 && times >= self.stalls.repeats.saturating_mul(2)).then(|| {
            seen.repetition = 2;
            let why =
                format!("the agent made the same tool call {times} times in a row, with the same result each time");
            Alarm::End(TurnConclusion::Stalled { why })
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, seen: &mut Seen) {
        seen.last = Instant::now();
        seen.silence = 0;
        self.changed.notify_one();
    }

    fn read(&self, body: &EntryBody) {
        let mut seen = self.seen();
        match body {
            EntryBody::Reply { message, .. } => seen.called(message),
            EntryBody::Result { id, text, .. } => seen.answered(id, text),
            EntryBody::Results { message } => {
                for part in &message.parts {
                    if let Part::ToolResult { id, text, .. } = part
                        && seen.tools.contains(id)
                    {
                        seen.answered(id, text);
                    }
                }
            }
            EntryBody::Prompt { .. }
            | EntryBody::Comments { .. }
            | EntryBody::Plan { .. }
            | EntryBody::Session { .. }
            | EntryBody::Output { .. }
            | EntryBody::Note { .. }
            | EntryBody::End { .. } => {}
        }
        self.sign(&mut seen);
    }
}

impl Seen {
    fn called(&mut self, message: &Message) {
        let calls = message.parts.iter().filter_map(|part| match part {
            Part::ToolCall { id, name, arguments } => Some((id.clone(), hash(&(name, arguments)))),
            Part::Text { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
        });
        let calls: Vec<_> = calls.collect();
        // What has no result by now gets none.
        if !calls.is_empty() && self.round.is_some() {
            self.open.clear();
            self.close_round();
        }
        self.tools.extend(calls.iter().map(|(id, _)| id.clone()));
        self.open.extend(calls);
    }

    fn answered(&mut self, id: &str, text: &str) {
        self.tools.remove(id);
        let Some(call) = self.open.remove(id) else { return };
        // Calls side by side end in any order.
        self.round = Some(self.round.unwrap_or_default().wrapping_add(hash(&(call, text))));
        if self.open.is_empty() {
            self.close_round();
        }
    }

    fn close_round(&mut self) {
        let Some(round) = mem::take(&mut self.round) else { return };
        if self.repeated.0 == round {
            self.repeated.1 += 1;
        } else {
            self.repeated = (round, 1);
            self.repetition = 0;
        }
    }
}

impl CallWatch for Vigil {
    fn tell(&self, news: CallNews) {
        let mut seen = self.seen();
        match news {
            CallNews::Asked => seen.asking = true,
            CallNews::Answering => {}
            CallNews::Answered => {
                seen.asking = false;
                self.calls.fetch_add(1, Ordering::Relaxed);
            }
            CallNews::Nearing(words) => {
                if !mem::replace(&mut seen.was_near, true) {
                    seen.nearing = Some(words);
                }
            }
            CallNews::Refused(barrier) => seen.barrier = Some(barrier),
        }
        self.sign(&mut seen);
    }
}

fn ended_by(barrier: Barrier) -> TurnConclusion {
    match barrier {
        Barrier::OverBudget { why } => TurnConclusion::OutOfBudget { why },
        Barrier::DeadKey { why } => TurnConclusion::DeadEnd { why },
        Barrier::Held { why, until } => TurnConclusion::Held { why, until },
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds / 60),
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A transcript whose entries are seen by a vigil, and of whose text people are told what they asked to hear at once.
pub(super) struct Watched {
    pub transcript: Arc<dyn Transcript>,
    pub vigil: Arc<Vigil>,
    pub line: Arc<Line>,
    /// What begins a line that people are told.
    pub told: Option<String>,
}

impl Watched {
    fn tell(&self, body: &EntryBody) {
        let Some(filter) = &self.told else { return };
        let texts: Vec<&str> = match body {
            EntryBody::Reply { message, .. } => message.parts.iter().filter_map(spoken).collect(),
            EntryBody::Output { text } => vec![text],
            _ => return,
        };
        for line in texts.iter().flat_map(|text| text.lines()).map(str::trim) {
            if let Some(words) = line.strip_prefix(filter.as_str()) {
                self.line.tell(None, words.trim());
            }
        }
    }
}

fn spoken(part: &Part) -> Option<&str> {
    match part {
        Part::Text { text } => Some(text),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    }
}

impl Transcript for Watched {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Entry>, Fault>> {
        self.transcript.load()
    }

    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<(), Fault>> {
        self.vigil.read(&entry.body);
        self.tell(&entry.body);
        self.transcript.append(entry)
    }
}

#[cfg(test)]
mod tests {
    use domain::ports::model::Role;

    use super::*;

    fn vigil(max_calls: Option<u32>) -> Arc<Vigil> {
        Vigil::new(Stalls { quiet: Duration::from_mins(10), repeats: 3 }, max_calls, false)
    }

    fn call(vigil: &Vigil, id: &str, result: Option<&str>) {
        let parts = vec![Part::ToolCall {
            id: id.to_owned(),
            name: "shell".to_owned(),
            arguments: "{\"command\":\"make\"}".to_owned(),
        }];
        let message = Message { role: Role::Assistant, parts };
        vigil.read(&EntryBody::Reply { message, usage: domain::budget::Usage::default() });
        if let Some(result) = result {
            vigil.read(&EntryBody::Result { id: id.to_owned(), text: result.to_owned(), is_error: false });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_then_nudged_then_ended() {
        let (vigil, start) = (vigil(None), Instant::now());
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)));
        assert_eq!(start.elapsed().as_secs(), 600);
        assert!(matches!(vigil.alarm().await, Alarm::Nudge(_)));
        assert_eq!(start.elapsed().as_secs(), 900);
        assert!(matches!(vigil.alarm().await, Alarm::End(TurnConclusion::Stalled { .. })));
        assert_eq!(start.elapsed().as_secs(), 1200);
    }

    #[tokio::test(start_paused = true)]
    async fn that_little_is_left_is_told_once_whoever_says_it() {
        let vigil = vigil(None);
        vigil.tell(CallNews::Nearing("one dollar is left".to_owned()));
        assert_eq!(vigil.alarm().await, Alarm::Nudge("one dollar is left".to_owned()));
        vigil.tell(CallNews::Nearing("half of it is left".to_owned()));
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)), "of the silence that follows");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_starts_the_ladder_anew_and_a_tool_has_more_time() {
        let (vigil, start) = (vigil(None), Instant::now());
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)));
        vigil.tell(CallNews::Answered);
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)));
        assert_eq!(start.elapsed().as_secs(), 1200);
        call(&vigil, "1", None);
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)));
        assert_eq!(start.elapsed().as_secs(), 4800);
        vigil.snapshotted(&domain::alphabet::commit(1));
        let then = Instant::now();
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)));
        assert_eq!(then.elapsed().as_secs(), 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_call_with_the_same_result_is_a_loop() {
        let vigil = vigil(None);
        for n in 0..3 {
            call(&vigil, &n.to_string(), Some("error"));
        }
        assert!(matches!(vigil.alarm().await, Alarm::Nudge(_)));
        for n in 3..6 {
            call(&vigil, &n.to_string(), Some("error"));
        }
        assert!(matches!(vigil.alarm().await, Alarm::End(TurnConclusion::Stalled { .. })));
        call(&vigil, "6", Some("another error"));
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_side_by_side_are_one_step_of_a_loop() {
        let vigil = vigil(None);
        for n in 0..3 {
            let ids = [format!("{n}a"), format!("{n}b")];
            let parts = ids.iter().map(|id| Part::ToolCall {
                id: id.clone(),
                name: "read".to_owned(),
                arguments: format!("{{\"path\":\"{}\"}}", &id[1..]),
            });
            let message = Message { role: Role::Assistant, parts: parts.collect() };
            vigil.read(&EntryBody::Reply { message, usage: domain::budget::Usage::default() });
            let mut ended = ids.to_vec();
            ended.rotate_left(n % 2);
            for id in ended {
                vigil.read(&EntryBody::Result { text: format!("no file {}", &id[1..]), id, is_error: true });
            }
        }
        let Alarm::Nudge(words) = vigil.alarm().await else { panic!("no nudge") };
        assert!(words.contains("3 times"), "{words}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_may_see_the_same_again_and_again() {
        let stalls = Stalls { quiet: Duration::from_mins(10), repeats: 3 }.of_a_watch();
        let vigil = Vigil::new(stalls, None, false);
        for n in 0..100 {
            call(&vigil, &n.to_string(), Some("all is well"));
        }
        assert!(matches!(vigil.alarm().await, Alarm::Notice(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_refused_or_has_no_calls_left_is_ended_at_once() {
        let one = vigil(Some(2));
        one.tell(CallNews::Refused(Barrier::DeadKey { why: "401".to_owned() }));
        assert_eq!(one.alarm().await, Alarm::End(TurnConclusion::DeadEnd { why: "401".to_owned() }));
        let other = vigil(Some(2));
        for _ in 0..2 {
            other.tell(CallNews::Asked);
            other.tell(CallNews::Answered);
        }
        other.tell(CallNews::Asked);
        assert_eq!(other.alarm().await, Alarm::End(TurnConclusion::OutOfRounds));
        // An agent that calls by the port hears of it in the reply, and ends by itself.
        let third = vigil(None);
        third.tell(CallNews::Refused(Barrier::OverBudget { why: "spent".to_owned() }));
        assert!(matches!(third.alarm().await, Alarm::Notice(_)));
    }
}
