//! What a task's attempts did, turn by turn, found by walking the journal through `step` again.

use std::collections::BTreeMap;

use domain::{
    Fault,
    command::Command,
    event::Event,
    ids::{AttemptNo, CommandId, CommentId, TaskId, TurnNo},
    ports::{
        agent::{Mode, Prompt},
        store::Store,
        workspace::Snapshot,
    },
    step::{Decision, open, step},
};
use jiff::{SignedDuration, Timestamp};

/// Events read at a time.
const PAGE: u32 = 1000;

/// One turn as it was.
#[derive(Clone, Debug)]
pub(crate) struct PastTurn {
    pub turn: TurnNo,
    pub mode: Mode,
    pub prompt: Prompt,
    pub max_rounds: u32,
    pub choice: u32,
    pub fresh: bool,
    /// Comments that reached it on the way, each with the round that it came before.
    pub heard: Vec<(u32, CommentId, String)>,
    pub began: Timestamp,
    pub took: SignedDuration,
    /// As it left the workspace; `None` while it runs.
    pub snapshot: Option<Snapshot>,
}

/// The turns of one attempt, in their order.
pub(crate) async fn turns(store: &dyn Store, task: TaskId, attempt: AttemptNo) -> Result<Vec<PastTurn>, Fault> {
    let mut walk = Walk { attempt, turns: Vec::new(), commands: BTreeMap::new(), comments: BTreeMap::new() };
    let (mut state, mut after) = (None, 0);
    loop {
        let page = store.journal(task, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.envelope.seq;
        for row in page {
            let envelope = row.envelope;
            walk.read(&envelope.event, envelope.at);
            let decision = match (&mut state, &envelope.event) {
                (None, Event::Submitted(submission)) => {
                    let (task, decision) = open(task, &envelope, submission);
                    state = Some(task);
                    decision
                }
                (Some(task), _) => step(task, &envelope),
                (None, _) => {
                    return Err(Fault::environment(format!(
                        "the journal of {task} does not begin with its submission"
                    )));
                }
            };
            if let Some(state) = &state {
                walk.comments = state.comments.iter().map(|comment| (comment.id, comment.text.clone())).collect();
            }
            walk.issued(decision, envelope.at);
        }
    }
    Ok(walk.turns)
}

struct Walk {
    attempt: AttemptNo,
    turns: Vec<PastTurn>,
    /// Commands of the attempt's turns and snapshots.
    commands: BTreeMap<CommandId, TurnNo>,
    comments: BTreeMap<CommentId, String>,
}

impl Walk {
    fn turn(&mut self, no: TurnNo) -> Option<&mut PastTurn> {
        self.turns.iter_mut().find(|turn| turn.turn == no)
    }

    fn read(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::TurnEnded { command, .. } => {
                let ended = self.commands.get(command).copied();
                if let Some(turn) = ended.and_then(|no| self.turn(no)) {
                    turn.took = at.duration_since(turn.began);
                }
            }
            Event::SnapshotTaken { command, snapshot } => {
                let taken = self.commands.get(command).copied();
                if let Some(turn) = taken.and_then(|no| self.turn(no)) {
                    turn.snapshot = Some(snapshot.clone());
                }
            }
            Event::CommentsDelivered { attempt, turn, round, comments } if *attempt == self.attempt => {
                let texts: Vec<_> =
                    comments.iter().filter_map(|id| Some((*round, *id, self.comments.get(id)?.clone()))).collect();
                if let Some(turn) = self.turn(*turn) {
                    turn.heard.extend(texts);
                }
            }
            _ => {}
        }
    }

    fn issued(&mut self, decision: Decision, at: Timestamp) {
        for (id, command) in decision.issued {
            match command {
                Command::StartTurn { attempt, turn, mode, prompt, max_rounds, choice, fresh }
                    if attempt == self.attempt =>
                {
                    self.commands.insert(id, turn);
                    self.turns.push(PastTurn {
                        turn,
                        mode,
                        prompt,
                        max_rounds,
                        choice,
                        fresh,
                        heard: Vec::new(),
                        began: at,
                        took: SignedDuration::ZERO,
                        snapshot: None,
                    });
                }
                Command::TakeSnapshot { attempt, turn, .. } if attempt == self.attempt => {
                    self.commands.insert(id, turn);
                }
                _ => {}
            }
        }
    }
}
