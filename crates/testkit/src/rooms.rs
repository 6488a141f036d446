//! Sandboxes without processes, checks without commands, a gateway without models.

use std::{
    collections::VecDeque,
    net::TcpStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use domain::{
    Fault,
    budget::Purse,
    check::{CheckSpec, Judgement, Verdict},
    ids::CommitId,
    ports::{
        BoxFuture,
        checks::{Checks, JudgeRequest},
        model::{
            Access, Credentials, Endpoint, Gateways, Model, ModelAsk, ModelInfo, ReplayRequest, Replayed,
            ResolvedModel, TriedModel,
        },
        sandbox::{
            Conversation, Entry, Exec, Files, Probe, Process, Sandbox, SandboxSpec, Sandboxes, Terminal, WindowSize,
        },
        workspace::Repository,
    },
};

use crate::{locked, ready};

/// Sandboxes in which nothing can be started.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainSandboxes;

impl Sandboxes for PlainSandboxes {
    fn probe(&self) -> Probe {
        Probe { confined: true, layers: false, walls: Vec::new() }
    }

    fn open(&self, _: SandboxSpec) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, Fault>> {
        ready(Ok(Arc::new(Self) as Arc<dyn Sandbox>))
    }

    fn ensure_dead(&self, _: PathBuf, _: Duration) -> BoxFuture<'_, Result<(), Fault>> {
        ready(Ok(()))
    }
}

impl Sandbox for PlainSandboxes {
    fn spawn(&self, _: Exec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        ready(Err(Fault::bug("nothing can be started here")))
    }

    fn converse(&self, _: Exec) -> BoxFuture<'_, Result<Conversation, Fault>> {
        ready(Err(Fault::bug("nothing can be started here")))
    }

    fn terminal(&self, _: Exec, _: WindowSize) -> BoxFuture<'_, Result<Box<dyn Terminal>, Fault>> {
        ready(Err(Fault::bug("nothing can be started here")))
    }

    fn files(&self) -> BoxFuture<'_, Result<Arc<dyn Files>, Fault>> {
        ready(Ok(Arc::new(Self) as Arc<dyn Files>))
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<TcpStream, Fault>> {
        ready(Err(Fault::not_found(format!("nothing listens on port {port} here"))))
    }

    fn running(&self) -> Vec<String> {
        Vec::new()
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        ready(())
    }
}

impl Files for PlainSandboxes {
    fn read(&self, path: &str, _: u64, _: usize) -> Result<(Bytes, u64), Fault> {
        Err(Fault::not_found(path))
    }

    fn write(&self, path: &str, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::not_found(path))
    }

    fn list(&self, _: &str) -> Result<Vec<Entry>, Fault> {
        Ok(Vec::new())
    }
}

/// Checks that say what a test wants to hear; green when it has no more wishes.
#[derive(Clone, Debug, Default)]
pub struct ScriptedChecks(Arc<Mutex<VecDeque<Verdict>>>);

impl ScriptedChecks {
    pub fn say(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        Self(Arc::new(Mutex::new(verdicts.into_iter().collect())))
    }
}

impl Checks for ScriptedChecks {
    fn detect(&self, _: Repository, _: CommitId) -> BoxFuture<'_, Result<Vec<CheckSpec>, Fault>> {
        ready(Ok(vec![CheckSpec::from_command("true")]))
    }

    fn judge(&self, _: JudgeRequest) -> BoxFuture<'_, Result<Judgement, Fault>> {
        let verdict = locked(&self.0).pop_front().unwrap_or(Verdict::Green);
        ready(Ok(Judgement {
            verdict,
            runs: Vec::new(),
            outside_allowed: Vec::new(),
            protected_touched: Vec::new(),
            digest: format!("the checks are {}", verdict.word()),
            fingerprint: if verdict == Verdict::Green { String::new() } else { "f".to_owned() },
        }))
    }
}

/// A gateway for agents that need none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmetered;

impl Gateways for Unmetered {
    fn resolve(&self, ask: ModelAsk<'_>) -> Result<ResolvedModel, Fault> {
        let name = ask.name.unwrap_or("none").to_owned();
        Ok(ResolvedModel { name, priced: false, protocols: ask.protocols.to_vec() })
    }

    fn model(&self, _: Access) -> Result<Arc<dyn Model>, Fault> {
        Err(Fault::bug("no model is needed here"))
    }

    fn endpoint(&self, _: Access) -> BoxFuture<'_, Result<Endpoint, Fault>> {
        ready(Err(Fault::bug("no model is needed here")))
    }

    fn models(&self, _: Credentials) -> BoxFuture<'_, Vec<ModelInfo>> {
        ready(Vec::new())
    }

    fn try_out(&self, name: String, _: Credentials, _: Vec<Purse>) -> BoxFuture<'_, Result<TriedModel, Fault>> {
        ready(Err(Fault::input(format!("the model `{name}` is not known"))))
    }

    fn replay(&self, _: ReplayRequest) -> BoxFuture<'_, Result<Replayed, Fault>> {
        ready(Err(Fault::bug("no model is needed here")))
    }
}
