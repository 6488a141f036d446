//! One turn: runs of a program in one session until nothing is left to say, or something ends it.

use std::time::Duration;

use bytes::Bytes;
use domain::{
    Fault, FaultClass,
    ids::CommentId,
    ports::{
        agent::{Entry, EntryBody, Hands, Mode, Prompt, TurnConclusion, TurnEnd, TurnRequest},
        model::{Message, Part, Role},
        sandbox::Exit,
    },
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    CommandLine,
    events::{Seen, is_text, pick},
    recipe::{Events, Success},
    run::{self, Run, Session},
    text::Text,
};
use crate::{
    acp::{Ending, Halt, dead_end, past::Past},
    asking,
    journal::Journal,
    prompts,
    updates::Updates,
};

/// How long a program may take to end when it is asked to, and its output to end after it.
const GRACE: Duration = Duration::from_secs(2);
/// How long each look at whether it runs takes; nothing depends on it.
const LOOK: Duration = Duration::from_secs(3600);
/// Lines that are no events, and their bytes, before a program is given up: some print warnings.
const MAX_GARBAGE: (u32, usize) = (1000, 1 << 20);
/// Bytes of text that make a summary.
const SUMMARY: usize = 2 * 1024;
const REPORT: usize = 64 * 1024;

/// Runs a turn to its end.
pub(super) async fn run(agent: &CommandLine, request: &TurnRequest, hands: &Hands) -> Result<TurnEnd, Fault> {
    let entries = hands.transcript.load().await?;
    let sessions = entries.iter().filter(|entry| matches!(entry.body, EntryBody::Session { .. })).count();
    let past = past(entries, agent, request);
    // Told again, in case the word was lost with the process that wrote them.
    for (round, ids) in &past.heard {
        hands.line.delivered(ids.clone(), *round);
    }
    if let Some(end) = past.end {
        return Ok(end);
    }
    let updates = Updates::new(Journal::new(hands, request), &*hands.line, past.rounds);
    let mut turn = Turn { agent, request, hands, updates, sessions, session: None, comments: Vec::new() };
    let (conclusion, words) = match turn.work(past).await {
        Ok(ending) | Err(Halt::Ended(ending)) => ending,
        Err(Halt::Fault(fault)) => return Err(fault),
    };
    turn.updates.close("the turn ended before its result was told").await?;
    let words = if words.is_empty() { turn.updates.last_words().to_owned() } else { words };
    let rounds = turn.updates.rounds();
    turn.updates.journal.end(conclusion, &words, rounds).await
}

/// What an agent without sessions knows of it, it is told.
fn past(entries: Vec<Entry>, agent: &CommandLine, request: &TurnRequest) -> Past {
    let mut past = Past::read(entries, request, &agent.recipe.name);
    past.session = past.session.filter(|_| !agent.recipe.resume.is_empty());
    past
}

struct Turn<'a> {
    agent: &'a CommandLine,
    request: &'a TurnRequest,
    hands: &'a Hands,
    updates: Updates<'a>,
    /// Begun in this attempt.
    sessions: usize,
    /// The one that can go on.
    session: Option<String>,
    /// Taken from the line, and not yet told.
    comments: Vec<(CommentId, String)>,
}

/// Why a run is cut short.
#[derive(Debug)]
enum Cause {
    Interrupted,
    /// Overnight has a word for the agent.
    Noticed(Vec<String>),
    OutOfRounds,
    Garbage(String),
}

/// A run that is over.
struct Over {
    exit: Option<Exit>,
    cut: Option<Cause>,
    seen: Seen,
    text: Text,
    /// The end of its standard error, or what it printed that is no event.
    complaints: String,
    was_silent: bool,
}

enum Heard {
    Interrupt,
    Word,
    TooLate,
    Line(Result<Option<Bytes>, Fault>),
    Exit(Option<Exit>),
}

