//! Port of `egress`: the one way from a sandbox to a host of the network.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

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
    /// Called for every refusal, possibly often: [`Refusals`] tells equal ones apart.
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

/// Refusals as they come, each host and port once, and no more than are of use. Clones share what they hold.
#[derive(Clone, Debug)]
pub struct Refusals {
    most: usize,
    kept: Arc<Mutex<Vec<Refusal>>>,
}

impl Refusals {
    pub fn at_most(most: usize) -> Self {
        Self { most, kept: Arc::default() }
    }

    /// Whether it is the first of its place, and was kept.
    pub fn note(&self, refusal: &Refusal) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new =
            kept.len() < self.most && !kept.iter().any(|one| one.host == refusal.host && one.port == refusal.port);
        if is_new {
            kept.push(refusal.clone());
        }
        is_new
    }

    /// For [`Pass::refused`].
    pub fn receiver(&self) -> Arc<dyn Fn(Refusal) + Send + Sync> {
        let refusals = self.clone();
        Arc::new(move |refusal| {
            refusals.note(&refusal);
        })
    }

    /// In the order they came.
    pub fn all(&self) -> Vec<Refusal> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_kept_once_and_no_more_than_was_said() {
        let refusal = |host: &str, port| {
            let why = "not on the allow-list".to_owned();
            Refusal { host: host.to_owned(), port, why, entry: None, by: None }
        };
        let refusals = Refusals::at_most(3);
        let receiver = refusals.receiver();
        let asked = [("a", 443), ("a", 443), ("a", 80), ("b", 443), ("c", 443), ("a", 80)];
        asked.into_iter().for_each(|(host, port)| receiver(refusal(host, port)));
        assert_eq!(refusals.all(), [refusal("a", 443), refusal("a", 80), refusal("b", 443)]);
        assert!(!refusals.note(&refusal("d", 443)));
    }
}
