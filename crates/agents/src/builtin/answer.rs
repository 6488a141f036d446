//! Answering a model's reply: its tool calls are carried out, and it is told what came of them.

use std::iter::Peekable;

use domain::{
    Fault,
    ports::{
        agent::{EntryBody, TurnConclusion},
        model::{Message, Part, Role, Stop},
    },
};
use futures::future::join_all;

use super::{
    Ending, Turn,
    conversation::Done,
    images::{self, MAX_IMAGES},
    tools::{self, Call},
    user,
};

/// With so many rounds left the agent is told to come to an end.
const LAST_ROUNDS: u32 = 3;
/// How often in a row the same call has the same result before the agent is told, and told again.
const REPETITIONS: [usize; 2] = [3, 5];

/// A reply's calls as they were understood: their ids, and what they are or why they cannot be used.
type Calls = std::vec::IntoIter<(String, Result<Call, String>)>;

/// The results of one reply's calls.
struct Answers {
    round: u32,
    /// How many of them are in the transcript already.
    recorded: usize,
    results: Vec<Part>,
    images: Vec<Part>,
    ending: Option<Ending>,
    failed: bool,
}

impl Turn<'_> {
    /// Answers the last reply. Its calls are carried out in order, each one's result durable before the next begins; those that
    /// only look at files and follow each other run side by side.
    pub(super) async fn answer(&mut self) -> Result<Option<Ending>, Fault> {
        let round = self.talk.rounds;
        let understood =
            |(id, name, arguments): (&str, &str, &str)| (id.to_owned(), self.talk.tools.parse(name, arguments));
        let calls: Vec<_> = self.talk.calls().into_iter().map(understood).collect();
        if calls.is_empty() {
            return Ok(self.answer_text(round));
        }
        let resumed = self.talk.recorded.is_some();
        let recorded = self.talk.recorded.take().unwrap_or_default();
        let mut answers = Answers {
            round,
            recorded: recorded.len(),
            results: Vec::with_capacity(calls.len()),
            images: Vec::new(),
            ending: None,
            failed: false,
        };
        let mut calls = calls.into_iter().peekable();
        while let Some((id, call)) = calls.next() {
            let at = answers.results.len();
            let done = match call {
                _ if answers.ending.is_some() => Done::error("Not run: the turn ended before it."),
                Ok(Call::Finish(_)) if answers.failed => {
                    Done::error("Not finished: an earlier call of this reply failed. Look at it first.")
                }
                // These two have no effect but the turn's end, which is the same however often a crash makes us come by.
                Ok(Call::Finish(call)) => {
                    answers.ending = Some((TurnConclusion::Finished, call.summary));
                    Done::ok("The turn ends.")
                }
                Ok(Call::Ask(call)) => {
                    let tools::Ask { question, choices, default } = call;
                    answers.ending = Some((TurnConclusion::Asked { question, choices, default }, String::new()));
                    Done::ok("The person is asked; the turn ends.")
                }
                _ if at < recorded.len() => recorded[at].clone(),
                Err(why) => Done::error(why),
                Ok(_) if resumed => Done::lost(at - recorded.len()),
                Ok(_) if self.hands.line.is_interrupted() => Done::error("Not run: the turn was interrupted."),
                Ok(call) if call.looks() => {
                    self.look((id, call), &mut calls, &mut answers).await?;
                    continue;
                }
                Ok(call) => {
                    if let Call::Plan(plan) = &call {
                        self.journal.write(round, EntryBody::Plan { steps: plan.steps.clone() });
                    }
                    self.journal.settled().await?;
                    self.bench.carry_out(call, &format!("{}.{round}.{at}", self.request.turn)).await
                }
            };
            self.note(&mut answers, id, done);
        }
        if answers.ending.is_none() {
            self.tell_results(answers, &recorded);
            return Ok(None);
        }
        // At the end the results stay as they were written one by one: were they folded and the end lost in a crash, the model
        // would be asked on. The next turn folds them.
        Ok(answers.ending)
    }

    /// Carries out a call that only looks, together with those of its kind that follow it.
    async fn look(
        &mut self,
        first: (String, Call),
        calls: &mut Peekable<Calls>,
        answers: &mut Answers,
    ) -> Result<(), Fault> {
        let mut group = vec![first];
        while let Some((id, Ok(call))) = calls.next_if(|(_, call)| call.as_ref().is_ok_and(Call::looks)) {
            group.push((id, call));
        }
        self.journal.settled().await?;
        let (ids, calls): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let eyes = self.bench.eyes;
        let found = join_all(calls.into_iter().map(|call| eyes.look(call))).await;
        for (id, done) in ids.into_iter().zip(found) {
            self.note(answers, id, done);
        }
        Ok(())
    }

    /// Takes a result in, and writes it where it is new.
    fn note(&mut self, answers: &mut Answers, id: String, mut done: Done) {
        if self.talk.blind && !done.images.is_empty() {
            done = Done::error("The image cannot be shown: you are a model that takes none.");
        } else if self.talk.images() + answers.images.len() + done.images.len() > MAX_IMAGES && !done.images.is_empty()
        {
            done = Done::error(format!("The image is not shown: a conversation has room for {MAX_IMAGES}."));
        }
        answers.failed |= done.is_error;
        answers.images.append(&mut done.images);
        if answers.results.len() >= answers.recorded {
            let Done { text, is_error, .. } = done.clone();
            self.journal.write(answers.round, EntryBody::Result { id: id.clone(), text, is_error });
        }
        answers.results.push(done.part(id));
    }

    /// Folds the results into the message that answers the reply, with what else is to be said.
    fn tell_results(&mut self, answers: Answers, recorded: &[Done]) {
        let Answers { round, results, images, .. } = answers;
        let is_lost = recorded.iter().any(|done| done.text.contains(images::FOLLOWS));
        let lost = is_lost.then(|| "Overnight was restarted: ask again for the images that are not here.".to_owned());
        let calls = results.len();
        self.talk.push(Message { role: Role::User, parts: results.clone() });
        let said = [lost, self.repetition(calls), self.hurry()].into_iter().flatten().map(|text| Part::Text { text });
        let behind: Vec<_> = images.into_iter().chain(said).collect();
        self.talk.push(Message { role: Role::User, parts: behind.clone() });
        let parts = results.into_iter().chain(behind).collect();
        self.journal.write(round, EntryBody::Results { message: Message { role: Role::User, parts } });
    }

    /// Said when the last of the reply's `calls` came to the same as those before it.
    fn repetition(&self, calls: usize) -> Option<String> {
        let times = self.talk.repetitions();
        let passed = |bound: usize| times >= bound && times.saturating_sub(calls) < bound;
        if passed(REPETITIONS[1]) {
            return Some(format!(
                "Stop: the same call had the same result {times} times in a row, and it will again. Do something else: question what you \
                 took for granted, look elsewhere, or ask the person. If you go on like this, the turn is ended."
            ));
        }
        passed(REPETITIONS[0]).then(|| {
            format!("This was the same call with the same result, {times} times in a row. Read what it says, and try another way.")
        })
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
        let message = user(told);
        self.journal.write(round, EntryBody::Results { message: message.clone() });
        self.talk.push(message);
        None
    }

    /// Said once, when the last rounds begin.
    fn hurry(&self) -> Option<String> {
        let left = self.request.max_rounds.saturating_sub(self.talk.rounds);
        let begins = left == LAST_ROUNDS || (left < LAST_ROUNDS && self.talk.rounds == 1);
        (begins && left > 0)
            .then(|| format!("Only {left} more replies fit into this turn: bring the work to a good state and finish."))
    }
}