impl Turn<'_> {
    async fn work(&mut self, past: Past) -> Result<Ending, Halt> {
        self.session.clone_from(&past.session);
        let mut said = self.first_prompt(&past);
        self.record(EntryBody::Prompt { message: user(said.clone()) }).await?;
        loop {
            if self.hands.line.is_interrupted() {
                return Ok((TurnConclusion::Interrupted, String::new()));
            }
            let was_old = self.session.is_some();
            let mut over = self.run(&said).await?;
            said = match over.cut.take() {
                Some(Cause::Noticed(notices)) => {
                    self.updates.close("cut short, to tell the agent something").await?;
                    let notices = notices.join("\n\n");
                    self.again(format!(
                        "{notices}\n\nYou were interrupted to be told this. Go on with the task where you were."
                    ))
                    .await?
                }
                Some(cause) => return Err(self.cut(cause)),
                None if was_old && self.is_lost(&over) => {
                    self.updates
                        .note(format!("The session of `{}` is lost: a new one begins.", self.agent.recipe.name));
                    self.session = None;
                    self.again(String::new()).await?
                }
                None => {
                    let ending = self.concluded(over).await;
                    self.comments.extend(self.hands.line.take_comments());
                    if !matches!(ending.0, TurnConclusion::Finished) || self.comments.is_empty() {
                        return Ok(ending);
                    }
                    self.again(String::new()).await?
                }
            };
        }
    }

    /// What opens the turn. Where it was cut off after the agent had heard that, it is only told to go on.
    fn first_prompt(&self, past: &Past) -> String {
        if past.session.is_some() {
            if !(past.begun && past.answered) {
                return prompts::opening(self.request, false);
            }
            let why = "Overnight was restarted, and the effects of your last tool call are unknown".to_owned();
            let prompt = Prompt::Continue { why, comments: Vec::new() };
            return prompts::opening(&TurnRequest { prompt, ..self.request.clone() }, false);
        }
        let mut text = prompts::opening(self.request, true);
        if !past.account.is_empty() {
            text.push_str("\n\n# What was done so far, by the record\n");
            text.push_str(past.account.trim_end());
            text.push_str("\nLook at the state of the files before you go on.");
        }
        format!("{text}\n\n{}", asking::HOW)
    }

    /// What is said next in this turn: words of ours and comments that wait, behind the whole task where the agent remembers nothing.
    async fn again(&mut self, words: String) -> Result<String, Halt> {
        let mut parts = Vec::new();
        if self.session.is_none() {
            let entries = self.hands.transcript.load().await?;
            parts.push(self.first_prompt(&Past { session: None, ..past(entries, self.agent, self.request) }));
        }
        parts.push(words);
        let comments = std::mem::take(&mut self.comments);
        parts.push(prompts::comments(&comments));
        parts.retain(|part| !part.is_empty());
        let said = parts.join("\n\n");
        let message = user(said.clone());
        if comments.is_empty() {
            self.record(EntryBody::Prompt { message }).await?;
        } else {
            let ids: Vec<_> = comments.into_iter().map(|(id, _)| id).collect();
            self.record(EntryBody::Comments { ids: ids.clone(), message }).await?;
            self.hands.line.delivered(ids, self.updates.rounds() + 1);
        }
        Ok(said)
    }

    /// Runs the program once, and follows it until it is gone.
    async fn run(&mut self, said: &str) -> Result<Over, Halt> {
        let recipe = &self.agent.recipe;
        let id = match &self.session {
            Some(id) => id.clone(),
            None if recipe.names_sessions => String::new(),
            None => self.begin_session(self.new_id()).await?,
        };
        let is_old = self.session.is_some();
        let session = Session { id: &id, is_old };
        let mut run = Run::start(self.agent, self.request, self.hands, session, said).await?;
        if !recipe.names_sessions && !recipe.resume.is_empty() {
            self.session = Some(id);
        }
        let outcome = self.follow(&mut run).await;
        // Whatever it left behind goes with it.
        run.process.kill().await;
        let mut over = outcome?;
        over.text.end(&mut self.updates);
        self.updates.end_message();
        self.updates.journal.settled().await?;
        let complaints = run.complaints();
        if !complaints.is_empty() {
            over.complaints = complaints;
        }
        Ok(over)
    }

    async fn follow(&mut self, run: &mut Run) -> Result<Over, Halt> {
        let before = self.updates.rounds();
        let mut over = Over {
            exit: None,
            cut: None,
            seen: Seen::default(),
            text: Text::default(),
            complaints: String::new(),
            was_silent: true,
        };
        let mut garbage = (0, 0);
        let mut is_open = true;
        let mut until: Option<Instant> = None;
        while is_open || over.exit.is_none() {
            let heard = self.hear(run, (is_open, over.exit.is_none()), (over.cut.is_some(), until)).await;
            let cause = match heard {
                Heard::TooLate => break,
                Heard::Interrupt => Some(Cause::Interrupted),
                Heard::Word => {
                    self.comments.extend(self.hands.line.take_comments());
                    let notices = self.hands.line.take_notices();
                    (!notices.is_empty()).then_some(Cause::Noticed(notices))
                }
                Heard::Exit(exit) => {
                    over.exit = exit;
                    // What it left behind may hold its output open.
                    until = until.or(exit.map(|_| Instant::now() + GRACE));
                    None
                }
                Heard::Line(Ok(Some(line))) => self.take(&line, &mut over, &mut garbage).await?,
                Heard::Line(Err(fault)) if fault.class == FaultClass::Input => {
                    self.updates.note(format!("Not read: {fault}"));
                    None
                }
                Heard::Line(Ok(None) | Err(_)) => {
                    is_open = false;
                    None
                }
            };
            self.updates.journal.settled().await?;
            match cause {
                Some(cause) if over.cut.is_none() => {
                    over.cut = Some(cause);
                    run.interrupt(self.hands).await;
                    until = Some(Instant::now() + GRACE);
                }
                Some(Cause::Interrupted) => over.cut = Some(Cause::Interrupted),
                _ => {}
            }
        }
        over.was_silent = self.updates.rounds() == before;
        Ok(over)
    }

    /// The next thing that happens. `reads`: whether there is output, and whether it runs; `ends`: whether it is cut short, and by when
    /// it has to be gone.
    async fn hear(&mut self, run: &mut Run, reads: (bool, bool), ends: (bool, Option<Instant>)) -> Heard {
        let line = &*self.hands.line;
        let until = ends.1.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            () = line.interrupted(), if !ends.0 => Heard::Interrupt,
            () = line.noticed(), if !ends.0 => Heard::Word,
            () = tokio::time::sleep_until(until), if ends.1.is_some() => Heard::TooLate,
            line = run.lines.next(), if reads.0 => Heard::Line(line),
            exit = run.process.wait(LOOK), if reads.1 => Heard::Exit(exit),
        }
    }

    /// Takes in a line. `Some`: it cuts the run short.
    async fn take(&mut self, line: &[u8], over: &mut Over, garbage: &mut (u32, usize)) -> Result<Option<Cause>, Halt> {
        let recipe = &self.agent.recipe;
        if recipe.events == Events::Text {
            let line = String::from_utf8_lossy(line);
            over.seen.anything = true;
            over.text.line(&line, &mut self.updates);
            let begins = line.trim_start();
            if recipe.failure.iter().any(|mark| begins.starts_with(mark.as_str())) {
                over.seen.failed = Some(begins.trim_end().to_owned());
            }
            over.seen.done |= matches!(&recipe.success, Some(Success::Line(mark)) if begins.starts_with(mark.as_str()));
            return Ok(None);
        }
        match serde_json::from_slice::<Value>(line) {
            Ok(event) if event.is_object() => {
                over.seen.event(recipe.events, recipe.success.as_ref(), &event, &mut self.updates);
                if self.session.is_none()
                    && recipe.names_sessions
                    && let Some(id) = over.seen.session.clone()
                {
                    self.session = Some(self.begin_session(id).await?);
                }
                Ok((self.updates.rounds() > self.request.max_rounds).then_some(Cause::OutOfRounds))
            }
            _ if line.iter().all(u8::is_ascii_whitespace) => Ok(None),
            _ => {
                *garbage = (garbage.0 + 1, garbage.1 + line.len());
                over.complaints = String::from_utf8_lossy(&line[..line.len().min(500)]).trim().to_owned();
                let is_too_much = garbage.0 > MAX_GARBAGE.0 || garbage.1 > MAX_GARBAGE.1;
                Ok(is_too_much.then(|| Cause::Garbage(over.complaints.clone())))
            }
        }
    }

    /// Keeps a session's id before anything is said in it.
    async fn begin_session(&mut self, id: String) -> Result<String, Halt> {
        self.sessions += 1;
        if !self.agent.recipe.resume.is_empty() {
            let agent = self.agent.recipe.name.clone();
            self.record(EntryBody::Session { agent, id: id.clone() }).await?;
        }
        Ok(id)
    }

    /// A UUID that no other session of this HOME has, and the same when the attempt is replayed.
    fn new_id(&self) -> String {
        let key = self.request.key;
        let (task, attempt) = (key.task.0 & 0xffff_ffff, key.attempt.0 & 0xffff);
        format!("{task:08x}-{attempt:04x}-4{:03x}-8000-{:012x}", self.request.turn.0 & 0xfff, self.sessions)
    }

    async fn record(&mut self, body: EntryBody) -> Result<(), Halt> {
        self.updates.end_message();
        self.updates.journal.write(self.updates.rounds(), body);
        Ok(self.updates.journal.settled().await?)
    }

    /// Whether it failed because it does not know its session any more.
    fn is_lost(&self, over: &Over) -> bool {
        let tells = matches!(self.agent.recipe.events, Events::CodexJsonl | Events::ClaudeStreamJson);
        tells && over.was_silent && over.seen.session.is_none() && !over.seen.done
    }

    /// What the program's end, and what it said, come to.
    async fn concluded(&mut self, over: Over) -> Ending {
        let Over { exit, mut seen, text, complaints, .. } = over;
        let recipe = &self.agent.recipe;
        let name = &recipe.name;
        if let (Some(Success::File { path, field, is, summary }), Some(Exit::Code(0))) = (&recipe.success, exit) {
            let said = run::read(self.hands, path).await.and_then(|said| serde_json::from_slice::<Value>(&said).ok());
            let said = said.unwrap_or_default();
            seen.done = pick(&said, field).is_some_and(|value| is_text(value, is));
            seen.words = summary.as_ref().and_then(|field| Some(pick(&said, field)?.as_str()?.trim().to_owned()));
            if let Some(value) = pick(&said, field).filter(|_| !seen.done) {
                seen.failed =
                    seen.failed.or_else(|| Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
            }
        }
        let most = if self.request.mode == Mode::Work { SUMMARY } else { REPORT };
        let words = seen.words.filter(|words| !words.is_empty()).unwrap_or_else(|| match recipe.events {
            Events::Text => text.last(most).to_owned(),
            _ => self.updates.last_words().to_owned(),
        });
        let last = [complaints.as_str(), text.last(SUMMARY)].into_iter().find(|text| !text.is_empty());
        let last = last.map_or_else(|| "it printed nothing".to_owned(), str::to_owned);
        let is_told = matches!(recipe.events, Events::Text | Events::Jsonl) && recipe.success.is_none();
        let how = match (exit, seen.failed) {
            (Some(Exit::TimedOut), _) => {
                let why = format!("`{name}` was killed because it ran for too long");
                return (TurnConclusion::DeadEnd { why }, words);
            }
            (Some(Exit::OverQuota { held, quota }), _) => format!("was killed: {}", prompts::over_quota(held, quota)),
            (_, Some(why)) => format!("gave up: {why}"),
            (Some(Exit::Code(0)), None) if seen.done || is_told => {
                return (asking::asked(&words).unwrap_or(TurnConclusion::Finished), words);
            }
            (Some(Exit::Code(0)), None) => format!("ended with exit code 0, and does not say that it is done: {last}"),
            (Some(Exit::Code(code)), None) => format!("ended with exit code {code}: {last}"),
            (Some(Exit::Signal(signal)), None) => format!("was killed by signal {signal}: {last}"),
            (Some(Exit::NotStarted) | None, None) => format!("cannot be started in the sandbox: {last}"),
        };
        let why = format!("`{name}` {how}");
        // What does not even begin will not do so the next time.
        let conclusion = if seen.anything { TurnConclusion::Failed { why } } else { TurnConclusion::DeadEnd { why } };
        (conclusion, words)
    }

    fn cut(&self, cause: Cause) -> Halt {
        match cause {
            Cause::OutOfRounds => Halt::Ended((TurnConclusion::OutOfRounds, String::new())),
            Cause::Garbage(line) => dead_end(format!(
                "`{}` cannot be understood: it prints what are no events: {line}",
                self.agent.recipe.name
            )),
            Cause::Interrupted | Cause::Noticed(_) => Halt::Ended((TurnConclusion::Interrupted, String::new())),
        }
    }
}

fn user(text: String) -> Message {
    Message { role: Role::User, parts: vec![Part::Text { text }] }
}
