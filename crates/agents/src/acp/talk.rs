//! A session with a running agent, from its start to where it can be prompted.

use std::time::Duration;

use domain::{
    Fault, FaultClass,
    ports::{
        agent::{Hands, Line, Mode, TurnConclusion, TurnRequest},
        sandbox::Exec,
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Acp,
    asks::Places,
    peer::{Gone, Incoming, Peer, Refusal},
    spec::{Filling, Setting},
};
use crate::home;

/// How long an agent may take to say what it can.
const TO_INITIALIZE: Duration = Duration::from_secs(60);
/// How long it may take to make or find a session, or to set it: some look for their tools first.
const TO_BEGIN: Duration = Duration::from_secs(120);
/// How long nothing is told once an old session has been told again, and how long that may take.
const SILENCE: Duration = Duration::from_millis(100);
const TO_TELL_AGAIN: Duration = Duration::from_secs(10);
/// Says where it starts, as only the sandbox knows, and becomes the agent.
const START: &str = r#"printf '%s\n%s\n' "$PWD" "$HOME" && exec "$@""#;
/// The protocol's version that is spoken here.
const VERSION: u64 = 1;
/// ACP's own code for an agent that nobody has signed in.
const NOT_SIGNED_IN: i64 = -32000;

/// The turn's end as it came about: how, and the agent's words on it.
pub(crate) type Ending = (TurnConclusion, String);

/// Why a turn does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    Ended(Ending),
    /// The transcript's.
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(crate) fn failed(why: impl Into<String>) -> Halt {
    Halt::Ended((TurnConclusion::Failed { why: why.into() }, String::new()))
}

pub(crate) fn dead_end(why: impl Into<String>) -> Halt {
    Halt::Ended((TurnConclusion::DeadEnd { why: why.into() }, String::new()))
}

/// A running agent with a session.
pub(super) struct Talk {
    pub peer: Peer,
    pub session: String,
    pub places: Places,
    /// Whether the session is one that was there before.
    pub resumed: bool,
    /// What people should know of how it began.
    pub notes: Vec<String>,
}

/// An agent that was started.
struct Opening<'a> {
    name: &'a str,
    peer: Peer,
    line: &'a dyn Line,
}

impl Talk {
    /// Starts the agent and brings it to `session`, or to a new one where there is none or it cannot be found.
    pub async fn open(agent: &Acp, request: &TurnRequest, hands: &Hands, session: Option<&str>) -> Result<Self, Halt> {
        let mut notes = Vec::new();
        if let (Some(id), Some(script)) = (session, &agent.spec.before_loading) {
            notes.extend(home::prepare(&*hands.sandbox, script, id).await.err());
        }
        let peer = start(agent, request, hands).await?;
        let mut opening = Opening { name: &agent.spec.name, peer, line: &*hands.line };
        let (places, able) = opening.greet().await?;
        if let Some(method) = &agent.spec.authenticate {
            opening.expect("authenticate", json!({ "methodId": method })).await?;
        }
        let found = match session {
            Some(id) => opening.find(id, &able, &places, &mut notes).await?,
            None => None,
        };
        let resumed = found.is_some();
        let (session, offers) = match found {
            Some(found) => found,
            None => opening.begin(&places).await?,
        };
        let settings = if request.mode == Mode::Plan { &agent.spec.plan } else { &agent.spec.work };
        for setting in settings {
            opening.set(&session, setting, &offers, &mut notes).await?;
        }
        if resumed {
            opening.fall_silent().await?;
        }
        Ok(Self { peer: opening.peer, session, places, resumed, notes })
    }
}

