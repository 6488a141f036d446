//! Port of `egress`: the one way from a sandbox to a host of the network.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::sandbox::Door;
use crate::Fault;

/// Where the proxy is found on a sandbox's loopback.
pub const PROXY_PORT: u16 = 19_128;
/// Where an agent's own client finds its model.
pub const MODEL_PORT: u16 = 19_129;

pub trait Egress: Send + Sync {
    /// Whether an entry of an allow-list can be read; `Input` with the forms there are. Entries: `host`, `*.host` (not `host`
    /// itself), either with `:port` (else 80 and 443), any of these with ` fetch` (GET, HEAD, and reading by git), or a preset.
    fn examine(&self, entry: &str) -> Result<(), Fault>;

    /// Presets by name, each with the entries it stands for.
    fn presets(&self) -> Vec<(String, Vec<String>)>;

    /// Makes a gate. Nothing is served until its door is.
    fn open(&self, pass: Pass) -> Result<Gate, Fault>;
}

/// What may go through one gate.
#[derive(Clone)]
pub struct Pass {
    /// Entries as [`Egress::examine`] takes them.
    pub allow: Vec<String>,
    pub stamps: Vec<Stamp>,
    /// Called for every refusal, possibly often: the receiver tells equal ones apart.
    pub refused: Arc<dyn Fn(Refusal) + Send + Sync>,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("allow", &self.allow).field("stamps", &self.stamps).finish_non_exhaustive()
    }
}

/// A header put on requests to one host, outside the sandbox. The host is thereby allowed over TLS. `Debug` hides the value.
#[derive(Clone)]
pub struct Stamp {
    pub host: String,
    pub header: String,
    pub value: String,
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamp").field("host", &self.host).field("header", &self.header).finish_non_exhaustive()
    }
}

/// A gate: what a sandbox needs to find and trust the proxy. Dropping it ends every connection through it.
pub struct Gate {
    /// To be served on [`PROXY_PORT`].
    pub door: Arc<dyn Door>,
    /// Proxy and certificate variables for every command.
    pub env: Vec<(String, String)>,
    /// Host files that the sandbox must show (certificates).
    pub readable: Vec<PathBuf>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("env", &self.env).field("readable", &self.readable).finish_non_exhaustive()
    }
}

/// Something that was not let through, or could not be: a host that cannot be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// As it was asked for; at most 255 bytes.
    pub host: String,
    pub port: u16,
    /// One clause: `not on the allow-list`, `resolves to a link-local address`, `cannot be resolved: …`, `POST is not allowed`.
    pub why: String,
    /// The entry that would allow it; `None` where no entry can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The command line that ran at the time, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
