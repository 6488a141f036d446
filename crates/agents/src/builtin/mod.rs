//! The built-in agent: a loop over one model and ten tools, and those of the repository's servers.
//!
//! A turn is: say what is wanted; then, until something ends it, ask the model for a reply, carry out its tool calls, tell
//! it the results. Everything is written to the transcript before the next step depends on it, and a turn that was cut off
//! goes on from there: `Conversation::rebuild` brings the loop to where it was.

mod answer;
mod conversation;
mod eyes;
mod files;
mod images;
mod output;
mod servers;
mod summary;
pub(crate) mod tools;
mod workbench;

use std::sync::Arc;

use domain::{
    Fault, FaultClass,
    ids::CommentId,
    ports::{
        BoxFuture,
        agent::{Agent, Entry, EntryBody, Hands, ModelNeed, Needs, TurnConclusion, TurnEnd, TurnRequest},
        model::{Message, Model, ModelFault, ModelRequest, Part, Role},
    },
};

use self::{
    conversation::{Conversation, Mark},
    summary::Wish,
    tools::Lending,
    workbench::Workbench,
};
use crate::{
    Options,
    journal::{Journal, conclude},
    prompts,
};

/// Answers in a row with nothing usable in them that end a turn.
const MAX_STRIKES: u32 = 3;

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
        let is_open = |entry: &Entry| entry.turn == request.turn && matches!(entry.body, EntryBody::Prompt { .. });
        // For a conversation that begins in the middle of an attempt, which shows only once the entries are taken in.
        let account = if entries.iter().any(is_open) { String::new() } else { prompts::account(&entries, request) };
        let mut talk = Conversation::rebuild(entries, request);
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
        let system = prompts::system(request.profile.as_deref());
        let options = &*self.options;
        let can_sum_up = true;
        let mut turn = Turn { options, request, hands, model, system: &system, talk, journal, bench, can_sum_up };
        if !turn.talk.opened {
            turn.open(&account).await;
        }
        turn.run().await
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
    system: &'a str,
    talk: Conversation,
    journal: Journal<'a>,
    bench: Workbench<'a>,
    /// Until it once did not work.
    can_sum_up: bool,
}

/// The turn's end as it came about: how, and the agent's words on it.
type Ending = (TurnConclusion, String);

