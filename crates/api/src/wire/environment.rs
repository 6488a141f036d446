//! Environments and secrets of a repository, which is named by any directory in it.

use std::{collections::BTreeMap, path::PathBuf};

use domain::{
    check::{BlobId, CheckSpec},
    environment::{EnvironmentId, EnvironmentUse, Health, Readiness, Resources, SecretPurpose, Source, Stage},
    ids::CommitId,
    ports::{egress::Refusal, environments::Start},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Kept;

/// Query of `GET /environment`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentQuery {
    /// Absolute; anywhere in a work tree, or a bare repository.
    pub directory: PathBuf,
    /// The revision whose definition is wanted; absent: `HEAD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// `POST /environment/build` → events `line` ([`Line`]) and at last `built` ([`Built`]) or `problem` ([`super::Problem`]).
/// A build goes on without its listener; who asks again joins it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildEnvironment {
    pub directory: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    #[serde(default)]
    pub start: From,
}

/// What a build starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// The newest layer of the repository, where there is one.
    #[default]
    Newest,
    /// Nothing but the cache directories that the definition names.
    Nothing,
}

impl std::convert::From<From> for Start {
    fn from(from: From) -> Self {
        match from {
            From::Newest => Self::Newest,
            From::Nothing => Self::Nothing,
        }
    }
}

/// `POST /environment/check` → events `line` ([`Line`]) and at last `checked` ([`EnvironmentUse`]) or `problem`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckEnvironment {
    pub directory: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// How a build or a check goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub text: String,
}

/// A layer that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    pub used: EnvironmentUse,
    pub seconds: u64,
    /// All that was printed.
    pub log: Option<BlobId>,
    /// Tracked files that installing changed; they stay as the base has them.
    pub left_out: Vec<String>,
    /// Hosts that installing wanted to reach and was not let.
    pub refused: Vec<Refusal>,
}

/// Answer of `GET /environment` and `GET /tasks/{id}/environment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub repository: String,
    pub base: CommitId,
    pub definition: Definition,
    /// What judges its health: the definition's checks, or those detected in the base.
    pub checks: Vec<CheckSpec>,
    /// Newest first.
    pub layers: Vec<Layer>,
}

/// What the base says: [`domain::environment::Definition`], told for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub source: Source,
    pub install: Vec<String>,
    /// What installing may reach: hosts, or names of presets.
    pub install_network: Vec<String>,
    pub services: Vec<Service>,
    pub variables: BTreeMap<String, String>,
    pub secrets: Vec<SecretUse>,
    /// What turns may reach.
    pub network: Vec<String>,
    /// What checks may reach.
    pub checks_network: Vec<String>,
    pub resources: Resources,
    pub caches: Vec<String>,
    pub locks: Vec<String>,
    pub stage: Stage,
    /// What a person should know, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub command: String,
    pub ready: Option<Readiness>,
    pub ready_within_s: u64,
    pub port: Option<u16>,
}

/// A secret that the definition names, and whether a value is kept for its stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    pub name: String,
    pub to: SecretPurpose,
    pub value: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub id: EnvironmentId,
    /// What it was built on; one of an older base may serve too.
    pub base: CommitId,
    pub health: Health,
    pub frozen_at: Timestamp,
    /// On disk, of this layer alone.
    pub bytes: u64,
    /// Live workspaces and checkouts over it.
    pub users: u32,
    /// What it was built from.
    pub source: String,
    /// How long the build took.
    pub seconds: u64,
    /// What the build printed.
    pub log: Option<BlobId>,
}

/// Query of the routes below `/secrets`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsQuery {
    pub directory: PathBuf,
    #[serde(default)]
    pub stage: Stage,
}

/// `PUT /secrets/{name}` → [`Secret`]
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    pub value: String,
}

impl std::fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSecret").finish_non_exhaustive()
    }
}

/// Answer of `PUT` and `DELETE /secrets/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub name: String,
    pub repository: String,
    pub stage: Stage,
    pub value: Kept,
    /// What a person should know, one sentence each.
    pub notes: Vec<String>,
}

/// Answer of `GET /secrets`: names, never values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    pub repository: String,
    pub stage: Stage,
    pub names: Vec<String>,
}
