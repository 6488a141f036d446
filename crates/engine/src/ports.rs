//! What the engine is wired with.

use std::sync::Arc;

use domain::ports::{
    Clock,
    agent::Agents,
    checks::Checks,
    egress::Egress,
    environments::Environments,
    ledger::Ledger,
    model::Gateways,
    record::Records,
    sandbox::Sandboxes,
    store::{Blobs, Secrets, Store, Transcripts},
    workspace::Workspaces,
};

/// One implementation of every port.
#[derive(Clone)]
pub struct Ports {
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub blobs: Arc<dyn Blobs>,
    pub secrets: Arc<dyn Secrets>,
    pub transcripts: Arc<dyn Transcripts>,
    pub ledger: Arc<dyn Ledger>,
    pub records: Arc<dyn Records>,
    pub workspaces: Arc<dyn Workspaces>,
    pub sandboxes: Arc<dyn Sandboxes>,
    pub agents: Arc<dyn Agents>,
    pub gateways: Arc<dyn Gateways>,
    pub checks: Arc<dyn Checks>,
    pub environments: Arc<dyn Environments>,
    pub egress: Arc<dyn Egress>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}