impl Turn<'_> {
    async fn run(mut self) -> Result<TurnEnd, Fault> {
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

    /// Writes what opens the turn. `account`: what was done before it, for a conversation that begins.
    async fn open(&mut self, account: &str) {
        let begins = self.talk.messages.is_empty();
        let mut more = String::new();
        if begins {
            let (lending, servers) = self.bench.servers.introduce(self.request.profile.as_deref()).await;
            self.journal.write(0, Mark::Begins.note());
            if lending != Lending::default() {
                let lent = Mark::Lent(lending);
                self.journal.write(0, lent.note());
                if let Mark::Lent(lending) = lent {
                    self.talk.tools.lend(lending);
                }
            }
            more = format!("{}{servers}{account}", prompts::offered(self.request));
        } else {
            self.journal.write(0, Mark::GoesOn.note());
        }
        let message = user(prompts::opening_with(self.request, begins, &more));
        self.journal.write(0, EntryBody::Prompt { message: message.clone() });
        self.talk.tell(message);
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
        self.listen(round).await?;
        if self.talk.bytes > self.options.max_conversation {
            self.make_room(round, self.options.max_conversation / 2).await?;
        }

        let request = ModelRequest {
            system: self.system,
            tools: &self.talk.tools.specs,
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
                    self.journal.write(round, mark.note());
                }
                self.journal.write(round, EntryBody::Reply { message: reply.message.clone(), usage: reply.usage });
                self.talk.reply(round, reply.message, reply.stop);
                self.journal.settled().await?;
                Ok(None)
            }
            Err(fault) => self.meet(fault, round).await,
        }
    }

    /// What came meanwhile goes into the conversation. A comment that the transcript holds already is not said twice.
    async fn listen(&mut self, round: u32) -> Result<(), Fault> {
        let notices = self.hands.line.take_notices();
        if !notices.is_empty() {
            let message = user(notices.join("\n\n"));
            self.journal.write(round, EntryBody::Comments { ids: Vec::new(), message: message.clone() });
            self.talk.tell(message);
        }
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
        self.talk.tell(message);
        self.talk.heard.push((round, ids.clone()));
        self.journal.settled().await?;
        self.hands.line.delivered(ids, round);
        Ok(())
    }

    /// Makes the conversation shorter, if it can be; says whether it could. What the older part came to is kept in a summary; where
    /// there is none to be had, the oldest tool results are left out until `bytes` remain.
    async fn make_room(&mut self, round: u32, bytes: usize) -> Result<bool, Fault> {
        let before = self.talk.bytes;
        if self.can_sum_up
            && let Some(kept) = self.talk.foldable()
        {
            if let Some(summary) = self.summary(kept).await? {
                let mark = Mark::SummedUp { kept, summary };
                self.journal.write(round, mark.note());
                // Paid for: it must not be lost.
                self.journal.settled().await?;
                if let Mark::SummedUp { kept, summary } = mark {
                    self.talk.sum_up(kept, &summary);
                }
                return Ok(self.talk.bytes < before);
            }
            self.can_sum_up = false;
        }
        self.talk.shorten(bytes);
        let shorter = self.talk.bytes < before;
        if shorter {
            self.journal.write(round, Mark::Shortened(bytes).note());
        }
        Ok(shorter)
    }

    /// What all but the last `kept` messages come to, by the model for side work. `None`: it could not be had.
    async fn summary(&mut self, kept: usize) -> Result<Option<String>, Fault> {
        let model = self.hands.side_model.as_deref().unwrap_or(self.model);
        let wish = Wish::of(&self.talk, kept);
        self.journal.settled().await?;
        let reply = tokio::select! {
            biased;
            () = self.hands.line.interrupted() => return Ok(None),
            reply = model.reply(wish.request()) => reply,
        };
        match reply {
            Ok(reply) => Ok(summary::of_reply(&reply.message)),
            Err(ModelFault::Port(fault)) if fault.class == FaultClass::Fenced => Err(fault),
            // Whatever it is, the next call of the model itself meets it too, and is answered for it.
            Err(_) => Ok(None),
        }
    }

    /// What a model call without a reply means.
    async fn meet(&mut self, fault: ModelFault, round: u32) -> Result<Option<Ending>, Fault> {
        let conclusion = match fault {
            ModelFault::OverBudget(why) => TurnConclusion::OutOfBudget { why },
            ModelFault::DeadKey(why) => TurnConclusion::DeadEnd { why },
            ModelFault::Rejected(why) => {
                if is_too_long(&why) && self.make_room(round, self.talk.bytes / 2).await? {
                    return Ok(None);
                }
                if is_about_images(&why) && self.talk.images() > 0 {
                    self.journal.write(round, Mark::Blind.note());
                    self.talk.blind();
                    return Ok(None);
                }
                TurnConclusion::DeadEnd { why }
            }
            ModelFault::Held { why, until } => TurnConclusion::Held { why, until },
            ModelFault::Unavailable(why) => TurnConclusion::Failed { why },
            ModelFault::Garbage(why) => {
                self.talk.garbage(round, &why);
                self.journal.write(round, Mark::Garbage(why).note());
                return Ok(None);
            }
            ModelFault::Port(fault) if fault.class == FaultClass::Fenced => return Err(fault),
            ModelFault::Port(fault) => TurnConclusion::Failed { why: fault.to_string() },
        };
        Ok(ended(conclusion))
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

/// Whether a provider's refusal says that the model takes no images.
fn is_about_images(why: &str) -> bool {
    let why = why.to_lowercase();
    ["image", "multimodal", "vision"].iter().any(|word| why.contains(word))
}
