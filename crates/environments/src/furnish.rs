//! Sandboxes as a definition says: network, variables, bounds, and what is taken out of their output.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use domain::{
    Fault,
    environment::{Definition, Resources},
    ports::{
        BoxFuture,
        egress::{Gate, PROXY_PORT, Pass, Refusal},
        sandbox::{
            Bridge, Confinement, Conversation, Exec, Files, Limits, Network, Process, Sandbox, SandboxSpec, Terminal,
            Tree, WORKSPACE_DIR, WindowSize,
        },
        workspace::{Prepared, Repository},
    },
    redact::Redactor,
};

use crate::{Site, line, secrets::Used};

/// Characters of a command line that is told with a refusal.
const COMMAND: usize = 100;

/// Java takes its user's home from the machine's list of users, where a sandbox's is not.
const JAVA: [(&str, &str); 2] =
    [("MAVEN_OPTS", "-Duser.home=/home/agent"), ("GRADLE_USER_HOME", "/home/agent/.gradle")];

/// What a sandbox is for: it decides what is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Install,
    Turn,
    Check,
    Nothing,
}

pub(crate) type Refused = Arc<dyn Fn(Refusal) + Send + Sync>;

/// A sandbox to open.
pub(crate) struct Request<'a> {
    pub repository: &'a Repository,
    pub definition: &'a Definition,
    pub place: &'a Prepared,
    pub reach: Reach,
    pub confinement: Confinement,
    /// Shown at their real paths.
    pub programs: Vec<PathBuf>,
    /// Besides what the definition allows.
    pub allow: Vec<String>,
    /// Added last.
    pub env: Vec<(String, String)>,
    /// Besides the proxy's.
    pub bridges: Vec<Bridge>,
    pub refused: Refused,
    pub output_bytes: u64,
}

impl Site {
    /// Opens it; starts no process. `used`: the secrets of the definition.
    pub(crate) async fn furnish(&self, request: Request<'_>, used: &Used) -> Result<Arc<Furnished>, Fault> {
        let Request { definition, place, .. } = request;
        let newest: Arc<OnceLock<Weak<dyn Sandbox>>> = Arc::default();
        let gate = match request.confinement {
            Confinement::Confined => Some(self.rooms().egress.open(pass(&request, used, Arc::clone(&newest)))?),
            Confinement::Unconfined => None,
        };
        let mut env = Variables::default();
        if gate.is_some() {
            env.add(JAVA.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        env.add(defined(definition, request.confinement, &place.root));
        let mut readable = place.readable.clone();
        let network = match &gate {
            None => Network::Host,
            Some(gate) => {
                env.add(gate.env.iter().cloned());
                readable.extend(gate.readable.iter().cloned());
                let proxy = Bridge { port: PROXY_PORT, door: Arc::clone(&gate.door) };
                Network::Own([proxy].into_iter().chain(request.bridges).collect())
            }
        };
        env.add(request.env);
        // By their real paths, at which a sandbox shows what it shows.
        for programs in &request.programs {
            readable.push(real(programs)?);
        }
        let spec = SandboxSpec {
            root: place.root.clone(),
            home: place.home.clone(),
            scratch: place.scratch.clone(),
            readable,
            hidden: self.options.hidden.clone(),
            env: env.0,
            network,
            redactor: self.redactor(request.repository).await?,
            limits: limits(self.options.limits, definition.resources, request.output_bytes),
            lock: place.lock.clone(),
            spill: place.spill.clone(),
            confinement: request.confinement,
        };
        let sandbox = self.rooms().sandboxes.open(spec).await?;
        // Set once, here.
        let _ = newest.set(Arc::downgrade(&sandbox));
        Ok(Arc::new(Furnished { services: Mutex::default(), sandbox, _gate: gate }))
    }
}

fn real(programs: &Path) -> Result<PathBuf, Fault> {
    std::fs::canonicalize(programs)
        .map_err(|error| Fault::environment(format!("cannot find the programs in {}: {error}", programs.display())))
}

fn pass(request: &Request<'_>, used: &Used, sandbox: Arc<OnceLock<Weak<dyn Sandbox>>>) -> Pass {
    let definition = request.definition;
    let allow: &[String] = match request.reach {
        Reach::Install => &definition.install_network,
        Reach::Turn => &definition.network,
        Reach::Check => &definition.checks_network,
        Reach::Nothing => &[],
    };
    // These reach nothing that their own list does not name: what comes of them is to depend on the commit alone.
    let listed_only = matches!(request.reach, Reach::Check | Reach::Nothing);
    let stamped = |host: &str| !listed_only || allow.iter().any(|entry| entry == host);
    let refused = Arc::clone(&request.refused);
    let spoken = spoken(used);
    Pass {
        allow: allow.iter().chain(&request.allow).cloned().collect(),
        stamps: used.stamps.iter().filter(|stamp| stamped(&stamp.host)).cloned().collect(),
        refused: Arc::new(move |mut refusal: Refusal| {
            if refusal.by.is_none() {
                let sandbox = sandbox.get().and_then(Weak::upgrade);
                refusal.by = sandbox.and_then(|sandbox| sandbox.running().pop()).map(|line| shown(&line));
            }
            for text in [&mut refusal.host, &mut refusal.why].into_iter().chain(&mut refusal.entry) {
                if let Some(redacted) = spoken.redact_text(text) {
                    *text = redacted;
                }
            }
            refused(refusal);
        }),
    }
}

/// Takes secrets of an installation out of what it asks the proxy for, which has names of hosts in small letters.
fn spoken(used: &Used) -> Redactor {
    let small = used.install.iter().map(|(name, value)| (name.clone(), value.to_ascii_lowercase()));
    let all: Vec<_> = used.install.iter().cloned().chain(small).collect();
    Redactor::new(all.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// A command line as a person wrote it.
fn shown(line: &str) -> String {
    line::first(line.strip_prefix("sh -c ").unwrap_or(line)).chars().take(COMMAND).collect()
}

/// The definition's variables; plain processes find the workspace where it is on the host.
fn defined(definition: &Definition, confinement: Confinement, root: &Tree) -> Vec<(String, String)> {
    let place = match (confinement, root) {
        (Confinement::Unconfined, Tree::Directory(directory)) => directory.to_string_lossy(),
        (Confinement::Unconfined, Tree::Layers(_)) | (Confinement::Confined, _) => WORKSPACE_DIR.into(),
    };
    let variables = definition.variables.iter();
    variables.map(|(name, value)| (name.clone(), value.replace(WORKSPACE_DIR, &place))).collect()
}

#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    /// The later one of a name wins, but for lists of options: the later ones come last.
    fn add(&mut self, more: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in more {
            match self.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) if name.ends_with("_OPTS") => *known = format!("{known} {value}"),
                Some((_, known)) => *known = value,
                None => self.0.push((name, value)),
            }
        }
    }
}

fn limits(limits: Limits, resources: Resources, output_bytes: u64) -> Limits {
    Limits {
        memory_bytes: resources.memory_bytes.or(limits.memory_bytes),
        processes: resources.processes.or(limits.processes),
        processor_percent: resources.processor_percent.or(limits.processor_percent),
        disk_bytes: resources.disk_bytes.or(limits.disk_bytes),
        output_bytes,
        ..limits
    }
}

/// A sandbox with its services and its gate, which end with it.
pub(crate) struct Furnished {
    services: Mutex<Vec<Box<dyn Process>>>,
    sandbox: Arc<dyn Sandbox>,
    /// After what may use it.
    _gate: Option<Gate>,
}

impl Furnished {
    pub fn sandbox(&self) -> &Arc<dyn Sandbox> {
        &self.sandbox
    }

