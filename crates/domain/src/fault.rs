//! The one error that crosses a port: what went wrong, and what the one who meets it can do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a fault means for the one who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// What was asked for cannot be: a person must ask for something else. Trying again is useless.
    Input,
    /// No such thing (task, commit, file, agent, model).
    NotFound,
    /// The state does not allow it now (head moved, task ended). Look again, then decide again.
    Conflict,
    /// The machine lacks something (disk full, program missing, permission): a person mends the machine, then it works.
    Environment,
    /// Trying again later can help.
    Transient,
    /// The caller's lease or epoch is void: stop, write nothing more.
    Fenced,
    /// Our mistake.
    Bug,
}

/// An error told in full: `what` happened (and where), and `hint`: what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Fault {
    pub class: FaultClass,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl Fault {
    pub fn new(class: FaultClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), hint: None }
    }

    pub fn input(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Input, what)
    }

    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(FaultClass::NotFound, what)
    }

    pub fn conflict(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Conflict, what)
    }

    pub fn environment(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Environment, what)
    }

    pub fn transient(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Transient, what)
    }

    pub fn fenced(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Fenced, what)
    }

    pub fn bug(what: impl Into<String>) -> Self {
        Self::new(FaultClass::Bug, what)
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it happened, put in front of `what`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }
}
