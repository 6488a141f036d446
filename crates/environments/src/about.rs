//! What is kept with a layer, and what names it.

use std::fmt::Write as _;

use domain::{
    Fault,
    check::BlobId,
    environment::{Definition, EnvironmentId, Health},
    ids::CommitId,
    ports::{sandbox::Confinement, workspace::EnvironmentLayer},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::definition::Base;

/// Raised when the same definition would be installed differently.
const FORMAT: &str = "1";
/// Bytes of one lock file that count.
const LONGEST: usize = 64 << 20;

/// The base and all that its definition says of installing, as one digest: what a layer is built for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Key(String);

impl Key {
    pub fn of(base: &CommitId, definition: &Definition, confinement: Confinement) -> Result<Self, Fault> {
        let mut digest = installing(definition)?;
        part(&mut digest, format!("{confinement:?}").as_bytes());
        part(&mut digest, base.as_str().as_bytes());
        Ok(Self(hexadecimal(digest)))
    }

    /// The layer of this key's first, second, … build.
    pub fn id(&self, generation: u32) -> Result<EnvironmentId, Fault> {
        let mut digest = Sha256::new();
        part(&mut digest, self.0.as_bytes());
        part(&mut digest, &generation.to_le_bytes());
        EnvironmentId::parse(&hexadecimal(digest)).ok_or_else(|| Fault::bug("a digest is no id"))
    }
}

/// What a definition says of installing and what its lock files hold, as one digest: bases that share it have the same
/// dependencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Dependencies(String);

impl Dependencies {
    pub async fn of(base: &Base<'_>, definition: &Definition) -> Result<Self, Fault> {
        let mut digest = installing(definition)?;
        for path in &definition.locks {
            if let Some(content) = base.bytes(path, LONGEST).await? {
                part(&mut digest, path.as_bytes());
                part(&mut digest, &content);
            }
        }
        Ok(Self(hexadecimal(digest)))
    }
}

fn installing(definition: &Definition) -> Result<Sha256, Fault> {
    let Definition { install, variables, secrets, stage, .. } = definition;
    let parts = serde_json::to_vec(&(FORMAT, install, variables, secrets, stage))
        .map_err(|error| Fault::bug(format!("a definition cannot be written down: {error}")))?;
    let mut digest = Sha256::new();
    part(&mut digest, &parts);
    Ok(digest)
}

/// With its length, so that no two lists of parts read alike.
fn part(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Kept with a layer as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub key: Key,
    /// Which build of this key.
    pub generation: u32,
    pub dependencies: Dependencies,
    pub confinement: Confinement,
    /// As told to a person.
    pub source: String,
    /// When it was built; a later look may have found something else.
    pub health: Health,
    pub seconds: u64,
    pub log: Option<BlobId>,
}

/// A layer that this room can read.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub layer: EnvironmentLayer,
    pub about: About,
}

impl Known {
    /// `None` for a layer of another version of this program: it is as if it were not there.
    pub fn read(layer: EnvironmentLayer) -> Option<Self> {
        let about = serde_json::from_str(&layer.about).ok()?;
        Some(Self { layer, about })
    }

    /// `layer 0123456789 of base 0123456789`
    pub fn name(&self) -> String {
        let base: &CommitId = &self.layer.base;
        format!("layer {} of base {}", self.layer.id.short(), base.short())
    }
}
