//! How a repository's workspaces are built: what its base says, and what came of it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::check::{BlobId, CheckSpec};

/// Names a layer: a digest of the definition, the lock files and the base it was built for. Lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvironmentId(String);

impl EnvironmentId {
    /// `None` unless `text` is 16 to 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex && (16..=64).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl std::fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a base says of its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub source: Source,
    /// Lines for `sh -c`, run one after the other in the root of the checkout.
    pub install: Vec<String>,
    /// What installing may reach: hosts, or the name of a preset.
    pub install_network: Vec<String>,
    pub services: Vec<Service>,
    pub variables: BTreeMap<String, String>,
    pub secrets: Vec<SecretUse>,
    /// What turns may reach.
    pub network: Vec<String>,
    pub resources: Resources,
    /// Directories that outlive a build from nothing: below HOME with `~/`, else below the workspace.
    pub caches: Vec<String>,
    /// Files whose content decides, besides the definition, what is installed; paths from the root.
    pub locks: Vec<String>,
    /// Empty: the checks that the base suggests.
    pub checks: Vec<CheckSpec>,
    /// What checks may reach.
    pub checks_network: Vec<String>,
    /// Which values of the repository's secrets are used.
    pub stage: Stage,
    /// What a person should know, one sentence each.
    pub notes: Vec<String>,
}

/// Where a definition comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "what")]
pub enum Source {
    /// There is nothing to install.
    #[default]
    Nothing,
    /// A file of the base, by its path.
    File(String),
    /// From what the base holds: `Cargo.lock`, say. A layer is built of it only once a person asks.
    Detected(Vec<String>),
}

/// A process that runs as long as its sandbox: a development server, a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// A line for `sh -c`.
    pub command: String,
    /// `None`: it counts as ready once started.
    pub ready: Option<Readiness>,
    /// How long it may take to become ready.
    pub ready_within: Duration,
    /// What `overnight preview` forwards when nobody names a port.
    pub port: Option<u16>,
}

/// How to tell that a service is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "what")]
pub enum Readiness {
    /// Something listens on this port of the sandbox's loopback.
    Port(u16),
    /// A GET of this path answers with a status below 500.
    Http { port: u16, path: String },
    /// A line for `sh -c` that ends with 0.
    Command(String),
}

/// A secret by its name, and what it is used for. The value is set with `overnight secret set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    pub name: String,
    pub to: SecretPurpose,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SecretPurpose {
    /// A variable while installing; gone before anything of the task runs.
    Install,
    /// Never in a sandbox: the proxy puts `header: value` on requests to `host`, with `{}` in `value` replaced by the secret.
    Proxy { host: String, header: String, value: String },
}

/// Bounds of one sandbox; `None` is the installation's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub memory_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub processor_percent: Option<u32>,
    pub disk_bytes: Option<u64>,
}

/// Which values of a repository's secrets. Production is used only where a definition says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    #[default]
    Staging,
    Production,
}

impl Stage {
    pub fn word(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Staging, Self::Production].into_iter().find(|stage| stage.word() == word)
    }
}

/// Whether a base builds and passes in its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Health {
    Healthy,
    /// `why`: one sentence. `log`: what was printed.
    Unhealthy {
        why: String,
        log: Option<BlobId>,
    },
    /// No check to tell it by, or no layer.
    Unknown,
}

impl Health {
    /// What is wrong, where something is.
    pub fn ill(&self) -> Option<&str> {
        match self {
            Self::Unhealthy { why, .. } => Some(why),
            Self::Healthy | Self::Unknown => None,
        }
    }
}

/// The environment that a task works in, as it is shown with the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentUse {
    /// `None`: no layer; whatever the task needs it installs itself.
    pub layer: Option<EnvironmentId>,
    pub health: Health,
    /// Why there is none, or that it is an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
