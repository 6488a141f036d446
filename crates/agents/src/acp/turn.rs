//! One turn: prompts in a session until nothing is left to say, or something ends it.

use std::time::Duration;

use domain::{
    Fault,
    ids::CommentId,
    ports::{
        agent::{EntryBody, Hands, Mode, Prompt, TurnConclusion, TurnEnd, TurnRequest},
        model::{Message, Part, Role},
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Acp,
    asks::{self, Leave, Question},
    news,
    past::Past,
    peer::{Gone, Incoming},
    talk::{Ending, Halt, Talk, dead_end, failed},
};
use crate::{asking, journal::Journal, prompts, updates::Updates};

/// How long a canceled prompt may take to end before the agent is killed.
const TO_CANCEL: Duration = Duration::from_secs(2);

/// Runs a turn to its end.
pub(super) async fn run(agent: &Acp, request: &TurnRequest, hands: &Hands) -> Result<TurnEnd, Fault> {
    let past = Past::read(hands.transcript.load().await?, request, &agent.spec.name);
    // Told again, in case the word was lost with the process that wrote them.
    for (round, ids) in &past.heard {
        hands.line.delivered(ids.clone(), *round);
    }
    if let Some(end) = past.end {
        return Ok(end);
    }
    let updates = Updates::new(Journal::new(hands, request), &*hands.line, past.rounds);
    let mut turn = Turn { agent, request, hands, updates, talk: None, comments: Vec::new(), failure: None };
    let outcome = turn.work(past).await;
    if let Some(talk) = turn.talk.take() {
        match &outcome {
            Ok((TurnConclusion::Finished, _)) => talk.peer.end().await,
            // What it still runs, nobody waits for.
            Ok(_) | Err(_) => talk.peer.kill().await,
        }
    }
    let (conclusion, words) = match outcome {
        Ok(ending) | Err(Halt::Ended(ending)) => ending,
        Err(Halt::Fault(fault)) => return Err(fault),
    };
    turn.updates.close("the turn ended before its result was told").await?;
    let words = if words.is_empty() { turn.updates.last_words().to_owned() } else { words };
    let rounds = turn.updates.rounds();
    turn.updates.journal.end(conclusion, &words, rounds).await
}

struct Turn<'a> {
    agent: &'a Acp,
    request: &'a TurnRequest,
    hands: &'a Hands,
    updates: Updates<'a>,
    talk: Option<Talk>,
    /// Taken from the line, and not yet told.
    comments: Vec<(CommentId, String)>,
    /// What failed in this prompt, by the agent's own word, and in which round.
    failure: Option<(u32, String)>,
}

/// Why a prompt is cut short.
#[derive(Debug)]
enum Cause {
    Interrupted,
    /// Overnight has a word for the agent.
    Noticed(Vec<String>),
    Asked(Question),
    /// The plan is made.
    Planned(String),
    OutOfRounds,
}

/// How a prompt ended.
enum Ended {
    /// By the agent, for this reason.
    Stopped(String),
    /// By us; whether the agent lives is not known.
    Cut(Cause),
}

enum Heard {
    Interrupt,
    Word,
    TooLate,
    Message(Incoming),
}

