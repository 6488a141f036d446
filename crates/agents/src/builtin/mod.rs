//! The built-in agent: a loop over one model and nine tools.
//!
//! A turn is: say what is wanted; then, until something ends it, ask the model for a reply, carry out its tool calls, tell
//! it the results. Everything is written to the transcript before the next step depends on it, and a turn that was cut off
//! goes on from there: `Conversation::rebuild` brings the loop to where it was.

mod conversation;
mod files;
mod output;
mod tools;
mod workbench;

use std::sync::Arc;

use domain::{
    Fault, FaultClass,
    ids::CommentId,
    ports::{
        BoxFuture,
        agent::{Agent, EntryBody, Hands, ModelNeed, Needs, TurnConclusion, TurnEnd, TurnRequest},
        model::{Message, Model, ModelFault, ModelRequest, Part, Role, Stop},
    },
};

use self::{
    conversation::{Conversation, Done, Mark},
    tools::Call,
    workbench::Workbench,
};
use crate::{
    Options,
    journal::{Journal, conclude},
    prompts,
};

/// Answers in a row with nothing usable in them that end a turn.
const MAX_STRIKES: u32 = 3;
/// With so many rounds left the agent is told to come to an end.
const LAST_ROUNDS: u32 = 3;

/// The agent `builtin`.
#[derive(Debug)]
pub(crate) struct Builtin {
    options: Arc<Options>,
}

impl Builtin {
    pub fn new(options: Arc<Options>) -> Self {
        Self { options }
    }

    async fn run(&self, request: &TurnRequest, hands: &Hands) -> Result<TurnEnd, Fault> {
        let entries = hands.transcript.load().await?;
        let mut talk = Conversation::rebuild(entries, request.turn);
        // Told again, in case the word was lost with the process that wrote them. (Those of the prompt need no word: whoever
        // made the prompt knows.)
        for (round, ids) in &talk.heard {
            hands.line.delivered(ids.clone(), *round);
        }
        if let Some(end) = talk.end.take() {
            return Ok(end);
        }

        let mut journal = Journal::new(hands, request);
        let Some(model) = hands.model.as_deref() else {
            let why = "the built-in agent was started without a model".to_owned();
            return journal.end(TurnConclusion::DeadEnd { why }, "", 0).await;
        };
        let bench = Workbench::new(hands, request, self.options.command_timeout);
        Turn { options: &self.options, request, hands, model, talk, journal, bench }.run().await
    }
}

impl Agent for Builtin {
    fn needs(&self) -> Result<Needs, Fault> {
        Ok(Needs { model: ModelNeed::Required, protocols: Vec::new(), programs: Vec::new(), login: None })
    }

    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>> {
        Box::pin(async move { conclude(self.run(&turn, &hands).await) })
    }
}

/// One turn under way.
struct Turn<'a> {
    options: &'a Options,
    request: &'a TurnRequest,
    hands: &'a Hands,
    model: &'a dyn Model,
    talk: Conversation,
    journal: Journal<'a>,
    bench: Workbench<'a>,
}

/// The turn's end as it came about: how, and the agent's words on it.
type Ending = (TurnConclusion, String);

