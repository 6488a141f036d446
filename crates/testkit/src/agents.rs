//! Agents that do as a test says, turn by turn.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    Fault,
    ids::CommentId,
    ports::{
        BoxFuture,
        agent::{Agent, Agents, Hands, ModelNeed, Prompt, TurnConclusion, TurnEnd, TurnRequest},
    },
};
use tokio::sync::Notify;

/// One thing an agent does in a turn.
#[derive(Debug)]
pub enum Say {
    Progress(u8, &'static str),
    /// Waits until the test rings.
    WaitFor(Arc<Notify>),
    /// Waits until a comment is on the line, and takes it.
    HearComment,
    /// Ends when it is interrupted, and only then.
    UntilInterrupted,
    /// Ignores every interrupt.
    HangForEver,
    Panic,
}

/// A turn: what is done, and how it ends.
#[derive(Debug)]
pub struct TurnScript {
    pub says: Vec<Say>,
    pub conclusion: TurnConclusion,
}

impl TurnScript {
    pub fn ends(conclusion: TurnConclusion) -> Self {
        Self { says: Vec::new(), conclusion }
    }

    pub fn finishes() -> Self {
        Self::ends(TurnConclusion::Finished)
    }

    #[must_use]
    pub fn after(mut self, say: Say) -> Self {
        self.says.push(say);
        self
    }
}

#[derive(Debug, Default)]
struct Stage {
    turns: Mutex<VecDeque<TurnScript>>,
    prompts: Mutex<Vec<Prompt>>,
    heard: Mutex<Vec<(CommentId, String)>>,
    started: Notify,
}

/// The agents of a test: whatever is asked for plays the next script.
#[derive(Clone, Debug, Default)]
pub struct ScriptedAgents(Arc<Stage>);

impl ScriptedAgents {
    pub fn play(turns: Vec<TurnScript>) -> Self {
        Self(Arc::new(Stage { turns: Mutex::new(turns.into()), ..Stage::default() }))
    }

    /// What the turns so far were started with.
    pub fn prompts(&self) -> Vec<Prompt> {
        self.0.prompts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The comments that were taken from lines.
    pub fn heard(&self) -> Vec<(CommentId, String)> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves when a turn has started since the last call.
    pub async fn started(&self) {
        self.0.started.notified().await;
    }
}

impl Agents for ScriptedAgents {
    fn find(&self, _: &str) -> Result<Arc<dyn Agent>, Fault> {
        Ok(Arc::new(self.clone()))
    }

    fn names(&self) -> Vec<String> {
        vec!["builtin".to_owned()]
    }
}

impl Agent for ScriptedAgents {
    fn model_need(&self) -> ModelNeed {
        ModelNeed::None
    }

    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>> {
        Box::pin(async move {
            let script = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            self.0.prompts.lock().unwrap_or_else(PoisonError::into_inner).push(turn.prompt);
            self.0.started.notify_one();
            let Some(script) = script else { return Err(Fault::bug("the test wrote no script for this turn")) };
            for say in script.says {
                self.0.do_as_told(say, &hands).await;
            }
            Ok(TurnEnd { conclusion: script.conclusion, summary: "done as told".to_owned(), rounds: 1 })
        })
    }
}

impl Stage {
    async fn do_as_told(&self, say: Say, hands: &Hands) {
        match say {
            Say::Progress(percent, text) => hands.line.progress(Some(percent), text.to_owned()),
            Say::WaitFor(bell) => bell.notified().await,
            Say::HearComment => loop {
                let comments = hands.line.take_comments();
                if !comments.is_empty() {
                    hands.line.delivered(comments.iter().map(|(id, _)| *id).collect(), 1);
                    self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(comments);
                    return;
                }
                tokio::task::yield_now().await;
            },
            Say::UntilInterrupted => hands.line.interrupted().await,
            Say::HangForEver => std::future::pending().await,
            Say::Panic => panic!("as the script says"),
        }
    }
}
