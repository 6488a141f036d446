//! Names of things: small copyable identifiers, each with one printed form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A task's number within one home. Printed `T-12`; read as `T-12`, `t-12` or `12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T-{}", self.0)
    }
}

/// What was given cannot be a task id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a task id: write `T-12` or `12`")]
pub struct NotATaskId(pub String);

impl FromStr for TaskId {
    type Err = NotATaskId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("T-").or_else(|| text.strip_prefix("t-")).unwrap_or(text);
        match digits.parse() {
            Ok(number) if number > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Self(number)),
            _ => Err(NotATaskId(text.to_owned())),
        }
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Which attempt of a task, from 1.
    AttemptNo, u32
);
number!(
    /// Which turn of an attempt, from 1.
    TurnNo, u32
);
number!(
    /// Which command of a task, from 1, in the order `step` issued them.
    CommandId, u64
);
number!(
    /// Which decision a task asks of a person, from 1. An answer names the request it answers.
    RequestId, u32
);
number!(
    /// Which comment of a task, from 1.
    CommentId, u32
);
number!(
    /// One life of the daemon on a home. Leases and writes of older epochs are void.
    Epoch, u64
);

/// One attempt, named across tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    pub task: TaskId,
    pub attempt: AttemptNo,
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.attempt)
    }
}

/// A full git object name of a commit, in lower-case hexadecimal (40 or 64 digits).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(String);

impl CommitId {
    /// `None` unless `text` is 40 or 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex && (text.len() == 40 || text.len() == 64)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository that tasks work on: a stable name derived by `workspace` from its absolute git directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepositoryId(pub String);

/// Who did it. Never taken from what an agent says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Actor {
    /// A named person (on one machine: the operating-system user's name).
    Person(String),
    /// A stored rule that fired.
    Automation(String),
    /// Overnight itself: completions and timers.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(name) | Self::Automation(name) => f.write_str(name),
            Self::System => f.write_str("overnight"),
        }
    }
}

/// The way an event came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    CommandLine,
    Page,
    Http,
    Engine,
}
