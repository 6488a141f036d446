//! Agents that do as a test says, turn by turn.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use domain::{
    Fault,
    budget::Usage,
    ids::{CommentId, TurnNo},
    ports::{
        BoxFuture,
        agent::{
            Agent, AgentInfo, Agents, Entry, EntryBody, Hands, ModelNeed, Needs, OwnLogin, Prompt, TurnConclusion,
            TurnEnd, TurnRequest,
        },
        model::{Message, Part, Role},
    },
    profile::Profile,
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
    /// Waits for a notice, and takes it.
    HearNotice,
    /// Writes the same tool call with the same result so often.
    Repeat(u32),
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
    asked: Mutex<Vec<Asked>>,
    notices: Mutex<Vec<String>>,
    heard: Mutex<Vec<(CommentId, String)>>,
    started: Notify,
}

/// What a turn was started with.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name it was found by.
    pub agent: String,
    pub request: TurnRequest,
    /// Paths of the login that was lent.
    pub login: Vec<String>,
}

/// The agents of a test: whatever is asked for plays the next script.
#[derive(Clone, Debug, Default)]
pub struct ScriptedAgents(Arc<Stage>);

/// One of them, under a name.
struct Named {
    name: String,
    stage: Arc<Stage>,
}

impl ScriptedAgents {
    pub fn play(turns: Vec<TurnScript>) -> Self {
        Self(Arc::new(Stage { turns: Mutex::new(turns.into()), ..Stage::default() }))
    }

    /// What the turns so far were started with.
    pub fn asked(&self) -> Vec<Asked> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn prompts(&self) -> Vec<Prompt> {
        self.asked().into_iter().map(|asked| asked.request.prompt).collect()
    }

    /// The notices that were taken from lines.
    pub fn notices(&self) -> Vec<String> {
        self.0.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    fn find(&self, name: &str) -> Result<Arc<dyn Agent>, Fault> {
        Ok(Arc::new(Named { name: name.to_owned(), stage: Arc::clone(&self.0) }))
    }

    fn names(&self) -> Vec<String> {
        vec!["builtin".to_owned()]
    }

    fn list(&self) -> Vec<AgentInfo> {
        Vec::new()
    }

    /// One, `reviewer`, whose prompt is the first file.
    fn profiles(&self, files: &[(String, Bytes)]) -> Result<Vec<Profile>, Fault> {
        let prompt = files.first().map(|(_, content)| String::from_utf8_lossy(content).into_owned());
        let name = "reviewer".to_owned();
        let agent = Some("other".to_owned());
        Ok(vec![Profile { name, agent, prompt: prompt.unwrap_or_default(), ..Profile::default() }])
    }
}

impl Agent for Named {
    fn needs(&self) -> Result<Needs, Fault> {
        let login = OwnLogin { files: vec![".scripted/auth.json".to_owned()], hosts: vec!["models.test".to_owned()] };
        Ok(Needs { model: ModelNeed::None, protocols: Vec::new(), programs: Vec::new(), login: Some(login) })
    }

    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>> {
        Box::pin(async move {
            let script = self.stage.turns.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let login = hands.login.iter().map(|(path, _)| path.clone()).collect();
            let asked = Asked { agent: self.name.clone(), request: turn, login };
            self.stage.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            self.stage.started.notify_one();
            let Some(script) = script else { return Err(Fault::bug("the test wrote no script for this turn")) };
            for say in script.says {
                self.stage.do_as_told(say, &hands).await;
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
            Say::HearNotice => {
                hands.line.noticed().await;
                let notices = hands.line.take_notices();
                self.notices.lock().unwrap_or_else(PoisonError::into_inner).extend(notices);
            }
            Say::Repeat(times) => {
                for time in 0..times {
                    repeat(hands, &time.to_string()).await;
                }
            }
            Say::UntilInterrupted => hands.line.interrupted().await,
            Say::HangForEver => std::future::pending().await,
            Say::Panic => panic!("as the script says"),
        }
    }
}

async fn repeat(hands: &Hands, id: &str) {
    let call = Part::ToolCall { id: id.to_owned(), name: "shell".to_owned(), arguments: "{}".to_owned() };
    let message = Message { role: Role::Assistant, parts: vec![call] };
    let result = EntryBody::Result { id: id.to_owned(), text: "no".to_owned(), is_error: true };
    for body in [EntryBody::Reply { message, usage: Usage::default() }, result] {
        // A fenced transcript ends the turn elsewhere.
        let _ = hands.transcript.append(Entry { turn: TurnNo(1), round: 1, body }).await;
    }
}