impl Turn<'_> {
    async fn work(&mut self, past: Past) -> Result<Ending, Halt> {
        if self.hands.line.is_interrupted() {
            return Ok((TurnConclusion::Interrupted, String::new()));
        }
        let resumed = self.open(past.session.as_deref()).await?;
        let mut said = self.first_prompt(&past, resumed);
        self.record(EntryBody::Prompt { message: user(said.clone()) }).await?;
        loop {
            match self.prompt(&said).await? {
                Ended::Cut(Cause::Noticed(notices)) => {
                    said = self.after_a_notice(&notices).await?;
                }
                Ended::Cut(cause) => return Ok(cut(cause)),
                Ended::Stopped(reason) => {
                    if let Some(ending) = self.stopped(&reason) {
                        return Ok(ending);
                    }
                    let comments = std::mem::take(&mut self.comments);
                    said = prompts::comments(&comments);
                    self.deliver(comments, &said).await?;
                }
            }
        }
    }

    /// Starts the agent, in this session if it can be.
    async fn open(&mut self, session: Option<&str>) -> Result<bool, Halt> {
        let talk = Talk::open(self.agent, self.request, self.hands, session).await?;
        for note in &talk.notes {
            self.updates.note(note.as_str());
        }
        if !talk.resumed {
            let (agent, id) = (self.agent.spec.name.clone(), talk.session.clone());
            self.record(EntryBody::Session { agent, id }).await?;
        }
        let resumed = talk.resumed;
        self.talk = Some(talk);
        Ok(resumed)
    }

    /// What opens the turn. Where it was cut off after the agent had heard that, it is only told to go on.
    fn first_prompt(&self, past: &Past, resumed: bool) -> String {
        let comments = Vec::new();
        let why = "Overnight was restarted, and the effects of your last tool call are unknown".to_owned();
        let going_on = || TurnRequest { prompt: Prompt::Continue { why, comments }, ..self.request.clone() };
        if resumed {
            return if past.begun && past.answered {
                prompts::opening(&going_on(), false)
            } else {
                prompts::opening(self.request, false)
            };
        }
        let mut text = prompts::opening(self.request, true);
        if !past.account.is_empty() {
            text.push_str("\n\n# What was done so far, by the record\n");
            text.push_str(past.account.trim_end());
            text.push_str("\nLook at the state of the files before you go on.");
        }
        format!("{text}\n\n{}", asking::HOW)
    }

    /// Brings the agent back from a canceled prompt. What that left running is gone with the process it was started by.
    async fn after_a_notice(&mut self, notices: &[String]) -> Result<String, Halt> {
        self.updates.close("cut short, to tell the agent something").await?;
        let session = self.talk.take().map(|talk| (talk.session, talk.peer));
        let session = match session {
            Some((session, peer)) => {
                peer.kill().await;
                Some(session)
            }
            None => None,
        };
        let resumed = self.open(session.as_deref()).await?;
        let notices = notices.join("\n\n");
        let mut said =
            format!("{notices}\n\nYou were interrupted to be told this. Go on with the task where you were.");
        if !resumed {
            let entries = self.hands.transcript.load().await?;
            let past = Past::read(entries, self.request, &self.agent.spec.name);
            said = format!("{}\n\n{said}", self.first_prompt(&past, false));
        }
        let comments = std::mem::take(&mut self.comments);
        if comments.is_empty() {
            self.record(EntryBody::Prompt { message: user(said.clone()) }).await?;
        } else {
            said = format!("{said}\n\n{}", prompts::comments(&comments));
            self.deliver(comments, &said).await?;
        }
        Ok(said)
    }

    async fn deliver(&mut self, comments: Vec<(CommentId, String)>, said: &str) -> Result<(), Halt> {
        let ids: Vec<_> = comments.into_iter().map(|(id, _)| id).collect();
        self.record(EntryBody::Comments { ids: ids.clone(), message: user(said.to_owned()) }).await?;
        self.hands.line.delivered(ids, self.updates.rounds() + 1);
        Ok(())
    }

    async fn record(&mut self, body: EntryBody) -> Result<(), Halt> {
        self.updates.prompted();
        self.updates.journal.write(self.updates.rounds(), body);
        Ok(self.updates.journal.settled().await?)
    }

    /// What the agent's own end of a prompt comes to. `None`: comments wait, and are told next.
    fn stopped(&mut self, reason: &str) -> Option<Ending> {
        let words = self.updates.last_words().to_owned();
        let conclusion = match reason {
            "end_turn" => {
                self.comments.extend(self.hands.line.take_comments());
                if !self.comments.is_empty() {
                    return None;
                }
                asking::asked(&words).unwrap_or(TurnConclusion::Finished)
            }
            "max_tokens" => TurnConclusion::Failed { why: "the model's reply was cut at its output limit".to_owned() },
            "max_turn_requests" => TurnConclusion::OutOfRounds,
            "refusal" => TurnConclusion::DeadEnd { why: format!("the model refused to go on: {words}") },
            "cancelled" => TurnConclusion::Failed { why: "the agent canceled its own turn".to_owned() },
            other => TurnConclusion::Failed { why: format!("the agent stopped, and says `{other}`") },
        };
        Some((conclusion, self.summary(words)))
    }

    /// A plan that was only kept as a list becomes numbered steps.
    fn summary(&self, words: String) -> String {
        if self.request.mode != Mode::Plan || !words.is_empty() {
            return words;
        }
        let steps = self.updates.plan().iter().zip(1..);
        steps.map(|(step, number)| format!("{number}. {}", step.text)).collect::<Vec<_>>().join("\n")
    }

    /// Says something, and follows what the agent makes of it until it stops.
    async fn prompt(&mut self, said: &str) -> Result<Ended, Halt> {
        let rounds_before = self.updates.rounds();
        self.failure = None;
        let asked = {
            let talk = self.talk()?;
            let params = json!({"sessionId": talk.session, "prompt": [{"type": "text", "text": said}]});
            talk.peer.request("session/prompt", &params)
        };
        let asked = asked.map_err(|gone| self.lost(gone))?;
        let mut cut: Option<(Cause, Instant)> = None;
        loop {
            let heard = self.hear(cut.as_ref()).await?;
            let cause = match heard {
                Heard::Interrupt => Some(Cause::Interrupted),
                Heard::Word => {
                    self.comments.extend(self.hands.line.take_comments());
                    let notices = self.hands.line.take_notices();
                    (!notices.is_empty()).then_some(Cause::Noticed(notices))
                }
                Heard::TooLate => None,
                Heard::Message(Incoming::Response { id, outcome }) if id == asked => {
                    self.updates.end_message();
                    self.updates.journal.settled().await?;
                    return self.ended(outcome, cut, rounds_before);
                }
                Heard::Message(message) => self.take(message)?,
            };
            self.updates.journal.settled().await?;
            match (cut.take(), cause) {
                (Some((cause, until)), None) if Instant::now() >= until => return Ok(Ended::Cut(cause)),
                (None, Some(cause)) => {
                    self.cancel()?;
                    cut = Some((cause, Instant::now() + TO_CANCEL));
                }
                (Some((_, until)), Some(Cause::Interrupted)) => cut = Some((Cause::Interrupted, until)),
                (before, _) => cut = before,
            }
        }
    }

    async fn hear(&mut self, cut: Option<&(Cause, Instant)>) -> Result<Heard, Halt> {
        let line = &*self.hands.line;
        let is_interrupted = matches!(cut, Some((Cause::Interrupted, _)));
        let until = cut.map_or_else(Instant::now, |(_, until)| *until);
        let talk = self.talk.as_mut().ok_or_else(nobody)?;
        let message = tokio::select! {
            biased;
            () = line.interrupted(), if !is_interrupted => return Ok(Heard::Interrupt),
            () = line.noticed(), if cut.is_none() => return Ok(Heard::Word),
            () = tokio::time::sleep_until(until), if cut.is_some() => return Ok(Heard::TooLate),
            message = talk.peer.next() => message,
        };
        match message {
            Ok(message) => Ok(Heard::Message(message)),
            // It was about to end anyway.
            Err(_) if cut.is_some() => {
                tokio::time::sleep_until(until).await;
                Ok(Heard::TooLate)
            }
            Err(gone) => Err(self.lost(gone)),
        }
    }

    /// How the answer to a prompt ends it.
    fn ended(
        &mut self,
        outcome: Result<Value, super::peer::Refusal>,
        cut: Option<(Cause, Instant)>,
        rounds_before: u32,
    ) -> Result<Ended, Halt> {
        let reason = outcome.as_ref().ok().and_then(|answer| answer["stopReason"].as_str()).unwrap_or("nothing");
        match (cut, outcome.as_ref()) {
            // It was done before it heard of the notice.
            (Some((Cause::Noticed(_), _)), Ok(_)) if reason == "end_turn" => Ok(Ended::Stopped(reason.to_owned())),
            (Some((cause, _)), _) => Ok(Ended::Cut(cause)),
            (None, Ok(answer)) if let Some(failure) = self.failed(answer) => {
                Err(failed(format!("`{}` gave up: {failure}", self.agent.spec.name)))
            }
            (None, Err(refusal)) => Err(failed(format!("`{}` gave up: {refusal}", self.agent.spec.name))),
            (None, Ok(_)) if reason == "end_turn" && self.updates.rounds() == rounds_before => {
                Err(failed(format!("`{}` ended its turn without a word or a tool call", self.agent.spec.name)))
            }
            (None, Ok(_)) => Ok(Ended::Stopped(reason.to_owned())),
        }
    }

    /// What failed, and was not got over: nothing came after it.
    fn failed(&mut self, answer: &Value) -> Option<String> {
        let last = self.failure.take().filter(|(round, _)| *round == self.updates.rounds());
        news::failure(answer).or(last.map(|(_, failure)| failure))
    }

    /// Takes in what the agent tells and asks on its way. `Some`: this cuts the prompt short.
    fn take(&mut self, message: Incoming) -> Result<Option<Cause>, Halt> {
        match message {
            Incoming::Notification { method, params } if method == "session/update" => {
                let update = &params["update"];
                news::tell(update, &mut self.updates);
                if let Some(failure) = news::failure(update) {
                    self.failure = Some((self.updates.rounds(), failure));
                }
                Ok((self.updates.rounds() > self.request.max_rounds).then_some(Cause::OutOfRounds))
            }
            Incoming::Request { id, method, params } if method == "session/request_permission" => {
                let call = &params["toolCall"];
                if let Some(id) = call["toolCallId"].as_str() {
                    self.updates.call(id, news::call(call));
                }
                let leave = asks::leave(&params, self.request.mode, &self.talk()?.places);
                let outcome = asks::outcome(&params, leave == Leave::Granted);
                self.answer(&id, &outcome)?;
                Ok(match leave {
                    Leave::Granted => None,
                    Leave::Denied(why) => {
                        self.updates.note(format!("Denied to the agent: {why}."));
                        None
                    }
                    Leave::Planned(plan) => Some(Cause::Planned(plan)),
                    Leave::Asked(question) => Some(Cause::Asked(question)),
                })
            }
            Incoming::Request { id, method, params } if method == "elicitation/create" => {
                let question = asks::of_form(&params);
                let action = if question.is_some() { "cancel" } else { "decline" };
                self.answer(&id, &json!({ "action": action }))?;
                Ok(question.map(Cause::Asked))
            }
            Incoming::Request { id, method, .. } => {
                let refused = self.talk()?.peer.refuse(&id, -32601, &format!("{method} is not offered here"));
                refused.map_err(|gone| self.lost(gone))?;
                Ok(None)
            }
            Incoming::Notification { .. } | Incoming::Response { .. } => Ok(None),
        }
    }

    fn cancel(&mut self) -> Result<(), Halt> {
        let talk = self.talk()?;
        let params = json!({ "sessionId": talk.session });
        talk.peer.notify("session/cancel", &params).map_err(|gone| self.lost(gone))
    }

    fn answer(&mut self, id: &Value, result: &Value) -> Result<(), Halt> {
        self.talk()?.peer.answer(id, result).map_err(|gone| self.lost(gone))
    }

    fn talk(&mut self) -> Result<&mut Talk, Halt> {
        self.talk.as_mut().ok_or_else(nobody)
    }

    fn lost(&self, gone: Gone) -> Halt {
        let name = &self.agent.spec.name;
        match gone {
            Gone::Ended(why) => failed(format!("`{name}` was at work when {why}")),
            Gone::Garbage(why) => dead_end(format!("`{name}` cannot be understood: {why}")),
        }
    }
}

fn nobody() -> Halt {
    failed("the agent is not running")
}

fn cut(cause: Cause) -> Ending {
    match cause {
        Cause::Planned(plan) => (TurnConclusion::Finished, plan),
        Cause::Asked(Question { text: question, choices }) => {
            (TurnConclusion::Asked { question, choices, default: None }, String::new())
        }
        Cause::OutOfRounds => (TurnConclusion::OutOfRounds, String::new()),
        Cause::Interrupted | Cause::Noticed(_) => (TurnConclusion::Interrupted, String::new()),
    }
}

fn user(text: String) -> Message {
    Message { role: Role::User, parts: vec![Part::Text { text }] }
}