impl Turn<'_> {
    async fn run(mut self) -> Result<TurnEnd, Fault> {
        if !self.talk.opened {
            self.open();
        }
        let (conclusion, words) = loop {
            let ending = if self.talk.awaits_results() { self.answer().await? } else { self.hear().await? };
            if let Some(ending) = ending {
                break ending;
            }
        };
        self.bench.clear().await;
        let words = if words.is_empty() { self.talk.last_words() } else { words };
        self.journal.end(conclusion, &words, self.talk.rounds).await
    }

    fn open(&mut self) {
        let message = user(prompts::opening(self.request, self.talk.messages.is_empty()));
        self.journal.write(0, EntryBody::Prompt { message: message.clone() });
        self.talk.push(message);
    }

    /// One model call: from the safe point before it until its reply is durable.
    async fn hear(&mut self) -> Result<Option<Ending>, Fault> {
        if self.hands.line.is_interrupted() {
            return Ok(ended(TurnConclusion::Interrupted));
        }
        if self.talk.strikes >= MAX_STRIKES {
            let why = format!("the model gave no usable reply {MAX_STRIKES} times in a row: {}", self.talk.problem);
            return Ok(ended(TurnConclusion::Failed { why }));
        }
        if self.talk.rounds >= self.request.max_rounds {
            return Ok(ended(TurnConclusion::OutOfRounds));
        }
        let round = self.talk.rounds + 1;
        self.take_comments(round).await?;
        if self.talk.bytes > self.options.max_conversation {
            self.shorten(round, self.options.max_conversation / 2);
        }

        let request = ModelRequest {
            system: prompts::SYSTEM,
            tools: &tools::SPECS,
            messages: &self.talk.messages,
            max_output: self.options.max_output,
        };
        // What was written before is not waited for on its own: the call's reservation is written behind it, in the same
        // order, so no provider sees a request whose past is not durable.
        let (journal, model) = (&mut self.journal, self.model);
        let call = async { tokio::try_join!(async { Ok(journal.settled().await?) }, model.reply(request)) };
        let reply = tokio::select! {
            biased;
            () = self.hands.line.interrupted() => return Ok(ended(TurnConclusion::Interrupted)),
            reply = call => reply,
        };
        match reply {
            Ok(((), reply)) => {
                if let Some(mark) = Mark::of(reply.stop) {
                    self.journal.write(round, mark.note(""));
                }
                self.journal.write(round, EntryBody::Reply { message: reply.message.clone(), usage: reply.usage });
                self.talk.reply(round, reply.message, reply.stop);
                self.journal.settled().await?;
                Ok(None)
            }
            Err(fault) => self.meet(fault, round),
        }
    }

    /// Comments that came meanwhile go into the conversation. One that the transcript holds already is not said twice.
    async fn take_comments(&mut self, round: u32) -> Result<(), Fault> {
        let mut comments = self.hands.line.take_comments();
        let known = |id| {
            self.request.prompt.comments().iter().any(|(known, _)| *known == id)
                || self.talk.heard.iter().any(|(_, known)| known.contains(&id))
        };
        comments.retain(|(id, _)| !known(*id));
        if comments.is_empty() {
            return Ok(());
        }
        let ids: Vec<CommentId> = comments.iter().map(|(id, _)| *id).collect();
        let message = user(prompts::comments(&comments));
        self.journal.write(round, EntryBody::Comments { ids: ids.clone(), message: message.clone() });
        self.talk.push(message);
        self.talk.heard.push((round, ids.clone()));
        self.journal.settled().await?;
        self.hands.line.delivered(ids, round);
        Ok(())
    }

    /// Makes the conversation shorter, if it can be; says whether it could.
    fn shorten(&mut self, round: u32, bytes: usize) -> bool {
        let before = self.talk.bytes;
        self.talk.shorten(bytes);
        let shorter = self.talk.bytes < before;
        if shorter {
            self.journal.write(round, Mark::Shortened(bytes).note(""));
        }
        shorter
    }

    /// What a model call without a reply means.
    fn meet(&mut self, fault: ModelFault, round: u32) -> Result<Option<Ending>, Fault> {
        let conclusion = match fault {
            ModelFault::OverBudget(why) => TurnConclusion::OutOfBudget { why },
            ModelFault::DeadKey(why) => TurnConclusion::DeadEnd { why },
            ModelFault::Rejected(why) => {
                if is_too_long(&why) && self.shorten(round, self.talk.bytes / 2) {
                    return Ok(None);
                }
                TurnConclusion::DeadEnd { why }
            }
            ModelFault::Held { why, until } => TurnConclusion::Held { why, until },
            ModelFault::Unavailable(why) => TurnConclusion::Failed { why },
            ModelFault::Garbage(why) => {
                self.journal.write(round, Mark::Garbage.note(&why));
                self.talk.garbage(round, &why);
                return Ok(None);
            }
            ModelFault::Port(fault) if fault.class == FaultClass::Fenced => return Err(fault),
            ModelFault::Port(fault) => TurnConclusion::Failed { why: fault.to_string() },
        };
        Ok(ended(conclusion))
    }

    /// Answers the last reply: its tool calls are carried out in order, each one's result is durable before the next.
    async fn answer(&mut self) -> Result<Option<Ending>, Fault> {
        let round = self.talk.rounds;
        let calls: Vec<(String, Result<Call, String>)> = self
            .talk
            .calls()
            .into_iter()
            .map(|(id, name, arguments)| (id.to_owned(), tools::parse(name, arguments)))
            .collect();
        if calls.is_empty() {
            return Ok(self.answer_text(round));
        }

        let resumed = self.talk.recorded.is_some();
        let recorded = self.talk.recorded.take().unwrap_or_default();
        let (mut parts, mut ending, mut failed) = (Vec::with_capacity(calls.len()), None, false);
        for (at, (id, call)) in calls.into_iter().enumerate() {
            let done = match call {
                _ if ending.is_some() => Done::error("Not run: the turn ended before it."),
                Ok(Call::Finish(_)) if failed => {
                    Done::error("Not finished: an earlier call of this reply failed. Look at it first.")
                }
                // These two have no effect but the turn's end, which is the same however often a crash makes us come by.
                Ok(Call::Finish(call)) => {
                    ending = Some((TurnConclusion::Finished, call.summary));
                    Done::ok("The turn ends.")
                }
                Ok(Call::Ask(call)) => {
                    let tools::Ask { question, choices, default } = call;
                    ending = Some((TurnConclusion::Asked { question, choices, default }, String::new()));
                    Done::ok("The person is asked; the turn ends.")
                }
                _ if at < recorded.len() => recorded[at].clone(),
                Err(why) => Done::error(why),
                Ok(_) if resumed => Done::lost(at - recorded.len()),
                Ok(_) if self.hands.line.is_interrupted() => Done::error("Not run: the turn was interrupted."),
                Ok(call) => {
                    self.journal.settled().await?;
                    self.bench.carry_out(call, &format!("{}.{round}.{at}", self.request.turn)).await
                }
            };
            failed |= done.is_error;
            if at >= recorded.len() {
                let Done { text, is_error } = done.clone();
                self.journal.write(round, EntryBody::Result { id: id.clone(), text, is_error });
            }
            parts.push(done.part(id));
        }
        if ending.is_none() {
            parts.extend(self.hurry().map(|text| Part::Text { text }));
            self.tell(round, Message { role: Role::User, parts });
        }
        // At the end the results stay as they were written one by one: were they folded and the end lost in a crash, the model
        // would be asked on. The next turn folds them.
        Ok(ending)
    }

    /// Answers a reply without tool calls: it is the turn's end, if it says anything.
    fn answer_text(&mut self, round: u32) -> Option<Ending> {
        self.talk.recorded = None;
        let words = self.talk.last_words();
        let told = match self.talk.stop {
            Stop::Refused => {
                return Some((TurnConclusion::DeadEnd { why: format!("the model refused to go on: {words}") }, words));
            }
            Stop::Length => format!(
                "Your reply was cut at {} tokens before any tool call. Take smaller steps.",
                self.options.max_output
            ),
            Stop::EndTurn | Stop::ToolCalls if self.talk.strikes == 0 => {
                return Some((TurnConclusion::Finished, words));
            }
            Stop::EndTurn | Stop::ToolCalls => {
                "Your reply was empty. Call a tool; call finish when you are done.".to_owned()
            }
        };
        self.tell(round, user(told));
        None
    }

    fn tell(&mut self, round: u32, message: Message) {
        self.journal.write(round, EntryBody::Results { message: message.clone() });
        self.talk.push(message);
    }

    /// Said once, when the last rounds begin.
    fn hurry(&self) -> Option<String> {
        let left = self.request.max_rounds.saturating_sub(self.talk.rounds);
        let begins = left == LAST_ROUNDS || (left < LAST_ROUNDS && self.talk.rounds == 1);
        (begins && left > 0)
            .then(|| format!("Only {left} more replies fit into this turn: bring the work to a good state and finish."))
    }
}

fn ended(conclusion: TurnConclusion) -> Option<Ending> {
    Some((conclusion, String::new()))
}

fn user(text: String) -> Message {
    Message { role: Role::User, parts: vec![Part::Text { text }] }
}

/// Whether a provider's refusal says that the request is too long for the model, in any of the usual wordings.
fn is_too_long(why: &str) -> bool {
    let why = why.to_lowercase();
    [
        "too long",
        "too large",
        "context length",
        "context window",
        "context_length",
        "maximum context",
        "too many tokens",
    ]
    .iter()
    .any(|words| why.contains(words))
}
