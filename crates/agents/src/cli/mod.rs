//! Agents that are driven by their command lines: one run of a program is one prompt. A table says what differs, and a recipe in the
//! configuration adds any other program.
//!
//! Exit codes lie: an agent is done when it says so in its own way, says nothing of a failure, and ends with exit code 0.

mod events;
mod recipe;
mod run;
mod table;
mod text;
mod turn;

use std::sync::Arc;

use domain::{
    Fault,
    ports::{
        BoxFuture,
        agent::{Agent, AgentInfo, Hands, ModelNeed, Needs, OwnLogin, TurnEnd, TurnRequest},
    },
};

pub use self::recipe::{Events, Recipe, Success};
use crate::{
    Listed, Options,
    journal::conclude,
    programs::{self, Found, Programs},
};

/// One of them.
#[derive(Debug)]
pub(crate) struct CommandLine {
    recipe: Recipe,
    programs: Arc<Programs>,
    options: Arc<Options>,
}

/// Those of the table and those of the configuration.
pub(crate) fn all(options: &Arc<Options>, programs: &Arc<Programs>) -> impl Iterator<Item = (String, CommandLine)> {
    let mut recipes = table::known();
    for own in &options.recipes {
        match recipes.iter_mut().find(|known| known.name == own.name) {
            Some(known) => known.clone_from(own),
            None => recipes.push(own.clone()),
        }
    }
    let (options, programs) = (Arc::clone(options), Arc::clone(programs));
    recipes.into_iter().map(move |recipe| {
        let agent = CommandLine { recipe, programs: Arc::clone(&programs), options: Arc::clone(&options) };
        (agent.recipe.name.clone(), agent)
    })
}

impl CommandLine {
    fn found(&self) -> Result<Found, Fault> {
        let Recipe { name, argv, packages, install, .. } = &self.recipe;
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
        if self.recipe.clients.is_empty() { ModelNeed::None } else { ModelNeed::Client }
    }
}

impl Listed for CommandLine {
    fn info(&self) -> AgentInfo {
        let found = self.found();
        AgentInfo {
            name: self.recipe.name.clone(),
            driven: "command line".to_owned(),
            version: found.as_ref().ok().and_then(|found| found.version.clone()),
            tried: self.recipe.tried(),
            program: found.as_ref().ok().map(|found| found.program.clone()),
            model: self.model(),
            protocols: self.recipe.protocols(),
            missing: found.err().map(|fault| fault.to_string()),
            remarks: self.recipe.remarks.clone(),
        }
    }
}

impl Agent for CommandLine {
    fn needs(&self) -> Result<Needs, Fault> {
        let login = self.recipe.login.as_ref();
        Ok(Needs {
            model: self.model(),
            protocols: self.recipe.protocols(),
            programs: self.found()?.exposed,
            login: login.map(|login| OwnLogin { files: login.files.clone(), hosts: login.hosts.clone() }),
        })
    }

    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>> {
        Box::pin(async move { conclude(turn::run(self, &turn, &hands).await) })
    }
}
