//! The agents that Overnight brings along: `builtin`, a loop over any model, and `command`, any program as the agent.
//!
//! Nothing here knows a provider's wire format (`gateway` does) or starts a process on the host (`sandbox` does). What an
//! agent says is never evidence: the workspace, the gateway and the checks say what happened.
#![forbid(unsafe_code)]

mod builtin;
mod clip;
mod command;
mod journal;
mod prompts;

use std::{sync::Arc, time::Duration};

use domain::{
    Fault,
    ports::agent::{self as port, Agent},
};

/// What can be set for all agents of an installation.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Output tokens that one model reply may have.
    pub max_output: u32,
    /// Bytes of conversation above which the oldest tool results are left out of it (a token is some 3.5 bytes).
    pub max_conversation: usize,
    /// The longest that one shell command of the built-in agent may live, however often it is polled.
    pub command_timeout: Duration,
    /// The longest that the program of a `command` agent may run; a wall time in the brief's budget shortens it.
    pub program_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_output: 16_384,
            max_conversation: 480 * 1024,
            command_timeout: Duration::from_secs(60 * 60),
            program_timeout: Duration::from_secs(6 * 60 * 60),
        }
    }
}

/// The agents by name.
#[derive(Debug)]
pub struct Agents {
    builtin: Arc<builtin::Builtin>,
    command: Arc<command::Command>,
}

impl Agents {
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            builtin: Arc::new(builtin::Builtin::new(options)),
            command: Arc::new(command::Command::new(options)),
        })
    }
}

impl port::Agents for Agents {
    fn find(&self, name: &str) -> Result<Arc<dyn Agent>, Fault> {
        match name {
            "builtin" => Ok(Arc::<builtin::Builtin>::clone(&self.builtin)),
            "command" => Ok(Arc::<command::Command>::clone(&self.command)),
            _ => Err(Fault::not_found(format!("there is no agent `{name}`"))
                .hint(format!("agents here: {}", self.names().join(", ")))),
        }
    }

    fn names(&self) -> Vec<String> {
        vec!["builtin".to_owned(), "command".to_owned()]
    }
}
