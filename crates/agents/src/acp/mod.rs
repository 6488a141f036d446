//! Agents that speak the Agent Client Protocol (stable version 1): one tolerant client, and a table of what differs.
//!
//! What an agent offers is taken where it is of use (sessions that go on, modes, plans, questions) and missed by nobody where it
//! is not there. Usage is the gateway's, changes are the workspace's: nothing of either is read from the agent.

mod asks;
mod news;
pub(crate) mod past;
mod peer;
mod spec;
pub(crate) mod table;
mod talk;
mod turn;

use std::sync::Arc;

use domain::{
    Fault,
    ports::{
        BoxFuture,
        agent::{Agent, AgentInfo, Hands, ModelNeed, Needs, TurnEnd, TurnRequest},
    },
};

pub use self::spec::{Client, HomeFile, Login, Setting, Spec};
pub(crate) use self::{
    spec::Filling,
    talk::{Ending, Halt, dead_end, failed},
};
use crate::{
    Listed, Options,
    journal::conclude,
    programs::{self, Found, Programs},
};

/// One of them.
#[derive(Debug)]
pub(crate) struct Acp {
    spec: Spec,
    programs: Arc<Programs>,
    options: Arc<Options>,
}

/// Those of the table and those of the configuration.
pub(crate) fn all(options: &Arc<Options>, programs: &Arc<Programs>) -> impl Iterator<Item = (String, Acp)> {
    let mut specs = table::known();
    for own in &options.acp {
        match specs.iter_mut().find(|known| known.name == own.name) {
            Some(known) => known.clone_from(own),
            None => specs.push(own.clone()),
        }
    }
    let (options, programs) = (Arc::clone(options), Arc::clone(programs));
    specs.into_iter().map(move |spec| {
        let agent = Acp { spec, programs: Arc::clone(&programs), options: Arc::clone(&options) };
        (agent.spec.name.clone(), agent)
    })
}

impl Acp {
    fn found(&self) -> Result<Found, Fault> {
        let Spec { name, argv, packages, install, .. } = &self.spec;
        let Some(program) = argv.first() else {
            return Err(Fault::input(format!("the agent `{name}` names no program"))
                .hint(format!("give it an `argv`, under `[agents.{name}]` of config.toml")));
        };
        self.programs.find(program).ok_or_else(|| {
            let install = install.clone().unwrap_or_else(|| match &packages[..] {
                [] => "see its own documentation".to_owned(),
                packages => programs::npm_install(packages),
            });
            programs::missing(name, program, &install)
        })
    }

    fn model(&self) -> ModelNeed {
        if self.spec.clients.is_empty() { ModelNeed::None } else { ModelNeed::Client }
    }
}

impl Listed for Acp {
    fn info(&self) -> AgentInfo {
        let found = self.found();
        AgentInfo {
            name: self.spec.name.clone(),
            driven: "acp".to_owned(),
            version: found.as_ref().ok().and_then(|found| found.version.clone()),
            tried: self.spec.tried(),
            program: found.as_ref().ok().map(|found| found.program.clone()),
            model: self.model(),
            protocols: self.spec.protocols(),
            missing: found.err().map(|fault| fault.to_string()),
            remarks: self.spec.remarks.clone(),
        }
    }
}

impl Agent for Acp {
    fn needs(&self) -> Result<Needs, Fault> {
        Ok(Needs {
            model: self.model(),
            protocols: self.spec.protocols(),
            programs: self.found()?.exposed,
            login: self.spec.own_login(),
        })
    }

    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>> {
        Box::pin(async move { conclude(turn::run(self, &turn, &hands).await) })
    }
}