    /// Lets these run as long as the sandbox.
    pub fn keep(&self, services: Vec<Box<dyn Process>>) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).extend(services);
    }
}

impl Sandbox for Furnished {
    fn spawn(&self, exec: Exec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        self.sandbox.spawn(exec)
    }

    fn converse(&self, exec: Exec) -> BoxFuture<'_, Result<Conversation, Fault>> {
        self.sandbox.converse(exec)
    }

    fn terminal(&self, exec: Exec, size: WindowSize) -> BoxFuture<'_, Result<Box<dyn Terminal>, Fault>> {
        self.sandbox.terminal(exec, size)
    }

    fn files(&self) -> BoxFuture<'_, Result<Arc<dyn Files>, Fault>> {
        self.sandbox.files()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<std::net::TcpStream, Fault>> {
        self.sandbox.connect(port)
    }

    fn running(&self) -> Vec<String> {
        self.sandbox.running()
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.sandbox.kill().await;
            // Ended by now; their handles hold nothing that anyone will ask for.
            self.services.lock().unwrap_or_else(PoisonError::into_inner).clear();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn only_plain_processes_find_the_workspace_elsewhere() {
        let variables = owned([("PATH", "/workspace/.venv/bin:/workspace/bin")]).into_iter().collect();
        let definition = Definition { variables, ..Definition::default() };
        let root = Tree::Directory("/state/tree".into());
        let path = |confinement| defined(&definition, confinement, &root)[0].1.clone();
        assert_eq!(path(Confinement::Confined), "/workspace/.venv/bin:/workspace/bin");
        assert_eq!(path(Confinement::Unconfined), "/state/tree/.venv/bin:/state/tree/bin");
    }

    #[test]
    fn the_later_of_a_name_wins_but_options_add_up() {
        let mut env = Variables::default();
        env.add(owned([("MODE", "a"), ("MAVEN_OPTS", "-Da")]));
        env.add(owned([("MODE", "b"), ("MAVEN_OPTS", "-Db")]));
        assert_eq!(env.0, owned([("MODE", "b"), ("MAVEN_OPTS", "-Da -Db")]));
    }
}
