//! The room's service: makes gates.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    Fault,
    ports::egress::{Egress, Gate, Pass},
};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;

use crate::{
    authority::Authority,
    entry::{self, Hosts},
    gate::{Door, Ends, Guard},
    policy::Policy,
    presets::PRESETS,
    reach::{Reach, Resolver, System},
    roots::{self, Roots, Trust},
    variables,
};

/// How the proxy is set up.
#[derive(Clone)]
pub struct Options {
    /// For certificate files: the proxy's alone, emptied by [`Proxy::new`].
    pub directory: PathBuf,
    /// Names (`host`, `*.host`) that may lead to private addresses, this machine's own among them. Link-local ones and metadata
    /// services are never reached.
    pub private: Vec<String>,
    pub resolver: Arc<dyn Resolver>,
    /// For hosts whose TLS is ended here.
    pub roots: Roots,
    /// Files (PEM) of authorities that are believed besides, here and in every sandbox.
    pub authorities: Vec<PathBuf>,
    pub limits: Limits,
}

impl Options {
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            private: Vec::new(),
            resolver: Arc::new(System),
            roots: Roots::default(),
            authorities: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("directory", &self.directory)
            .field("private", &self.private)
            .field("authorities", &self.authorities)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one gate; more wait to be taken.
    pub per_gate: usize,
    /// Connections of all gates; more are closed. Each holds two descriptors.
    pub in_all: usize,
    /// For a look-up, for each address of a host, for TLS with it.
    pub patience: Duration,
    /// For the head of a request, and the first message of a client's TLS.
    pub head: Duration,
    /// After it a connection is closed on which nothing moves.
    pub quiet: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_gate: 256,
            in_all: 1024,
            patience: Duration::from_secs(10),
            head: Duration::from_secs(60),
            quiet: Duration::from_secs(15 * 60),
        }
    }
}

/// Makes gates. Each is served, and ends, on its own.
pub struct Proxy {
    directory: PathBuf,
    reach: Arc<Reach>,
    roots: Roots,
    authorities: Vec<CertificateDer<'static>>,
    /// Read when the first gate needs it.
    trust: OnceLock<Trust>,
    limits: Limits,
    places: Arc<Semaphore>,
    /// Names certificate files.
    gates: AtomicU64,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("directory", &self.directory).field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Proxy {
    /// `Input` where a name in `options.private`, or a file of `options.authorities`, cannot be read; `Environment` where the directory cannot be made or emptied.
    pub fn new(options: Options) -> Result<Self, Fault> {
        let Options { directory, private, resolver, roots, authorities, limits } = options;
        let private = private.iter().map(|text| {
            Hosts::parse(text.trim()).map_err(|why| {
                Fault::input(format!("the list of names that may lead to private addresses cannot be read: {why}"))
                    .hint("write a host (`registry.corp.example`) or all below one (`*.corp.example`)")
            })
        });
        let private = private.collect::<Result<Vec<_>, _>>()?;
        empty(&directory).map_err(|error| {
            Fault::environment(format!(
                "the directory for certificates, {}, cannot be set up: {error}",
                directory.display()
            ))
            .hint("make it a directory of the daemon's own user")
        })?;
        Ok(Self {
            directory,
            reach: Arc::new(Reach { resolver, private, patience: limits.patience }),
            roots,
            authorities: roots::read(&authorities)?,
            trust: OnceLock::new(),
            limits,
            places: Arc::new(Semaphore::new(limits.in_all)),
            gates: AtomicU64::new(0),
        })
    }

    fn trust(&self) -> Result<&Trust, Fault> {
        if let Some(trust) = self.trust.get() {
            return Ok(trust);
        }
        let trust = Trust::load(&self.roots, &self.authorities)?;
        Ok(self.trust.get_or_init(|| trust))
    }

    /// What ends TLS.
    fn ends(&self) -> Result<Ends, Fault> {
        Ok(Ends { authority: Authority::new()?, client: Arc::clone(&self.trust()?.client) })
    }

    /// The file that has a sandbox's programs believe all of these.
    fn shown(&self, authority: Option<&CertificateDer<'_>>) -> Result<PathBuf, Fault> {
        let bundle = self.directory.join(format!("{}.pem", self.gates.fetch_add(1, Ordering::Relaxed)));
        write(&bundle, &self.trust()?.bundle(authority)).map_err(|error| {
            Fault::environment(format!("a gate's certificates cannot be written to {}: {error}", bundle.display()))
        })?;
        Ok(bundle)
    }
}

impl Egress for Proxy {
    fn examine(&self, entry: &str) -> Result<(), Fault> {
        entry::read(entry).map(drop)
    }

    fn presets(&self) -> Vec<(String, Vec<String>)> {
        let own = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect();
        PRESETS.iter().map(|(name, entries)| ((*name).to_owned(), own(entries))).collect()
    }

    fn open(&self, pass: Pass) -> Result<Gate, Fault> {
        let policy = Policy::new(&pass)?;
        let ends = if policy.ends_tls() { Some(self.ends()?) } else { None };
        let bundle = match &ends {
            Some(ends) => Some(self.shown(Some(ends.authority.certificate()))?),
            None if !self.authorities.is_empty() => Some(self.shown(None)?),
            // The sandbox sees the machine's own.
            None => None,
        };
        let env = variables::of(bundle.as_deref());
        let readable = bundle.iter().cloned().collect();
        let guard = Guard {
            policy: Arc::new(policy),
            ends,
            reach: Arc::clone(&self.reach),
            limits: self.limits,
            places: Arc::clone(&self.places),
            refused: pass.refused,
        };
        Ok(Gate { door: Arc::new(Door::new(guard, bundle)), env, readable })
    }
}

/// Makes the directory, for its owner alone, and removes what earlier gates left in it.
fn empty(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Certificates are no secret, and a sandbox's user may be another: everyone may read the file that is shown to it.
fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(content.as_bytes())
}
