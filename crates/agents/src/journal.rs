//! Writing a turn's transcript: in order, and waited for only where the next step depends on it.

use std::collections::VecDeque;

use domain::{
    Fault,
    ids::TurnNo,
    ports::{
        BoxFuture,
        agent::{Entry, EntryBody, Hands, Mode, Transcript, TurnConclusion, TurnEnd, TurnRequest},
    },
};

use crate::clip;

/// The longest summary of a turn's end, in bytes.
const MAX_SUMMARY: usize = 8 * 1024;
/// The longest other text of a turn's end: reasons and questions become part of events, which are small. Of choices, each.
const MAX_TEXT: usize = 4 * 1024;
const MAX_CHOICE: usize = 256;
const MAX_CHOICES: usize = 16;
/// A report is the summary of its turn, and the end is the only place where it stands whole.
const MAX_REPORT: usize = 256 * 1024;

/// One turn's hand on its attempt's transcript.
pub(crate) struct Journal<'a> {
    transcript: &'a dyn Transcript,
    turn: TurnNo,
    max_summary: usize,
    pending: VecDeque<BoxFuture<'a, Result<(), Fault>>>,
}

impl<'a> Journal<'a> {
    pub fn new(hands: &'a Hands, request: &TurnRequest) -> Self {
        let max_summary = match request.mode {
            Mode::Plan | Mode::Work => MAX_SUMMARY,
            Mode::Report => MAX_REPORT,
        };
        Self { transcript: &*hands.transcript, turn: request.turn, max_summary, pending: VecDeque::new() }
    }

    /// Hands an entry to the transcript. It is on disk once [`Journal::settled`] returns.
    pub fn write(&mut self, round: u32, body: EntryBody) {
        self.pending.push_back(self.transcript.append(Entry { turn: self.turn, round, body }));
    }

    /// Waits until all that was written is durable. Can be dropped and called again.
    pub async fn settled(&mut self) -> Result<(), Fault> {
        while let Some(first) = self.pending.front_mut() {
            let written = first.await;
            self.pending.pop_front();
            written?;
        }
        Ok(())
    }

    /// Writes the turn's end, and waits for it.
    pub async fn end(&mut self, conclusion: TurnConclusion, words: &str, rounds: u32) -> Result<TurnEnd, Fault> {
        let end = TurnEnd { conclusion: bounded(conclusion), summary: clip::head(words, self.max_summary), rounds };
        self.write(rounds, EntryBody::End { end: end.clone() });
        self.settled().await?;
        Ok(end)
    }
}

/// What a fault means for the turn that met it: only a void lease is the caller's to handle.
pub(crate) fn conclude(outcome: Result<TurnEnd, Fault>) -> Result<TurnEnd, Fault> {
    outcome.or_else(|fault| match fault.class {
        domain::FaultClass::Fenced => Err(fault),
        _ => Ok(TurnEnd {
            conclusion: bounded(TurnConclusion::Failed { why: fault.to_string() }),
            summary: String::new(),
            rounds: 0,
        }),
    })
}

fn bounded(conclusion: TurnConclusion) -> TurnConclusion {
    let cut = |text: &str| clip::head(text, MAX_TEXT);
    match conclusion {
        TurnConclusion::Finished | TurnConclusion::Interrupted | TurnConclusion::OutOfRounds => conclusion,
        TurnConclusion::Asked { question, choices, default } => {
            let choices = choices.iter().take(MAX_CHOICES).map(|choice| clip::head(choice, MAX_CHOICE)).collect();
            let default = default.map(|answer| clip::head(&answer, MAX_CHOICE));
            TurnConclusion::Asked { question: cut(&question), choices, default }
        }
        TurnConclusion::OutOfBudget { why } => TurnConclusion::OutOfBudget { why: cut(&why) },
        TurnConclusion::Held { why, until } => TurnConclusion::Held { why: cut(&why), until },
        TurnConclusion::Stalled { why } => TurnConclusion::Stalled { why: cut(&why) },
        TurnConclusion::DeadEnd { why } => TurnConclusion::DeadEnd { why: cut(&why) },
        TurnConclusion::Failed { why } => TurnConclusion::Failed { why: cut(&why) },
    }
}
