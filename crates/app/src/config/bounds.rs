//! What this machine gives: how much at the same time, of which size, and what makes sandboxes.

use std::path::PathBuf;

use domain::ports::sandbox;
use serde::{Deserialize, Deserializer, de::Error};

/// How much goes on at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Agents' turns. The rest wait in their order.
    pub turns: Bound,
    /// Runs of checks.
    pub checks: Bound,
    /// Workspaces being made, snapshotted or removed.
    pub disk: Bound,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layers {
    /// What they may hold on disk; the least used go first. Absent: the room's own.
    pub budget: Option<Size>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Hosts that may be found at private addresses: `host` or `*.host`.
    pub private: Vec<String>,
    /// Files (PEM) of certificate authorities that are believed besides the machine's; relative ones are in the home.
    pub authorities: Vec<PathBuf>,
}

/// What makes sandboxes, and the bounds of one whose environment names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    pub runner: Runner,
    /// Of containers: the name of an image that the engine has.
    pub image: Option<String>,
    pub engine: EngineSocket,
    pub memory: Option<Size>,
    pub processes: Bound,
    pub disk: Option<Size>,
    pub cpus: Option<Processors>,
}

impl Sandbox {
    pub fn limits(&self) -> sandbox::Limits {
        let usual = sandbox::Limits::default();
        sandbox::Limits {
            memory_bytes: self.memory.map(|size| size.0).or(usual.memory_bytes),
            processes: match self.processes {
                Bound::Default => usual.processes,
                Bound::At(number) => Some(number as u64),
                Bound::None => None,
            },
            processor_percent: self.cpus.map(|processors| processors.0).or(usual.processor_percent),
            disk_bytes: self.disk.map(|size| size.0).or(usual.disk_bytes),
            ..usual
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    /// Overnight itself.
    #[default]
    Namespaces,
    /// Docker or Podman.
    Container,
}

/// Where a container engine listens, written `unix:///run/podman/podman.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSocket(pub PathBuf);

impl Default for EngineSocket {
    /// Docker's, which Podman's own package for it takes too.
    fn default() -> Self {
        Self("/var/run/docker.sock".into())
    }
}

impl<'de> Deserialize<'de> for EngineSocket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = || D::Error::custom("write a socket of this machine like \"unix:///run/podman/podman.sock\"");
        let text = String::deserialize(deserializer).map_err(|_| refused())?;
        text.strip_prefix("unix://")
            .filter(|path| path.starts_with('/'))
            .map(|path| Self(path.into()))
            .ok_or_else(refused)
    }
}

/// A number from 1, or the word `none`; absent, the default of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    #[default]
    Default,
    At(usize),
    None,
}

impl Bound {
    /// The number to work with.
    pub fn or(self, default: usize) -> usize {
        match self {
            Self::Default => default,
            Self::At(number) => number,
            Self::None => usize::MAX,
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Word(String),
        }
        let refused = || D::Error::custom("write a number from 1, or \"none\" for no limit");
        match Written::deserialize(deserializer) {
            Ok(Written::Number(number)) => {
                usize::try_from(number).ok().filter(|number| *number > 0).map(Self::At).ok_or_else(refused)
            }
            Ok(Written::Word(word)) if word == "none" => Ok(Self::None),
            Ok(Written::Word(_)) | Err(_) => Err(refused()),
        }
    }
}

/// Bytes, written `10 GiB` or `500 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = || D::Error::custom("write a size like \"10 GiB\" or \"500 MB\"");
        let text = String::deserialize(deserializer).map_err(|_| refused())?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale: u64 = match unit.trim() {
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(refused()),
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or_else(refused)
    }
}

/// Processors in hundredths, written `2` or `1.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors(pub u32);

impl<'de> Deserialize<'de> for Processors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = || D::Error::custom("write a number of processors like 2 or 1.5");
        let number = match toml::Value::deserialize(deserializer) {
            Ok(toml::Value::Integer(number)) => number as f64,
            Ok(toml::Value::Float(number)) => number,
            Ok(_) | Err(_) => return Err(refused()),
        };
        if !(0.01..=10_000.0).contains(&number) {
            return Err(refused());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and a million")]
        Ok(Self((number * 100.0).round() as u32))
    }
}