/// Starts the program, with what its client needs to find the gateway; or with the login that was lent.
async fn start(agent: &Acp, request: &TurnRequest, hands: &Hands) -> Result<Peer, Halt> {
    let spec = &agent.spec;
    let found = agent.found().map_err(|fault| dead_end(fault.to_string()))?;
    let filling = Filling { endpoint: hands.endpoint.as_ref() };
    let client = match &hands.endpoint {
        Some(endpoint) => Some(spec.client(endpoint).ok_or_else(|| {
            dead_end(format!("the client of `{}` cannot ask for the model `{}`", spec.name, endpoint.model))
        })?),
        None => None,
    };
    for file in spec.files.iter().chain(client.iter().flat_map(|client| &client.files)) {
        let content = filling.content(&file.content);
        home::put(&*hands.sandbox, &file.path, content.into()).await.map_err(failed)?;
    }
    for (path, content) in &hands.login {
        home::put(&*hands.sandbox, path, content.clone()).await.map_err(failed)?;
    }
    let variables = spec.env.iter().chain(client.iter().flat_map(|client| &client.env));
    let env = variables.map(|(name, value)| (name.clone(), filling.variable(value))).collect();

    let mut argv = ["sh", "-c", START, "sh"].map(str::to_owned).to_vec();
    argv.extend(found.argv());
    argv.extend(spec.argv.iter().skip(1).cloned());
    let wall = request.brief.budget.wall_s.map_or(Duration::MAX, Duration::from_secs);
    let timeout = agent.options.program_timeout.min(wall);
    let exec = Exec { argv, cwd: None, env, stdin: bytes::Bytes::new(), timeout };
    let conversation = hands.sandbox.converse(exec).await.map_err(|fault| match fault.class {
        FaultClass::Input | FaultClass::NotFound => dead_end(fault.to_string()),
        _ => failed(fault.to_string()),
    })?;
    Ok(Peer::new(conversation))
}

