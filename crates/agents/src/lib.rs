//! The agents: `builtin`, a loop over any model; `command`, any program as the agent; and drivers of the agents that people have
//! already, over the Agent Client Protocol where they speak it.
//!
//! Nothing here knows a provider's wire format (`gateway` does) or starts a process on the host (`sandbox` does). What an
//! agent says is never evidence: the workspace, the gateway and the checks say what happened.
#![forbid(unsafe_code)]

pub mod acp;
mod asking;
mod builtin;
pub mod cli;
mod clip;
mod command;
mod home;
mod journal;
pub mod profiles;
mod programs;
mod prompts;
mod updates;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    Fault,
    ports::agent::{self as port, Agent, AgentInfo, ModelNeed},
    profile::Profile,
};

use self::programs::Programs;

/// What can be set for all agents of an installation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Output tokens that one model reply may have.
    pub max_output: u32,
    /// Bytes of conversation above which its older part is summed up (a token is some 3.5 bytes).
    pub max_conversation: usize,
    /// The longest that one shell command of the built-in agent may live, however often it is polled.
    pub command_timeout: Duration,
    /// The longest that an agent's program may run in one turn; a wall time in the brief's budget shortens it.
    pub program_timeout: Duration,
    /// Where agents are installed, before the daemon's PATH: each with programs in its `bin` and `node_modules/.bin`.
    pub directories: Vec<PathBuf>,
    /// Agents of the configuration that speak ACP. One that has the name of an agent known here takes its place.
    pub acp: Vec<acp::Spec>,
    /// Agents of the configuration that are driven by their command lines; the same holds.
    pub recipes: Vec<cli::Recipe>,
    /// Profiles of the configuration, made by [`profiles::Section::profile`].
    pub profiles: Vec<Profile>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_output: 16_384,
            max_conversation: 480 * 1024,
            command_timeout: Duration::from_secs(60 * 60),
            program_timeout: Duration::from_secs(6 * 60 * 60),
            directories: Vec::new(),
            acp: Vec::new(),
            recipes: Vec::new(),
            profiles: Vec::new(),
        }
    }
}

/// An agent here, and what a list says of it.
trait Listed: Agent {
    fn info(&self) -> AgentInfo;
}

impl Listed for builtin::Builtin {
    fn info(&self) -> AgentInfo {
        own("builtin", "built in", ModelNeed::Required)
    }
}

impl Listed for command::Command {
    fn info(&self) -> AgentInfo {
        own("command", "program", ModelNeed::Offered)
    }
}

/// An agent that is always here.
fn own(name: &str, driven: &str, model: ModelNeed) -> AgentInfo {
    AgentInfo {
        name: name.to_owned(),
        driven: driven.to_owned(),
        version: None,
        tried: None,
        program: None,
        model,
        protocols: Vec::new(),
        missing: None,
        remarks: Vec::new(),
    }
}

/// The agents by name.
pub struct Agents {
    all: Vec<(String, Arc<dyn Listed>)>,
    /// Profiles of the configuration.
    configured: Vec<Profile>,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all.iter().map(|(name, _)| name)).finish()
    }
}

impl Agents {
    pub fn new(options: Options) -> Arc<Self> {
        let programs = Arc::new(Programs::new(options.directories.clone()));
        let configured = options.profiles.clone();
        let options = Arc::new(options);
        let mut all: Vec<(String, Arc<dyn Listed>)> = vec![
            ("builtin".to_owned(), Arc::new(builtin::Builtin::new(Arc::clone(&options)))),
            ("command".to_owned(), Arc::new(command::Command::new(Arc::clone(&options)))),
        ];
        all.extend(acp::all(&options, &programs).map(|(name, agent)| (name, Arc::new(agent) as Arc<dyn Listed>)));
        all.extend(cli::all(&options, &programs).map(|(name, agent)| (name, Arc::new(agent) as Arc<dyn Listed>)));
        Arc::new(Self { all, configured })
    }
}

impl port::Agents for Agents {
    fn find(&self, name: &str) -> Result<Arc<dyn Agent>, Fault> {
        match self.all.iter().find(|(known, _)| known == name) {
            Some((_, agent)) => Ok(Arc::clone(agent) as Arc<dyn Agent>),
            None => Err(Fault::not_found(format!("there is no agent `{name}`"))
                .hint(format!("agents here: {}", self.names().join(", ")))),
        }
    }

    fn names(&self) -> Vec<String> {
        self.all.iter().map(|(name, _)| name.clone()).collect()
    }

    fn list(&self) -> Vec<AgentInfo> {
        self.all.iter().map(|(_, agent)| agent.info()).collect()
    }

    fn profiles(&self, files: &[(String, Bytes)]) -> Result<Vec<Profile>, Fault> {
        profiles::profiles(files, &self.configured)
    }
}