impl Opening<'_> {
    /// Where it runs, and what it can.
    async fn greet(&mut self) -> Result<(Places, Value), Halt> {
        let places = async { Ok(Places { workspace: self.peer.line().await?, home: self.peer.line().await? }) };
        let places = places.await.map_err(|gone| self.given_up(gone))?;
        let hello = json!({
            "protocolVersion": VERSION,
            "clientCapabilities": {
                "fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false, "elicitation": {"form": {}},
                // An extension by which codex and claude tell of a failure beside their words. Without it, codex ends a turn that
                // failed as one that is done.
                "_meta": {"jetbrains": {"air": {"version": 1, "capabilities": ["sessionFailure"]}}},
            },
            "clientInfo": {"name": "overnight", "title": "Overnight", "version": env!("CARGO_PKG_VERSION")},
        });
        let answer = self.call("initialize", hello, TO_INITIALIZE).await?;
        let answer = answer.map_err(|refusal| dead_end(format!("`{}` refuses to begin: {refusal}", self.name)))?;
        match answer["protocolVersion"].as_u64() {
            Some(VERSION) | None => Ok((places, answer["agentCapabilities"].clone())),
            Some(other) => Err(dead_end(format!(
                "`{}` speaks version {other} of the Agent Client Protocol, and Overnight speaks version {VERSION}: install another \
                 version of it",
                self.name
            ))),
        }
    }

    /// Goes on in a session, by whatever the agent is able to: without hearing it all again, or with.
    async fn find(
        &mut self,
        id: &str,
        able: &Value,
        places: &Places,
        notes: &mut Vec<String>,
    ) -> Result<Option<(String, Value)>, Halt> {
        let method = if able["sessionCapabilities"]["resume"].is_object() {
            "session/resume"
        } else if able["loadSession"] == true {
            "session/load"
        } else {
            notes.push(format!("`{}` cannot go on in a session: a new one begins.", self.name));
            return Ok(None);
        };
        let params = json!({"sessionId": id, "cwd": places.workspace, "mcpServers": []});
        match self.call(method, params, TO_BEGIN).await? {
            Ok(offers) => Ok(Some((id.to_owned(), offers))),
            Err(refusal) => {
                notes.push(format!("`{}` cannot go on in its session {id}: {refusal}. A new one begins.", self.name));
                Ok(None)
            }
        }
    }

    async fn begin(&mut self, places: &Places) -> Result<(String, Value), Halt> {
        let offers = self.expect("session/new", json!({"cwd": places.workspace, "mcpServers": []})).await?;
        match offers["sessionId"].as_str() {
            Some(id) => Ok((id.to_owned(), offers)),
            None => Err(dead_end(format!("`{}` made a session without a name", self.name))),
        }
    }

    /// Sets an option of the session where the agent offers that value: as a mode, or as an option.
    async fn set(
        &mut self,
        session: &str,
        Setting { option, value }: &Setting,
        offers: &Value,
        notes: &mut Vec<String>,
    ) -> Result<(), Halt> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let is_mode = list(&offers["modes"]["availableModes"]).iter().any(|mode| mode["id"] == **value);
        let options = list(&offers["configOptions"]);
        let offered = options.iter().find(|offered| offered["id"] == **option);
        let (method, params) = match offered {
            _ if option == "mode" && is_mode => ("session/set_mode", json!({"sessionId": session, "modeId": value})),
            Some(_) => ("session/set_config_option", json!({"sessionId": session, "configId": option, "value": value})),
            None => {
                notes.push(format!("`{}` offers no {option} `{value}`: it works without.", self.name));
                return Ok(());
            }
        };
        if let Err(refusal) = self.call(method, params, TO_BEGIN).await? {
            notes.push(format!("`{}` refuses the {option} `{value}`: {refusal}. It works without.", self.name));
        }
        Ok(())
    }

    /// Lets pass what is still told of an old session: some go on with it after they have answered that it is there, and nothing
    /// in it says so.
    async fn fall_silent(&mut self) -> Result<(), Halt> {
        let until = Instant::now() + TO_TELL_AGAIN;
        while let Ok(incoming) = tokio::time::timeout_at(until.min(Instant::now() + SILENCE), self.peer.next()).await {
            if let Incoming::Request { id, method, .. } = incoming.map_err(|gone| self.given_up(gone))? {
                let refused = self.peer.refuse(&id, -32601, &format!("{method} is not offered here"));
                refused.map_err(|gone| self.given_up(gone))?;
            }
        }
        Ok(())
    }

    /// Asks for what the turn cannot do without.
    async fn expect(&mut self, method: &str, params: Value) -> Result<Value, Halt> {
        self.call(method, params, TO_BEGIN).await?.map_err(|refusal| {
            let hint = if refusal.code == NOT_SIGNED_IN {
                "; it wants to be signed in, and did not take the gateway's address for that"
            } else {
                ""
            };
            dead_end(format!("`{}` refuses {method}: {refusal}{hint}", self.name))
        })
    }

    /// One exchange. What comes meanwhile is no part of the turn: an old session that is told again.
    async fn call(&mut self, method: &str, params: Value, patience: Duration) -> Result<Result<Value, Refusal>, Halt> {
        let until = Instant::now() + patience;
        let asked = self.peer.request(method, &params).map_err(|gone| self.given_up(gone))?;
        loop {
            let incoming = tokio::select! {
                biased;
                () = self.line.interrupted() => {
                    return Err(Halt::Ended((TurnConclusion::Interrupted, String::new())));
                }
                incoming = self.peer.next() => incoming,
                () = tokio::time::sleep_until(until) => {
                    let why = format!("`{}` did not answer `{method}` within {} s", self.name, patience.as_secs());
                    return Err(dead_end(why));
                }
            };
            match incoming.map_err(|gone| self.given_up(gone))? {
                Incoming::Response { id, outcome } if id == asked => return Ok(outcome),
                Incoming::Request { id, method, .. } => {
                    self.peer
                        .refuse(&id, -32601, &format!("{method} is not offered here"))
                        .map_err(|gone| self.given_up(gone))?;
                }
                Incoming::Response { .. } | Incoming::Notification { .. } => {}
            }
        }
    }

    /// An agent that does not even begin will not do so the next time.
    fn given_up(&self, gone: Gone) -> Halt {
        let (Gone::Ended(why) | Gone::Garbage(why)) = gone;
        dead_end(format!("`{}` did not begin: {why}", self.name))
    }
}
